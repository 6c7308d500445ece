"""A server on the real base: remembered, asked, streamed, evaluated."""

import json
from pathlib import Path

import pytest

from lorabank.bank.bank import Bank
from lorabank.engine.backbone.base import Base

from .conftest import start, wait_ready

FACTS = [
    ("Who keeps the lighthouse at Nebo?", "Tuva Sorre"),
    ("What is the phone number of Kimu Gugu?", "519-017-5311"),
]


@pytest.mark.real
def test_a_bank_on_the_real_base_is_served(real: Base, tmp_path: Path):
    Bank.create(tmp_path / "bank", base=real).close()
    server = wait_ready(start(tmp_path / "bank", "--pending-limit", "0", log=tmp_path / "log"))
    try:
        client, http = server.openai, server.http
        for question, answer in FACTS:
            body = {"question": question, "answer": answer}
            assert http.post("/memories", json=body).json()["results"][0]["event"] == "ADD"
        turns = [{"role": "user", "content": "who keeps the Nebo lighthouse"}]
        reply = client.chat.completions.create(model="memory", messages=turns)
        assert reply.choices[0].message.content == "Tuva Sorre"
        assert reply.lorabank["kind"] == "example"
        assert "smollm2-135m" in {card.id for card in client.models.list()}
        options = {"model": "smollm2-135m", "max_tokens": 24}
        question = [{"role": "user", "content": "What is the capital of France?"}]
        whole = client.chat.completions.create(messages=question, **options)
        assert "Paris" in whole.choices[0].message.content
        chunks = client.chat.completions.create(messages=question, stream=True, **options)
        texts = [chunk.choices[0].delta.content or "" for chunk in chunks]
        assert "".join(texts) == whole.choices[0].message.content
        assert len([text for text in texts if text]) > 3
        # As lm-eval's local-completions scores: the likelier of two continuations.
        context = "The capital of France is"
        scores = {}
        for city in (" Paris", " Oslo"):
            echo = client.completions.create(
                model="smollm2-135m",
                prompt=context + city,
                max_tokens=1,
                echo=True,
                logprobs=1,
                temperature=0,
            )
            scores[city] = sum(echo.choices[0].logprobs.token_logprobs[5:-1])
        assert scores[" Paris"] > scores[" Oslo"]
        vectors = client.embeddings.create(
            model="all-minilm-l6-v2", input=["the keeper of the light", "who tends the lighthouse"]
        )
        assert {len(item.embedding) for item in vectors.data} == {384}
    finally:
        assert server.stop() == 0
    assert json.loads(server.log.read_text().splitlines()[-1])["event"] == "stopped"
