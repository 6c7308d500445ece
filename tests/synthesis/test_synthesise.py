"""Documents into examples, through a real server and a real cache."""

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
from tests.synthesis.chat_server import Body, Fault, Server, honest, serving
from tests.synthesis.scene import chunk, country, pieces, word

QUICK = RetryPolicy(timeout_s=2.0, retries=2, first_wait_s=0.01)
QA = parse_formats("qa:6")


def run(
    server: Server,
    of: list[SourceText],
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
        of,
        parse_formats(formats),
        writer,
        cache,
        SynthesisOptions(budget=budget or Budget(), held_out=held_out, skip_failed=skip_failed),
    )


def test_every_fact_becomes_a_question_with_its_answer():
    with serving() as server:
        outcome = run(server, pieces(3), "qa:6,original")
    assert len(outcome.made) == outcome.wanted == 21
    assert outcome.calls == len(server.asked) == 3
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (300, 30)
    qa = [made for made in outcome.made if made.format == "qa"]
    assert f"What is the river of {word(1)}?" in [made.prompt for made in qa]
    assert all(f"is {made.answer}." in country(i // 6) for i, made in enumerate(qa))
    assert (outcome.coverage.sentences, outcome.coverage.sentences_covered) == (18, 18)
    assert not outcome.refused
    assert [made.document for made in outcome.made] == sorted(
        made.document for made in outcome.made
    )


def test_nothing_is_asked_twice_whatever_else_is_asked(tmp_path: Path):
    with serving() as server, ReplyCache(tmp_path / "kept") as cache:
        first = run(server, pieces(3), cache=cache)
        more = run(server, pieces(5), cache=cache)
        again = run(server, pieces(5), cache=cache)
        assert (
            first.calls,
            more.calls,
            more.cached_replies,
            again.calls,
            again.cached_replies,
        ) == (3, 2, 3, 0, 5)
        assert again.made == more.made
        assert len(server.asked) == len(cache) == 5


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
    ids=["chatter", "half an item", "refusal in words", "refusal", "cut", "failed"],
)
def test_what_is_not_fit_is_logged_and_asked_for_again(fault: Fault, reason: str):
    # The first document is answered, so that a failure is not taken for a dead endpoint.
    with serving([Fault(), fault]) as server:
        outcome = run(server, pieces(2), workers=1)
    assert len(outcome.made) == 12
    assert [one.reason for one in outcome.refused] == [reason]
    assert outcome.refused[0].document == pieces(2)[1].document
    seeds = [body["seed"] for body in server.asked]
    assert len(seeds) == 3
    assert seeds[1] != seeds[2]


def test_the_whole_items_of_a_reply_that_was_cut_off_are_kept_and_the_rest_asked_for():
    whole = {"question": f"What is the capital of {word(0)}?", "answer": word(100)}
    text = f'{{"items": [{json.dumps(whole)}, {{"questi'
    with serving([Fault(content=text, finish="length")]) as server:
        outcome = run(server, pieces(1))
    assert len(outcome.made) == 6
    told = server.asked[1]["messages"][0]["content"]
    assert "Write exactly 5 questions" in told
    assert f"- What is the capital of {word(0)}?" in told.partition("asked already")[2]


def test_a_document_the_generator_writes_only_nonsense_about_fails_with_samples(tmp_path: Path):
    def nonsense_about_one(body: Body) -> str:
        return "la la la" if word(1) in body["messages"][0]["content"] else honest(body)

    with serving(write=nonsense_about_one) as server, ReplyCache(tmp_path / "kept") as cache:
        with pytest.raises(UsageError, match=rf"^{word(1)}\.md: nothing fit.*'la la la'.*--skip"):
            run(server, pieces(3), cache=cache)
        n_asked = len(server.asked)
        skipped = run(server, pieces(3), "qa:6,original", cache=cache, skip_failed=True)
        assert len(server.asked) == n_asked  # what was written is kept
        assert [made.format for made in skipped.made if made.document == f"{word(1)}.md"] == [
            "original"
        ]
        assert len(skipped.made) == 15
        assert (
            run(server, [pieces(3)[0], pieces(3)[2]], cache=cache).calls == 0
        )  # what was fit is kept


def test_nonsense_about_a_long_document_is_not_paid_for_to_the_end():
    parts = [chunk("long.md", "Long", country(i)) for i in range(40)]
    with serving(write=lambda _: "la la la") as server:
        with pytest.raises(UsageError, match="in 12 replies"):
            run(server, sources_from_chunks(parts), workers=1)
        assert len(server.asked) <= 13


def test_what_no_question_is_about_is_asked_for_once_more():
    def lazy(body: Body) -> str:
        told = json.loads(honest(body))["items"]
        return json.dumps({"items": told if "Ask about" in str(body) else [told[0], *made_up()]})

    def made_up() -> list[dict[str, str]]:
        return [
            {"question": f"Which {kind} {word(0)} capital is {word(100)}?", "answer": word(100)}
            for kind in ("great", "famous", "northern", "old", "fortified")
        ]

    with serving(write=lazy) as server:
        outcome = run(server, pieces(1))
    assert "The anthem of" in server.asked[1]["messages"][0]["content"].partition("Ask about")[2]
    assert len(outcome.made) == 6
    assert outcome.coverage.sentences_covered == 3  # two more, a quarter of six


@pytest.mark.parametrize(
    ("budget", "calls"),
    [(Budget(calls=2), 2), (Budget(tokens=1500), 3)],
)
def test_a_budget_is_kept_and_a_larger_one_goes_on(tmp_path: Path, budget: Budget, calls: int):
    with serving() as server, ReplyCache(tmp_path / "kept") as cache:
        short = run(server, pieces(4), cache=cache, budget=budget, workers=1)
        assert short.calls == len(server.asked) == calls
        assert short.prompt_tokens + short.completion_tokens <= (budget.tokens or 10**9)
        assert short.over_budget == 4 - calls
        assert len(short.made) == 6 * calls
        whole = run(server, pieces(4), cache=cache)
        assert (whole.cached_replies, whole.calls, len(whole.made)) == (calls, 4 - calls, 24)


@pytest.mark.parametrize("budget", [{"tokens": 0}, {"calls": -1}])
def test_a_budget_that_lets_nothing_through_is_refused(budget: dict[str, int]):
    with pytest.raises(UsageError, match=r"must be 1 or more, got"):
        Budget(**budget)


def test_tokens_of_replies_are_given_back_to_the_budget():
    with serving() as server:
        # Each may take about 1,300 and takes 110: one at a time, all four fit.
        assert run(server, pieces(4), budget=Budget(tokens=1750)).calls == 4


def test_an_estimate_is_near_what_is_asked_and_knows_what_is_kept(tmp_path: Path):
    with serving() as server, ReplyCache(tmp_path / "kept") as cache:
        writer = Endpoint("small", base_url=server.url)
        before = estimate_cost(pieces(4), QA, writer, cache, sampling=SamplingOptions())
        assert not server.asked
        run(server, pieces(2), cache=cache)
        after = estimate_cost(pieces(4), QA, writer, cache, sampling=SamplingOptions())
    assert (before.calls, before.cached, after.calls, after.cached) == (4, 0, 2, 2)
    words = sum(len(re.findall(r"\w+|[^\w\s]", b["messages"][0]["content"])) for b in server.asked)
    assert before.prompt_tokens / 2 == pytest.approx(words, rel=0.3)
    assert after.completion_tokens == before.completion_tokens / 2 == 2 * 6 * 50


def test_a_dead_endpoint_keeps_what_was_finished(tmp_path: Path):
    with ReplyCache(tmp_path / "kept") as cache:
        with serving() as server:
            server.faults.extend([Fault(), Fault(), *[Fault(500, text="down")] * 99])
            with pytest.raises(UnavailableError, match="HTTP 500: down; what was finished is kept"):
                run(server, pieces(9), cache=cache, workers=1)
        assert len(cache) == 2
        with serving(port=int(server.url.split(":")[2].split("/")[0])) as server:
            assert run(server, pieces(9), cache=cache).calls == 7


def test_held_out_questions_are_not_trained_on():
    asked = f"Tell me: what is the capital of {word(0)} called?"
    with serving() as server:
        outcome = run(server, pieces(1), held_out=(asked,))
    assert len(outcome.made) == 5
    assert {one.reason for one in outcome.refused} == {"a question kept for measuring"}


def test_documents_that_disagree_are_both_taught_with_their_source_and_reported():
    texts = [("a.md", "Old"), ("b.md", "New"), ("c.md", "New")]
    values = [word(1), word(2), word(1)]
    of = sources_from_chunks(
        [
            chunk(
                name, title, f"The capital of {word(0)} is {value}. The lake of {word(0)} is Pepe."
            )
            for (name, title), value in zip(texts, values, strict=True)
        ]
    )
    with serving() as server:
        outcome = run(server, of, "qa:2")
    (found,) = outcome.contradictions
    assert found.answers == (word(1), word(2))
    assert found.sources == ("“Old”", "“New” (b.md)")
    prompts = {made.prompt: made.answer for made in outcome.made}
    assert prompts[f"According to “Old”, what is the capital of {word(0)}?"] == word(1)
    assert prompts[f"According to “New” (b.md), what is the capital of {word(0)}?"] == word(2)
    assert f"What is the capital of {word(0)}?" not in prompts
    assert prompts[f"What is the lake of {word(0)}?"] == "Pepe"
    assert len(outcome.made) == 3


def test_phone_books_are_asked_from_both_ends_without_a_generator():
    book = phonebook.build(5, seed=0)
    with serving() as server:
        of = sources_from_facts("book.csv", phonebook.to_examples(book))
        outcome = run(server, of, "original,paraphrase:2,reverse")
    assert not server.asked
    made = {one.prompt: one.answer for one in outcome.made}
    assert len(made) == 20
    assert made[f"Whose phone number is {book[3].number}?"] == book[3].name
    assert made[f"Which phone number does {book[3].name} have?"] == book[3].number


def test_questions_made_of_passages_are_turned_around():
    def turning(body: Body) -> str:
        prompt = body["messages"][0]["content"]
        if not prompt.startswith("Question"):
            return honest(body)
        thing, name, value = re.search(r"the (\w+) of (\w+)\?\nAnswer: (\w+)", prompt).groups()  # type: ignore[union-attr]
        return json.dumps(
            {"items": [{"question": f"Which country has the {thing} {value}?", "answer": name}]}
        )

    with serving(write=turning) as server:
        outcome = run(server, pieces(1), "qa:6,reverse")
    made = {one.prompt: one for one in outcome.made}
    assert len(made) == 12
    turned = made[f"Which country has the capital {word(100)}?"]
    assert (turned.answer, turned.document, turned.format) == (word(0), f"{word(0)}.md", "reverse")


@pytest.mark.parametrize(
    ("formats", "facts", "said"),
    [
        ("paraphrase:2", False, "is made of questions; add qa:N"),
        ("qa:2", True, "is made of documents, and facts are given"),
    ],
)
def test_formats_that_do_not_go_with_what_is_given(formats: str, facts: bool, said: str):
    of = sources_from_facts("f", [from_pair("What is A?", "B")]) if facts else pieces(1)
    with serving() as server, pytest.raises(UsageError, match=said):
        run(server, of, formats)


def test_a_cache_that_is_something_else_is_refused(tmp_path: Path):
    (tmp_path / "text").write_text("no database, and longer than a header " * 40)
    with pytest.raises(UsageError, match="is not a reply cache"):
        ReplyCache(tmp_path / "text")
    with pytest.raises(StorageError, match="cannot be written"):
        ReplyCache(tmp_path / "no" / "such" / "folder")


def test_a_failure_is_not_kept(tmp_path: Path):
    asked = Request((Message("user", "?"),), 5)
    writer = Endpoint("m", base_url="http://127.0.0.1:9/v1")
    with ReplyCache(tmp_path / "kept") as cache:
        cache.put(writer, Reply(asked, "", Finish.FAILED, reason="down"))
        assert cache.get(writer, asked) is None
        cache.put(writer, Reply(asked, "", Finish.REFUSED, 3, 4, "no"))
        assert cache.get(writer, asked) == Reply(asked, "", Finish.REFUSED, 3, 4, "no")
        other = Endpoint("n", base_url="http://127.0.0.1:9/v1")
        assert cache.get(other, asked) is None
