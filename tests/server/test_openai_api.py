"""The OpenAI API of a running server, asked with OpenAI's own client."""

import json

import openai
import pytest

from lorabank.tasks.examples import Example

from .conftest import Running


def ask(
    server: Running, model: str, question: str, **options: object
) -> openai.types.chat.ChatCompletion:
    return server.openai.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], **options
    )


def test_models_are_the_bank_its_modes_modules_versions_and_the_base(server: Running):
    cards = {card.id: card for card in server.openai.models.list()}
    assert {"memory", "memory:auto", "memory:rag", "north", "north@1", "north@2", "south"} <= set(
        cards
    )
    assert "tiny" in cards
    assert not any("/" in name for name in cards)
    assert cards["north@1"].lorabank["is_current"] is False
    assert cards["north"].lorabank["recall"] == 1.0
    assert server.openai.models.retrieve("south@1").id == "south@1"


def test_the_bank_answers_and_says_who_and_how_sure(server: Running, book: list[Example]):
    reply = ask(server, "memory", book[0].question)
    assert reply.choices[0].message.content == book[0].answer
    assert reply.choices[0].finish_reason == "stop"
    assert reply.lorabank["module"] == "north"
    assert reply.lorabank["version"] == 2
    assert reply.lorabank["source"] == "north.csv"
    assert reply.lorabank["p"] > 0.5
    assert reply.usage.total_tokens > reply.usage.completion_tokens > 0


def test_abstaining_is_an_answer_with_a_reason(server: Running):
    reply = ask(server, "memory", "What is the phone number of Kimo Gaga?")
    assert reply.choices[0].finish_reason == "stop"
    assert reply.choices[0].message.content.startswith("Not in memory.")
    assert reply.lorabank["kind"] == "abstained"
    assert reply.lorabank["reason"]


def test_a_follow_up_is_understood_by_the_turns_before(server: Running, book: list[Example]):
    name = book[5].question.removeprefix("What is the phone number of ").removesuffix("?")
    turns = [
        {"role": "user", "content": book[0].question},
        {"role": "assistant", "content": book[0].answer},
        {"role": "user", "content": f"and {name}?"},
    ]
    reply = server.openai.chat.completions.create(model="memory", messages=turns)
    assert reply.lorabank["question"] == book[5].question
    assert reply.choices[0].message.content == book[5].answer


def test_explanations_name_every_candidate(server: Running, book: list[Example]):
    reply = ask(
        server, "memory:adapter", book[0].question, extra_body={"lorabank": {"explain": True}}
    )
    assert {c["module"] for c in reply.lorabank["candidates"]} == {"north", "south"}
    assert all(0 <= c["p"] <= 1 for c in reply.lorabank["candidates"])


def test_each_version_of_a_module_answers_as_it_was_taught(server: Running, book: list[Example]):
    question = book[0].question
    said = {
        name: ask(server, name, question).choices[0].message.content
        for name in ("north", "north@1", "north@2", "south")
    }
    assert said["north"] == said["north@2"] == book[0].answer
    assert said["north@1"] == "000-000-0000"
    assert said["south"] != book[0].answer


def test_streams_give_the_same_text_in_pieces(server: Running, book: list[Example]):
    for model in ("north", "memory"):
        chunks = list(
            ask(
                server,
                model,
                book[1].question,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert "".join(texts) == book[1].answer
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
        assert chunks[-1].usage.completion_tokens > 0
        if model == "north":
            assert len([text for text in texts if text]) > 2


def test_limits_stops_seeds_and_log_ps(server: Running, book: list[Example]):
    question = book[1].question
    whole = ask(server, "north", question, logprobs=True, top_logprobs=2)
    tokens = whole.choices[0].logprobs.content
    assert "".join(token.token for token in tokens).strip() == book[1].answer
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens)
    assert tokens[0].logprob == pytest.approx(tokens[0].top_logprobs[0].logprob)
    short = ask(server, "north", question, max_tokens=2)
    assert short.choices[0].finish_reason == "length"
    assert short.usage.completion_tokens == 2
    cut = ask(server, "north", question, stop=["-"])
    assert cut.choices[0].message.content == book[1].answer.partition("-")[0]
    assert cut.choices[0].finish_reason == "stop"
    drawn = [
        ask(server, "tiny", question, temperature=1.5, seed=seed, max_tokens=12)
        for seed in (1, 1, 2)
    ]
    texts = [reply.choices[0].message.content for reply in drawn]
    assert texts[0] == texts[1] != texts[2]


def test_completions_echo_with_the_log_p_of_every_token(server: Running, book: list[Example]):
    client = server.openai
    reply = client.completions.create(
        model="tiny", prompt="Nebo is a lighthouse", max_tokens=1, logprobs=1, echo=True
    )
    log_ps = reply.choices[0].logprobs
    assert reply.choices[0].text.startswith("Nebo is a lighthouse")
    assert log_ps.token_logprobs[0] is None
    assert len(log_ps.tokens) == len(log_ps.token_logprobs) == len(log_ps.top_logprobs)
    assert all(
        p <= max(best.values())
        for p, best in zip(log_ps.token_logprobs[1:], log_ps.top_logprobs[1:], strict=True)
    )
    ids = client.completions.create(
        model="tiny", prompt=[[5, 6, 7], [8, 9]], max_tokens=1, logprobs=1, echo=True
    )
    assert [len(choice.logprobs.tokens) for choice in ids.choices] == [4, 3]
    with pytest.raises(openai.BadRequestError, match="header"):
        client.completions.create(model="north", prompt="Nebo is")
    assert client.completions.create(model="memory", prompt=book[2].question).choices[0].text == (
        book[2].answer
    )
    streamed = client.completions.create(model="tiny", prompt="Nebo", max_tokens=4, stream=True)
    whole = client.completions.create(model="tiny", prompt="Nebo", max_tokens=4)
    assert "".join(chunk.choices[0].text for chunk in streamed) == whole.choices[0].text


def test_errors_have_openais_form(server: Running, book: list[Example]):
    client = server.openai
    with pytest.raises(openai.NotFoundError) as unknown:
        ask(server, "nort", book[0].question)
    assert unknown.value.code == "model_not_found"
    assert unknown.value.param == "model"
    assert "did you mean north" in unknown.value.message
    cases = {
        "too_many_tokens": {"max_tokens": 10**6},
        "invalid_type": {"temperature": 9},
    }
    for code, options in cases.items():
        with pytest.raises(openai.BadRequestError) as error:
            ask(server, "north", book[0].question, **options)
        assert error.value.code == code
    with pytest.raises(openai.BadRequestError) as long:
        ask(server, "north", "word " * 5000)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="does not fit"):
        ask(server, "memory:adapter", "word " * 5000)
    with pytest.raises(openai.BadRequestError, match="user's question"):
        client.chat.completions.create(
            model="memory", messages=[{"role": "assistant", "content": "Hello"}]
        )
    with pytest.raises(openai.BadRequestError, match="tools is not supported"):
        ask(server, "north", "Who?", tools=[{"type": "function", "function": {"name": "f"}}])
    http = server.http
    json_type = {"content-type": "application/json"}
    for headers in (json_type, {}):
        broken = http.post("/v1/chat/completions", content=b"{not json", headers=headers)
        assert (broken.status_code, broken.json()["error"]["code"]) == (400, "invalid_json")
    assert http.get("/v1/nothing").json()["error"]["code"] == "not_found"
    assert http.delete("/v1/models").json()["error"]["code"] == "method_not_allowed"
    for body in (b"", b"[]", b"null", b'{"model": 3}', b'{"model": "memory", "messages": []}'):
        reply = http.post("/v1/chat/completions", content=body, headers=json_type)
        assert reply.status_code == 400
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
        assert "Traceback" not in reply.text


def test_requests_have_numbers_and_the_log_holds_no_contents(server: Running, book: list[Example]):
    reply = server.http.post(
        "/v1/chat/completions",
        headers={"x-request-id": "mine-17", "content-type": "application/json"},
        content=json.dumps(
            {"model": "memory", "messages": [{"role": "user", "content": book[3].question}]}
        ),
    )
    assert reply.headers["x-request-id"] == "mine-17"
    entry = server.request_entry("mine-17")
    assert (entry["status"], entry["route"]) == ("200", "/v1/chat/completions")
    log = server.log.read_text()
    assert book[3].answer not in log
    assert book[3].question not in log
    metrics = server.http.get("/metrics").text
    assert 'lorabank_requests_total{method="POST",route="/v1/chat/completions",status="200"}' in (
        metrics
    )
    assert "lorabank_modules 2" in metrics
