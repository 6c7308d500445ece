"""The routing bench on a few invented passages: its counts, and the data it needs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lorabank.bench import routing
from lorabank.bench.routing import data_folder, hit_rate
from lorabank.engine.backbone.base import Base
from lorabank.engine.inference.embedder import Embedder, load_embedder
from lorabank.engine.inference.reranker import Reranker, question_log_likelihoods
from lorabank.errors import DataError, UsageError
from lorabank.retrieval.index import SearchHit
from lorabank.tasks.examples import Message

PASSAGES = {
    "Tesla": "Nikola Tesla was an inventor. He patented an induction motor in 1888.",
    "Luther": "Martin Luther was a monk. He nailed his theses to a church door in 1517.",
    "Steam": "A steam engine boils water. The steam drives a piston back and forth.",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write the two data sets in their published form, very small; return their folder."""
    topics = {"Tesla": "induction motor", "Luther": "church door", "Steam": "piston"}
    lines = [
        {
            "id": i,
            "title": title,
            "context": text,
            "questions": [{"question": f"What of the {topics[title]}?", "answer": topics[title]}],
        }
        for i, (title, text) in enumerate(PASSAGES.items())
    ]
    (tmp_path / "squad").mkdir()
    (tmp_path / "squad" / "passages.jsonl").write_text("".join(f"{json.dumps(x)}\n" for x in lines))
    folder = tmp_path / "paperqa"
    folder.mkdir()
    papers = []
    for i, (title, text) in enumerate(PASSAGES.items()):
        questions = [
            {"question": f"Question {n} on {topics[title]}?", "answer": "yes", "level": n // 10 + 1}
            for n in range(30)
        ]
        papers.append({"id": i, "title": title, "introduction": text, "QA": questions})
        pairs = [{"question": f"Taught {n} on {title}?", "answer": "yes"} for n in range(40)]
        body = "".join(f"{json.dumps(pair)}\n" for pair in pairs)
        (folder / f"paper_{i}_QA40.jsonl").write_text(body)
    (folder / "paperQA.json").write_text(json.dumps(papers))
    return tmp_path


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return load_embedder()


@pytest.mark.real
def test_bench_counts_hits_of_every_stage(tiny: Base, data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LORABANK_DATA", str(data))
    result = routing.bench_routing(
        tiny, pairs=1, sizes=routing.RoutingSizes(reread=2, modules=4, timed=2)
    )
    assert result["squad_top1"] == result["squad_top5"] == result["paperqa_top1"] == 1.0
    assert (result["squad_modules"], result["squad_questions"]) == (3, 3)
    assert (result["paperqa_modules"], result["paperqa_questions"]) == (3, 90)
    assert result["squad_reranked_questions"] == 2
    assert result["squad_reranked_same_questions"]["hybrid"] == 1.0
    assert result["route_modules"] == 3  # passages of two sentences give one module each
    assert result["route_questions"] == 2
    assert 0 < result["route_p50_ms"] <= result["route_p95_ms"]


def test_hit_rate_counts_the_first_k():
    hits = [
        [SearchHit("a", 2.0), SearchHit("b", 1.0)],
        [SearchHit("c", 2.0), SearchHit("a", 1.0)],
        [],
    ]
    questions = [("a", "?"), ("a", "?"), ("a", "?")]
    assert hit_rate(hits, questions) == pytest.approx(1 / 3)
    assert hit_rate(hits, questions, k=2) == pytest.approx(2 / 3)


def test_missing_data_is_refused_with_the_variable_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.delenv("LORABANK_DATA", raising=False)
    with pytest.raises(UsageError, match="this bench needs real data: set LORABANK_DATA"):
        data_folder()
    monkeypatch.setenv("LORABANK_DATA", str(tmp_path))
    with pytest.raises(UsageError, match=r"has no squad/passages\.jsonl"):
        data_folder()


def test_the_likelihood_is_that_of_a_plain_forward_pass(tiny: Base):
    pairs = [
        ("The sky is blue.", "What is blue?"),
        ("The sky is blue.", "Is it?"),
        ("Rain falls.", "Does rain fall on me?"),
    ]
    for (passage, question), log_likelihood in zip(
        pairs, question_log_likelihoods(tiny, pairs), strict=True
    ):
        request = f"Write a question that is answered in this passage.\n\n{passage}"
        prompt = tiny.chat.prompt_ids([Message("user", request)])
        answer = tiny.chat.answer_ids(question)[:-1]
        logits = tiny.model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
        expected = sum(logits[len(prompt) - 1 + i, token] for i, token in enumerate(answer))
        assert log_likelihood == pytest.approx(float(expected), abs=1e-3)


def test_a_passage_longer_than_the_context_is_refused(tiny: Base):
    with pytest.raises(DataError, match="do not fit"):
        question_log_likelihoods(tiny, [("word " * tiny.max_tokens, "What?")])


@pytest.mark.real
def test_a_sentence_is_embedded_in_the_context_of_its_text(embedder: Embedder):
    text = PASSAGES["Tesla"]
    start = text.index("He")
    he, alone, whole = embedder.embed_parts(
        [(text, start, len(text)), (text[start:], 0, len(text) - start), (text, 0, len(text))]
    )
    tesla = embedder.embed(["What did Tesla invent?"])[0]
    assert he @ tesla > alone @ tesla + 0.05  # "he" means nobody without the text before it
    assert whole == pytest.approx(embedder.embed([text])[0], abs=1e-3)
    assert np.linalg.norm([he, alone, whole], axis=1) == pytest.approx(1.0, abs=1e-5)
    assert embedder.embed([]).shape == (0, 384)


@pytest.mark.real
def test_the_reranker_orders_candidates_by_tokens_and_likelihood(embedder: Embedder, tiny: Base):
    candidates = [SearchHit(name, 0.0, {}, text) for name, text in PASSAGES.items()]
    questions = ["Who nailed theses to a door?", "What does steam drive?"]
    by_tokens = Reranker(embedder).rerank(questions, [candidates, candidates])
    assert [ranking[0].name for ranking in by_tokens] == ["Luther", "Steam"]
    assert set(by_tokens[0][0].score_parts) == {"tokens"}
    by_both = Reranker(embedder, tiny).rerank(questions, [candidates, candidates])
    assert set(by_both[0][0].score_parts) == {"tokens", "asked"}
    assert all(hit.score_parts["asked"] < 0 for ranking in by_both for hit in ranking)
    assert Reranker(embedder).rerank([], []) == []
