"""The judge, over a real endpoint: what it said is counted, what it did not say is missing."""

import json
import re
from pathlib import Path
from statistics import fmean

import pytest

from lorabank.errors import DataError, UnavailableError, UsageError
from lorabank.synthesis.answer_judge import JudgedAnswer, judge_answers, read_judgement, request_for
from lorabank.synthesis.budget import Budget
from lorabank.synthesis.cache import ReplyCache
from lorabank.synthesis.endpoint import Endpoint, RetryPolicy
from lorabank.synthesis.generators import Finish, Reply
from lorabank.synthesis.judge_summary import read_answers, summarise
from tests.synthesis.chat_server import Body, Fault, serving

HASTY = RetryPolicy(timeout_s=5.0, retries=1, first_wait_s=0.01, most_wait_s=0.05)
ANSWERS = [
    JudgedAnswer(f"Who founded town {i}?", (f"Founder {i}",), text, document=f"town {i % 4}")
    for i, text in enumerate(
        ["Founder 0", "Founder 1 did", "nobody", "", "Founder 4", "somebody", "Founder 6", "no"]
    )
]


def strict(body: Body) -> str:
    """10 where the reference stands in the answer, else 1."""
    shown = body["messages"][-1]["content"]
    gold = re.search(r"^Reference answer: (.*)$", shown, re.MULTILINE)[1]  # type: ignore[index]
    said = re.search(r"^Answer: ?(.*)$", shown, re.MULTILINE)[1]  # type: ignore[index]
    return json.dumps({"rationale": "compared", "score": 10 if gold in said else 1})


def endpoint(url: str, model: str = "a") -> Endpoint:
    return Endpoint(model, base_url=url, key="k", retry_policy=HASTY)


def test_scores_in_the_order_of_the_answers(tmp_path: Path):
    with serving(write=strict) as server, ReplyCache(tmp_path / "c") as cache:
        judged = judge_answers(ANSWERS, endpoint(server.url), cache)
        assert [mark.score for mark in judged.judgements] == [10, 10, 1, 1, 10, 1, 10, 1]
        assert judged.calls == len(server.requests) == 8
        again = judge_answers(ANSWERS, endpoint(server.url), cache)
        assert (again.calls, again.cached_replies) == (0, 8)
        assert len(server.requests) == 8
    assert again.judgements == judged.judgements


def test_what_is_no_score_is_asked_again_and_then_missing_not_zero(tmp_path: Path):
    def moody(body: Body) -> str:
        shown = body["messages"][-1]["content"]
        if "town 2" in shown:
            return "I would rather not put a number on it."
        if "town 5" in shown:
            return json.dumps({"score": 11, "rationale": "very good"})
        if "town 0" in shown and body.get("seed", 0) == 0:
            return json.dumps({"score": "8/10"})
        return strict(body)

    with serving(write=moody) as server, ReplyCache(tmp_path / "c") as cache:
        judged = judge_answers(ANSWERS, endpoint(server.url), cache)
        asked = [body for body in server.requests if "town 2" in body["messages"][-1]["content"]]
    assert [(body["seed"], body["temperature"] > 0) for body in asked] == [
        (0, False),
        (1, True),
        (2, True),
    ]
    scores = [mark.score for mark in judged.judgements]
    assert scores == [10, 10, None, 1, 10, None, 10, 1]
    assert judged.missing == {
        "not in the form asked for": 1,
        "a score that is no whole number of 0 to 10": 1,
    }
    told = summarise(ANSWERS, judged)
    assert told["score"]["n"] == 6
    assert told["score"]["mean"] == pytest.approx(42 / 6)
    assert told["score"]["low"] <= 7 <= told["score"]["high"]


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"score": 8.0}', 8),
        ('```json\n{"rationale": "fine", "score": 7}\n```', 7),
        ('{"score": 7.5}', None),
        ('{"score": true}', None),
        ('{"score": -1}', None),
        ('{"score": NaN}', None),
        ('{"score": 1e999}', None),
        (f'{{"score": 1{"0" * 400}}}', None),
        ("[7]", None),
        ("", None),
    ],
)
def test_forms_of_a_json_score(text: str, score: int | None):
    request = request_for(ANSWERS[0], as_json=True, seed=0)
    assert read_judgement(Reply(request, text, Finish.STOP)).score == score


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Score: 7", 7),
        ("**Score:** 10.", 10),
        ("Score: 7\nScore: 3", None),
        ("about 7", None),
        (f"Score: {'9' * 400}", None),
    ],
)
def test_forms_of_a_plain_score(text: str, score: int | None):
    request = request_for(ANSWERS[0], as_json=False, seed=0)
    assert read_judgement(Reply(request, text, Finish.STOP)).score == score


def test_a_second_judge_and_token_f1_say_how_far_to_trust_the_first(tmp_path: Path):
    def lenient(body: Body) -> str:
        told = json.loads(strict(body))
        return json.dumps({"score": min(10, told["score"] + 3)})

    with serving(write=strict) as one, serving(write=lenient) as other:
        first = judge_answers(ANSWERS, endpoint(one.url), None)
        second = judge_answers(ANSWERS, endpoint(other.url, "b"), None)
    told = summarise(ANSWERS, first, second)
    assert told["agreement"]["second"]["spearman"] == pytest.approx(1.0)
    assert told["agreement"]["second"]["mean_difference"] == pytest.approx(1.5)  # 10 stays 10
    pairs = [(a.score, b.score) for a, b in zip(first.judgements, second.judgements, strict=True)]
    seen = fmean((a - b) ** 2 for a, b in pairs)
    at_random = fmean((a - b) ** 2 for a, _ in pairs for _, b in pairs)
    assert told["agreement"]["second"]["kappa"] == pytest.approx(1 - seen / at_random)
    assert told["agreement"]["token_f1"]["spearman"] > 0.8
    with serving(write=lambda _: '{"score": 5}') as flat:
        always = judge_answers(ANSWERS, endpoint(flat.url), None)
    assert summarise(ANSWERS, always)["agreement"]["token_f1"]["spearman"] is None


def test_intervals_are_of_documents():
    few = [JudgedAnswer(a.question, a.golds, a.text, document=f"town {i % 2}", gain=0.5)
           for i, a in enumerate(ANSWERS)]  # fmt: skip
    with serving(write=strict) as server:
        judged = judge_answers(few, endpoint(server.url), None)
    told = summarise(few, judged)
    assert told["documents"] == 2
    assert told["score"]["low"] is None
    assert told["metrics"]["gain"] == {"mean": 0.5, "low": None, "high": None, "n": 8}


def test_a_large_document_counts_by_its_answers():
    uneven = [JudgedAnswer(f"Who founded town {i}?", ("she",), "she" if i < 12 else "he",
                     document="large" if i < 12 else str(i)) for i in range(16)]  # fmt: skip
    with serving(write=strict) as server:
        told = summarise(uneven, judge_answers(uneven, endpoint(server.url), None))["score"]
    assert told["mean"] == pytest.approx(124 / 16)
    assert told["low"] <= told["mean"] <= told["high"]


def test_of_several_golds_each_is_right_by_itself():
    shown = request_for(JudgedAnswer("q", ("one", "two"), "two"), as_json=True, seed=0).messages[0]
    assert "each right and whole by itself:\n- one\n- two\nAnswer: two" in shown.content


def test_the_same_answer_is_asked_about_once():
    with serving(write=strict) as server:
        judged = judge_answers([ANSWERS[0]] * 5, endpoint(server.url), None)
        assert len(server.requests) == 1
    assert [mark.score for mark in judged.judgements] == [10] * 5


def test_nonsense_throughout_is_an_error_with_samples():
    with (
        serving(write=lambda _: "lovely weather") as server,
        pytest.raises(UsageError, match=r"no score .* in 24 replies: lovely weather"),
    ):
        judge_answers(ANSWERS, endpoint(server.url), None)


def test_a_budget_that_ends_leaves_the_rest_missing(tmp_path: Path):
    with serving(write=strict) as server, ReplyCache(tmp_path / "c") as cache:
        judged = judge_answers(ANSWERS, endpoint(server.url), cache, budget=Budget(calls=3))
        assert judged.missing == {"beyond the budget": 5}
        rest = judge_answers(ANSWERS, endpoint(server.url), cache)
        assert (rest.cached_replies, rest.calls, rest.missing) == (3, 5, {})


def test_a_dead_endpoint_keeps_what_was_judged(tmp_path: Path):
    with serving(write=strict) as server, ReplyCache(tmp_path / "c") as cache:
        judge_answers(ANSWERS[:4], endpoint(server.url), cache)
        url = server.url
    with ReplyCache(tmp_path / "c") as cache:
        with pytest.raises(UnavailableError):
            judge_answers(ANSWERS, endpoint(url), cache)
        assert len(cache) == 4


def test_a_refusal_is_missing():
    faults = [Fault(content="", refusal="I will not") for _ in range(3)]
    with serving(faults, write=strict) as server:
        judged = judge_answers(ANSWERS[:1] + ANSWERS[4:5], endpoint(server.url), None)
    assert all(mark.score == 10 for mark in judged.judgements)  # asked again by other seeds
    with (
        serving([Fault(refusal="no")] * 40, write=strict) as server,
        pytest.raises(UsageError, match="no score that could be read in 6 replies"),
    ):
        judge_answers(ANSWERS[:1] + ANSWERS[4:5], endpoint(server.url), None)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("", "no answers in it"),
        ('{"question": "q", "gold": "g"}', "line 1: answer must be a text"),
        ('{"question": "q", "answer": "a"}', "line 1: .*gold"),
        ('{"question": "q", "gold": [], "answer": "a"}', "line 1.*gold"),
        ('{"question": "q", "gold": "g", "answer": "a", "gain": "x"}', "gain must be a number"),
        ('{"question": "q", "gold": "g", "answer": "a", "gain": NaN}', "gain must be finite"),
    ],
)
def test_bad_rows(tmp_path: Path, row: str, message: str):
    path = tmp_path / "answers.jsonl"
    path.write_text(row)
    with pytest.raises(DataError, match=message):
        read_answers(path)


def test_rows_as_they_are_read(tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    rows = [
        {"question": "q", "gold": ["g", "h"], "answer": ""},
        {"question": "q", "gold": "g", "answer": "a", "document": "d", "gain": 1},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_answers(path) == [
        JudgedAnswer("q", ("g", "h"), ""),
        JudgedAnswer("q", ("g",), "a", "d", 1.0),
    ]
