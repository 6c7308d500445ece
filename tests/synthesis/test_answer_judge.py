"""The judge, over a real endpoint: readable scores are counted, others are reported missing."""

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

QUICK = RetryPolicy(timeout_s=30.0, retries=1, first_wait_s=0.01, most_wait_s=0.05)
ANSWERS = [
    JudgedAnswer(f"Who founded town {i}?", (f"Founder {i}",), text, document=f"town {i % 4}")
    for i, text in enumerate(
        ["Founder 0", "Founder 1 did", "nobody", "", "Founder 4", "somebody", "Founder 6", "no"]
    )
]


def score_by_match(body: Body) -> str:
    """Return a judgement of 10 where the reference occurs in the answer, else of 1."""
    prompt = body["messages"][-1]["content"]
    gold = re.search(r"^Reference answer: (.*)$", prompt, re.MULTILINE)[1]  # type: ignore[index]
    answer = re.search(r"^Answer: ?(.*)$", prompt, re.MULTILINE)[1]  # type: ignore[index]
    return json.dumps({"rationale": "compared", "score": 10 if gold in answer else 1})


def endpoint(url: str, model: str = "a") -> Endpoint:
    return Endpoint(model, base_url=url, key="k", retry_policy=QUICK)


def test_scores_are_in_the_order_of_the_answers(tmp_path: Path):
    with serving(write=score_by_match) as server, ReplyCache(tmp_path / "c") as cache:
        judged = judge_answers(ANSWERS, endpoint(server.url), cache)
        assert [judgement.score for judgement in judged.judgements] == [10, 10, 1, 1, 10, 1, 10, 1]
        assert judged.calls == len(server.requests) == 8
        repeated = judge_answers(ANSWERS, endpoint(server.url), cache)
        assert (repeated.calls, repeated.cached_replies) == (0, 8)
        assert len(server.requests) == 8
    assert repeated.judgements == judged.judgements


def test_an_unreadable_score_is_requested_again_and_then_missing_not_zero(tmp_path: Path):
    def answer_badly(body: Body) -> str:
        prompt = body["messages"][-1]["content"]
        if "town 2" in prompt:
            return "I would rather not put a number on it."
        if "town 5" in prompt:
            return json.dumps({"score": 11, "rationale": "very good"})
        if "town 0" in prompt and body.get("seed", 0) == 0:
            return json.dumps({"score": "8/9"})
        return score_by_match(body)

    with serving(write=answer_badly) as server, ReplyCache(tmp_path / "c") as cache:
        judged = judge_answers(ANSWERS, endpoint(server.url), cache)
        requests = [body for body in server.requests if "town 2" in body["messages"][-1]["content"]]
    assert [(body["seed"], body["temperature"] > 0) for body in requests] == [
        (0, False),
        (1, True),
        (2, True),
    ]
    scores = [judgement.score for judgement in judged.judgements]
    assert scores == [10, 10, None, 1, 10, None, 10, 1]
    assert judged.missing == {
        "not in the form asked for": 1,
        "a score that is no whole number of 0 to 10": 1,
    }
    summary = summarise(ANSWERS, judged)
    assert summary["score"]["n"] == 6
    assert summary["score"]["mean"] == pytest.approx(42 / 6)
    assert summary["score"]["low"] <= 7 <= summary["score"]["high"]


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"score": 8.0}', 8),
        ('```json\n{"rationale": "fine", "score": 7}\n```', 7),
        ('{"score": "8"}', 8),
        ('{"rationale": "as \\frac said", "Score": 8}', 8),
        ('<think>\nSay {"rationale": "…", "score": 7}? No.\n</think>\n{"score": 8}', 8),
        ('I think {"score": 7}, or not.\n</think>\n\n{"score": 8,}', 8),
        ('Here: {"result": {"score": 8}} Bye {all}!', 8),
        ("Score: 8", 8),
        ('{"score": 7} or {"score": 8}', None),
        ('{"score": "8/10"}', 8),
        ('{"score": "8 out of 10"}', 8),
        ('{"score": "4/5"}', None),
        ('{"score": "8/100"}', None),
        ('"{\\"score\\": 8}"', 8),
        (
            '<|begin_of_thought|>{"score": 7}<|end_of_thought|>\n<|begin_of_solution|>{"score": 8}',
            8,
        ),
        ('{"score": 7, "score": 8}', None),
        ("[" * 90_000, None),
        ('{"score": ' + "9" * 5000 + "}", None),
        ("score" + ":" * 90_000, None),
        ("\n" * 90_000, None),
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
def test_which_json_is_read_as_a_score(text: str, score: int | None):
    request = request_for(ANSWERS[0], as_json=True, seed=0)
    assert read_judgement(Reply(request, text, Finish.STOP)).score == score


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Score: 7", 7),
        ("**Score:** 10.", 10),
        ("**Score:** 8/10", 8),
        ("Score: 8 out of 10.", 8),
        ("Score: 4/5", None),
        ("Score: 8/100", None),
        ("<think>\nScore: 3\n</think>\nScore: 7", 7),
        ("Score: 7\nScore: 3", None),
        ("about 7", None),
        (f"Score: {'9' * 400}", None),
    ],
)
def test_which_plain_text_is_read_as_a_score(text: str, score: int | None):
    request = request_for(ANSWERS[0], as_json=False, seed=0)
    assert read_judgement(Reply(request, text, Finish.STOP)).score == score


def test_agreement_with_a_second_judge_and_with_token_f1_is_reported(tmp_path: Path):
    def score_leniently(body: Body) -> str:
        judgement = json.loads(score_by_match(body))
        return json.dumps({"score": min(10, judgement["score"] + 3)})

    with (
        serving(write=score_by_match) as first_server,
        serving(write=score_leniently) as second_server,
    ):
        first = judge_answers(ANSWERS, endpoint(first_server.url), None)
        second = judge_answers(ANSWERS, endpoint(second_server.url, "b"), None)
    summary = summarise(ANSWERS, first, second)
    assert summary["agreement"]["second"]["spearman"] == pytest.approx(1.0)
    assert summary["agreement"]["second"]["mean_difference"] == pytest.approx(1.5)  # 10 stays 10
    pairs = [(a.score, b.score) for a, b in zip(first.judgements, second.judgements, strict=True)]
    observed = fmean((a - b) ** 2 for a, b in pairs)
    at_random = fmean((a - b) ** 2 for a, _ in pairs for _, b in pairs)
    assert summary["agreement"]["second"]["kappa"] == pytest.approx(1 - observed / at_random)
    assert summary["agreement"]["token_f1"]["spearman"] > 0.8
    with serving(write=lambda _: '{"score": 5}') as server:
        constant = judge_answers(ANSWERS, endpoint(server.url), None)
    assert summarise(ANSWERS, constant)["agreement"]["token_f1"]["spearman"] is None


def test_confidence_intervals_resample_documents():
    answers = [JudgedAnswer(a.question, a.golds, a.text, document=f"town {i % 2}", gain=0.5)
           for i, a in enumerate(ANSWERS)]  # fmt: skip
    with serving(write=score_by_match) as server:
        judged = judge_answers(answers, endpoint(server.url), None)
    summary = summarise(answers, judged)
    assert summary["documents"] == 2
    assert summary["score"]["low"] is None
    assert summary["metrics"]["gain"] == {"mean": 0.5, "low": None, "high": None, "n": 8}


def test_the_mean_is_over_answers_not_documents():
    answers = [JudgedAnswer(f"Who founded town {i}?", ("she",), "she" if i < 12 else "he",
                     document="large" if i < 12 else str(i)) for i in range(16)]  # fmt: skip
    with serving(write=score_by_match) as server:
        score = summarise(answers, judge_answers(answers, endpoint(server.url), None))["score"]
    assert score["mean"] == pytest.approx(124 / 16)
    assert score["low"] <= score["mean"] <= score["high"]


def test_the_judge_is_told_that_each_gold_answer_is_right_by_itself():
    judged = JudgedAnswer("q", ("one", "two"), "two")
    message = request_for(judged, as_json=True, seed=0).messages[0]
    assert "each right and whole by itself:\n- one\n- two\nAnswer: two" in message.content


def test_equal_answers_are_judged_once():
    with serving(write=score_by_match) as server:
        judged = judge_answers([ANSWERS[0]] * 5, endpoint(server.url), None)
        assert len(server.requests) == 1
    assert [judgement.score for judgement in judged.judgements] == [10] * 5


def test_no_readable_score_at_all_is_an_error_with_samples():
    with (
        serving(write=lambda _: "lovely weather") as server,
        pytest.raises(UsageError, match=r"in 24 replies: not in the form .*: lovely weather"),
    ):
        judge_answers(ANSWERS, endpoint(server.url), None)


def test_a_judge_cut_off_in_its_thought_is_said_and_can_be_given_more_tokens():
    def think_first(body: Body) -> str:
        return f"<think>Hm.</think>{score_by_match(body)}" if body["max_tokens"] > 999 else ""

    with serving([Fault(content="<think>Hm", finish="length")] * 3, write=think_first) as server:
        with pytest.raises(
            UsageError, match=r"in 3 replies: cut off at 256 tokens: <think>Hm .* --judge-tokens"
        ):
            judge_answers(ANSWERS[:1], endpoint(server.url), None)
        judged = judge_answers(ANSWERS[:1], endpoint(server.url), None, reply_tokens=1000)
    assert judged.judgements[0].score == 10
    with pytest.raises(UsageError, match="--judge-tokens must be 1"):
        judge_answers(ANSWERS, endpoint("http://h"), None, reply_tokens=0)


def test_answers_beyond_the_budget_are_missing(tmp_path: Path):
    with serving(write=score_by_match) as server, ReplyCache(tmp_path / "c") as cache:
        judged = judge_answers(ANSWERS, endpoint(server.url), cache, budget=Budget(calls=3))
        assert judged.missing == {"beyond the budget": 5}
        continued = judge_answers(ANSWERS, endpoint(server.url), cache)
        assert (continued.cached_replies, continued.calls, continued.missing) == (3, 5, {})


def test_judgements_before_an_endpoint_died_are_in_the_cache(tmp_path: Path):
    with serving(write=score_by_match) as server, ReplyCache(tmp_path / "c") as cache:
        judge_answers(ANSWERS[:4], endpoint(server.url), cache)
        url = server.url
    with ReplyCache(tmp_path / "c") as cache:
        with pytest.raises(UnavailableError):
            judge_answers(ANSWERS, endpoint(url), cache)
        assert len(cache) == 4


def test_a_refusal_is_requested_again_and_only_refusals_are_an_error():
    faults = [Fault(content="", refusal="I will not") for _ in range(3)]
    with serving(faults, write=score_by_match) as server:
        judged = judge_answers(ANSWERS[:1] + ANSWERS[4:5], endpoint(server.url), None)
    # Refused replies are requested again with other seeds.
    assert all(judgement.score == 10 for judgement in judged.judgements)
    with (
        serving([Fault(refusal="no")] * 40, write=score_by_match) as server,
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
        ('{"question": "q", "gold": "g", "answer": "a", "gain": NaN}', "NaN is not a number"),
    ],
)
def test_bad_rows_are_refused(tmp_path: Path, row: str, message: str):
    path = tmp_path / "answers.jsonl"
    path.write_text(row)
    with pytest.raises(DataError, match=message):
        read_answers(path)


def test_rows_are_read_with_their_optional_fields(tmp_path: Path):
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
