"""Synthesis of examples from documents, through a real server and a real cache."""

import json
import re
from pathlib import Path

import pytest

from lorabank.errors import StorageError, UnavailableError, UsageError
from lorabank.synthesis.budget import Budget
from lorabank.synthesis.cache import ReplyCache
from lorabank.synthesis.endpoint import Endpoint, RetryPolicy
from lorabank.synthesis.example_synthesis import SynthesisOptions, estimate_cost, synthesise
from lorabank.synthesis.facts import sources_from_facts
from lorabank.synthesis.formats import parse_formats
from lorabank.synthesis.generators import Finish, Reply, Request, SamplingOptions
from lorabank.synthesis.results import SynthesisOutcome
from lorabank.synthesis.sources import SourceText, sources_from_chunks
from lorabank.tasks.examples import Message, from_pair
from lorabank.tasks.synthetic import phonebook
from tests.synthesis.chat_server import Body, Fault, Server, serving, write_questions
from tests.synthesis.fact_documents import chunk, country, sources, word

QUICK = RetryPolicy(timeout_s=30.0, retries=2, first_wait_s=0.01)
QA = parse_formats("qa:6")


def run(
    server: Server,
    texts: list[SourceText],
    formats: str = "qa:6",
    *,
    cache: ReplyCache | None = None,
    budget: Budget | None = None,
    held_out: tuple[str, ...] = (),
    skip_failed: bool = False,
    workers: int = 3,
) -> SynthesisOutcome:
    writer = Endpoint("small", base_url=server.url, workers=workers, retry_policy=QUICK)
    return synthesise(
        texts,
        parse_formats(formats),
        writer,
        cache,
        SynthesisOptions(budget=budget or Budget(), held_out=held_out, skip_failed=skip_failed),
    )


def test_every_fact_becomes_a_question_with_its_answer():
    with serving() as server:
        outcome = run(server, sources(3), "qa:6,original")
    assert len(outcome.made) == outcome.wanted == 21
    assert outcome.calls == len(server.requests) == 3
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (300, 30)
    qa = [made for made in outcome.made if made.format == "qa"]
    assert f"What is the river of {word(1)}?" in [made.prompt for made in qa]
    assert all(f"is {made.answer}." in country(i // 6) for i, made in enumerate(qa))
    assert (outcome.coverage.sentences, outcome.coverage.sentences_covered) == (18, 18)
    assert not outcome.refused
    assert [made.document for made in outcome.made] == sorted(
        made.document for made in outcome.made
    )


def test_no_request_is_made_twice_whatever_other_documents_are_added(tmp_path: Path):
    with serving() as server, ReplyCache(tmp_path / "cache") as cache:
        first = run(server, sources(3), cache=cache)
        extended = run(server, sources(5), cache=cache)
        repeated = run(server, sources(5), cache=cache)
        assert (
            first.calls,
            extended.calls,
            extended.cached_replies,
            repeated.calls,
            repeated.cached_replies,
        ) == (3, 2, 3, 0, 5)
        assert repeated.made == extended.made
        assert len(server.requests) == len(cache) == 5


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(content="Sure! Here you go."), "not in the form asked for"),
        (Fault(content='{"items": [{"question": "What is it?"}]}'), "an item without its texts"),
        (Fault(content="I'm sorry, but I can't help with that."), "refused"),
        (Fault(refusal="No."), "refused"),
        (Fault(content='{"items": [{"que', finish="length"), "cut off"),
        (Fault(status=400, text="no"), "failed"),
    ],
    ids=["chatter", "half an item", "refusal in words", "refusal", "truncated", "failed"],
)
def test_an_unusable_reply_is_recorded_and_requested_again(fault: Fault, reason: str):
    # The first request succeeds; otherwise a failure would count as a dead endpoint.
    with serving([Fault(), fault]) as server:
        outcome = run(server, sources(2), workers=1)
    assert len(outcome.made) == 12
    assert [item.reason for item in outcome.refused] == [reason]
    assert outcome.refused[0].document == sources(2)[1].document
    seeds = [body["seed"] for body in server.requests]
    assert len(seeds) == 3
    assert seeds[1] != seeds[2]


def test_whole_items_of_a_truncated_reply_are_used_and_the_others_requested_again():
    whole_item = {"question": f"What is the capital of {word(0)}?", "answer": word(100)}
    text = f'{{"items": [{json.dumps(whole_item)}, {{"questi'
    with serving([Fault(content=text, finish="length")]) as server:
        outcome = run(server, sources(1))
    assert len(outcome.made) == 6
    prompt = server.requests[1]["messages"][0]["content"]
    assert "Write exactly 5 questions" in prompt
    assert f"- What is the capital of {word(0)}?" in prompt.partition("asked already")[2]


def test_a_document_with_only_unusable_replies_is_an_error_with_samples(tmp_path: Path):
    def write_nonsense_about_one_document(body: Body) -> str:
        return "la la la" if word(1) in body["messages"][0]["content"] else write_questions(body)

    with (
        serving(write=write_nonsense_about_one_document) as server,
        ReplyCache(tmp_path / "cache") as cache,
    ):
        with pytest.raises(UsageError, match=rf"^{word(1)}\.md: nothing fit.*'la la la'.*--skip"):
            run(server, sources(3), cache=cache)
        n_requests = len(server.requests)
        skipped = run(server, sources(3), "qa:6,original", cache=cache, skip_failed=True)
        assert len(server.requests) == n_requests  # replies come from the cache
        assert [made.format for made in skipped.made if made.document == f"{word(1)}.md"] == [
            "original"
        ]
        assert len(skipped.made) == 15
        assert (
            run(server, [sources(3)[0], sources(3)[2]], cache=cache).calls == 0
        )  # replies come from the cache


def test_unusable_replies_about_a_long_document_end_the_run_early():
    chunks = [chunk("long.md", "Long", country(i)) for i in range(40)]
    with serving(write=lambda _: "la la la") as server:
        with pytest.raises(UsageError, match="in 12 replies"):
            run(server, sources_from_chunks(chunks), workers=1)
        assert len(server.requests) <= 13


def test_questions_about_uncovered_sentences_are_requested_once_more():
    def write_lazily(body: Body) -> str:
        items = json.loads(write_questions(body))["items"]
        return json.dumps(
            {"items": items if "Ask about" in str(body) else [items[0], *repetitions()]}
        )

    def repetitions() -> list[dict[str, str]]:
        return [
            {"question": f"Which {kind} {word(0)} capital is {word(100)}?", "answer": word(100)}
            for kind in ("great", "famous", "northern", "old", "fortified")
        ]

    with serving(write=write_lazily) as server:
        outcome = run(server, sources(1))
    assert "The anthem of" in server.requests[1]["messages"][0]["content"].partition("Ask about")[2]
    assert len(outcome.made) == 6
    assert outcome.coverage.sentences_covered == 3  # two more, a quarter of six


@pytest.mark.parametrize(
    ("budget", "calls"),
    [(Budget(calls=2), 2), (Budget(tokens=1500), 3)],
)
def test_a_budget_is_not_exceeded_and_a_larger_one_continues(
    tmp_path: Path, budget: Budget, calls: int
):
    with serving() as server, ReplyCache(tmp_path / "cache") as cache:
        limited = run(server, sources(4), cache=cache, budget=budget, workers=1)
        assert limited.calls == len(server.requests) == calls
        assert limited.prompt_tokens + limited.completion_tokens <= (budget.tokens or 10**9)
        assert limited.over_budget == 4 - calls
        assert len(limited.made) == 6 * calls
        complete = run(server, sources(4), cache=cache)
        assert (complete.cached_replies, complete.calls, len(complete.made)) == (
            calls,
            4 - calls,
            24,
        )


@pytest.mark.parametrize("budget", [{"tokens": 0}, {"calls": -1}])
def test_a_budget_for_nothing_is_refused(budget: dict[str, int]):
    with pytest.raises(UsageError, match=r"must be 1 or more, got"):
        Budget(**budget)


def test_tokens_that_a_reply_did_not_use_return_to_the_budget():
    with serving() as server:
        # Each reserves about 1,300 tokens and uses 110: one at a time, all four fit.
        assert run(server, sources(4), budget=Budget(tokens=1750)).calls == 4


def test_an_estimate_is_near_the_cost_and_counts_cached_replies(tmp_path: Path):
    with serving() as server, ReplyCache(tmp_path / "cache") as cache:
        writer = Endpoint("small", base_url=server.url)
        before = estimate_cost(sources(4), QA, writer, cache, sampling=SamplingOptions())
        assert not server.requests
        run(server, sources(2), cache=cache)
        after = estimate_cost(sources(4), QA, writer, cache, sampling=SamplingOptions())
    assert (before.calls, before.cached, after.calls, after.cached) == (4, 0, 2, 2)
    words = sum(
        len(re.findall(r"\w+|[^\w\s]", b["messages"][0]["content"])) for b in server.requests
    )
    assert before.prompt_tokens / 2 == pytest.approx(words, rel=0.3)
    assert after.completion_tokens == before.completion_tokens / 2 == 2 * 6 * 50


def test_replies_before_an_endpoint_died_are_in_the_cache(tmp_path: Path):
    with ReplyCache(tmp_path / "cache") as cache:
        with serving() as server:
            server.faults.extend([Fault(), Fault(), *[Fault(500, text="down")] * 99])
            with pytest.raises(UnavailableError, match="HTTP 500: down; what was finished is kept"):
                run(server, sources(9), cache=cache, workers=1)
        assert len(cache) == 2
        with serving(port=int(server.url.split(":")[2].split("/")[0])) as server:
            assert run(server, sources(9), cache=cache).calls == 7


def test_held_out_questions_are_not_trained_on():
    question = f"Tell me: what is the capital of {word(0)} called?"
    with serving() as server:
        outcome = run(server, sources(1), held_out=(question,))
    assert len(outcome.made) == 5
    assert {item.reason for item in outcome.refused} == {"a question kept for measuring"}


def test_documents_that_disagree_are_reported_and_both_taught_with_their_source():
    documents = [("a.md", "Old"), ("b.md", "New"), ("c.md", "New")]
    values = [word(1), word(2), word(1)]
    texts = sources_from_chunks(
        [
            chunk(
                name, title, f"The capital of {word(0)} is {value}. The lake of {word(0)} is Pepe."
            )
            for (name, title), value in zip(documents, values, strict=True)
        ]
    )
    with serving() as server:
        outcome = run(server, texts, "qa:2")
    (contradiction,) = outcome.contradictions
    assert contradiction.answers == (word(1), word(2))
    assert contradiction.sources == ("“Old”", "“New” (b.md)")
    prompts = {made.prompt: made.answer for made in outcome.made}
    assert prompts[f"According to “Old”, what is the capital of {word(0)}?"] == word(1)
    assert prompts[f"According to “New” (b.md), what is the capital of {word(0)}?"] == word(2)
    assert f"What is the capital of {word(0)}?" not in prompts
    assert prompts[f"What is the lake of {word(0)}?"] == "Pepe"
    assert len(outcome.made) == 3


def test_phone_books_get_variants_and_reverse_questions_without_a_generator():
    book = phonebook.build(5, seed=0)
    with serving() as server:
        texts = sources_from_facts("book.csv", phonebook.to_examples(book))
        outcome = run(server, texts, "original,paraphrase:2,reverse")
    assert not server.requests
    made = {example.prompt: example.answer for example in outcome.made}
    assert len(made) == 20
    assert made[f"Whose phone number is {book[3].number}?"] == book[3].name
    assert made[f"Which phone number does {book[3].name} have?"] == book[3].number


def test_questions_written_about_passages_are_reversed():
    def write_reversed(body: Body) -> str:
        prompt = body["messages"][0]["content"]
        if not prompt.startswith("Question"):
            return write_questions(body)
        thing, name, value = re.search(r"the (\w+) of (\w+)\?\nAnswer: (\w+)", prompt).groups()  # type: ignore[union-attr]
        return json.dumps(
            {"items": [{"question": f"Which country has the {thing} {value}?", "answer": name}]}
        )

    with serving(write=write_reversed) as server:
        outcome = run(server, sources(1), "qa:6,reverse")
    made = {example.prompt: example for example in outcome.made}
    assert len(made) == 12
    reverse = made[f"Which country has the capital {word(100)}?"]
    assert (reverse.answer, reverse.document, reverse.format) == (
        word(0),
        f"{word(0)}.md",
        "reverse",
    )


@pytest.mark.parametrize(
    ("formats", "has_facts", "message"),
    [
        ("paraphrase:2", False, "is made of questions; add qa:N"),
        ("qa:2", True, "is made of documents, and facts are given"),
    ],
)
def test_formats_that_do_not_fit_the_sources_are_refused(
    formats: str, has_facts: bool, message: str
):
    texts = sources_from_facts("f", [from_pair("What is A?", "B")]) if has_facts else sources(1)
    with serving() as server, pytest.raises(UsageError, match=message):
        run(server, texts, formats)


def test_a_file_that_is_no_cache_is_refused(tmp_path: Path):
    (tmp_path / "text").write_text("no database, and longer than a header " * 40)
    with pytest.raises(UsageError, match="is not a reply cache"):
        ReplyCache(tmp_path / "text")
    with pytest.raises(StorageError, match="cannot be written"):
        ReplyCache(tmp_path / "no" / "such" / "folder")


def test_a_failure_is_not_cached(tmp_path: Path):
    request = Request((Message("user", "?"),), 5)
    writer = Endpoint("m", base_url="http://127.0.0.1:9/v1")
    with ReplyCache(tmp_path / "cache") as cache:
        cache.put(writer, Reply(request, "", Finish.FAILED, reason="down"))
        assert cache.get(writer, request) is None
        cache.put(writer, Reply(request, "", Finish.REFUSED, 3, 4, "no"))
        assert cache.get(writer, request) == Reply(request, "", Finish.REFUSED, 3, 4, "no")
        other = Endpoint("n", base_url="http://127.0.0.1:9/v1")
        assert cache.get(other, request) is None
