"""Facts from memory: pairs, dicts and examples are written, found and forgotten like files."""

import random
from pathlib import Path

import pytest

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import draft_from_facts
from lorabank.bank.opening import identify_base
from lorabank.bank.write.consolidate import ConsolidateOptions
from lorabank.engine.backbone.base import Base
from lorabank.errors import DataError, LorabankError, UsageError
from lorabank.store.store import Store
from lorabank.tasks.examples import Example, from_pair

from .conftest import TINY


def test_facts_in_memory_are_written_asked_and_forgotten(bank: Bank, book: list[Example]):
    first, second, third, fourth = book[12:]
    facts = [
        (first.question, first.answer),
        {"prompt": second.question, "answer": second.answer},
        {
            "messages": [
                {"role": "user", "content": third.question},
                {"role": "assistant", "content": third.answer},
            ]
        },
        fourth,
    ]
    report = bank.write("west", facts, settings=TINY)
    assert (report.facts, report.recall) == (4, 1.0)
    (source,) = bank.store.current("west").sources
    assert (source.name, source.n_examples, len(source.sha256)) == ("west (in memory)", 4, 64)
    assert bank.ask(first.question).source == "west (in memory)"
    with pytest.raises(UsageError, match=r"source again \(in memory\) is already held by module"):
        bank.write("again", book[12:], settings=TINY)
    assert bank.history("west")[-1].module == "west"
    proof = bank.forget("west (in memory)")
    assert (proof.facts, proof.recall_before, proof.recall_after) == (4, 1.0, 0.0)
    assert "west" not in bank.store.names()


def test_one_file_may_be_given_without_a_list(tmp_path: Path):
    path = tmp_path / "facts.csv"
    path.write_text("prompt,answer\nWho is new?,Somebody\n")
    drafts = [draft_from_facts("new", facts) for facts in (path, str(path), [path])]
    assert drafts[0] == drafts[1] == drafts[2]
    assert drafts[0].sources[0].name == "facts.csv"


def test_the_same_facts_have_the_same_hash_however_they_are_written():
    pairs = draft_from_facts("new", [("Who?", "Ann"), ("Where?", "Here")])
    dicts = draft_from_facts(
        "new", ({"prompt": p, "answer": a} for p, a in (("Who?", "Ann"), ("Where?", "Here")))
    )
    assert pairs == dicts
    other = draft_from_facts("new", [("Who?", "Ann"), ("Where?", "There")])
    assert other.sources[0].sha256 != pairs.sources[0].sha256


REFUSED: dict[str, tuple[object, type[LorabankError], str]] = {
    "nothing": ([], UsageError, "nothing to write"),
    "empty answer": (
        [("Who?", "Ann"), ("Where?", " ")],
        DataError,
        "example 2: the answer is empty",
    ),
    "empty prompt": ([{"prompt": "", "answer": "a"}], DataError, "example 1: the prompt is empty"),
    "repeated": ([("Who?", "Ann"), ("Who?", "Ann")], DataError, "repeats example 1"),
    "contradiction": (
        [("Who?", "Ann"), ("Why?", "So"), ("Who?", "Bo")],
        DataError,
        r"contradicts example 1 \(example 3\)",
    ),
    "three parts": ([("Who?", "Ann", "Bo")], DataError, "example 1"),
    "number": ([("Who?", "Ann"), 7], DataError, "example 2"),
    "other keys": ([{"question": "Who?"}], DataError, "example 1.* needs"),
    "file among facts": ([("Who?", "Ann"), "facts.csv"], UsageError, "files or examples in memory"),
    "one dict": ({"prompt": "Who?", "answer": "Ann"}, UsageError, "put it into a list"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_facts_that_cannot_be_learnt_are_refused_by_number(name: str):
    facts, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        draft_from_facts("new", facts)  # type: ignore[arg-type]


def test_an_example_keeps_its_whole_prompt():
    example = from_pair("Who?", "Ann")
    assert draft_from_facts("new", [example]).examples == [example]


def test_a_name_that_no_fact_has_gets_no_value_pieced_together_of_others(
    tiny: Base, tmp_path: Path
):
    # The tiny model drafts codes that no room has, out of those it was taught, and is sure of them.
    rng, size = random.Random(1), 10**6
    store = Store.create(tmp_path / "rooms", base=identify_base(tiny.info))
    bank = Bank(store, tiny)
    codes = {
        f"What is the code of room {n}-{rng.randrange(size)}?": f"{n:03}-{rng.randrange(size)}"
        for n in (0, 1, 2, 3, 0, 3)
    }
    bank.remember(list(codes.items()))
    bank.consolidate(ConsolidateOptions(settings=TINY))
    unknown = [f"What is the code of room {n % 6}-{rng.randrange(size)}?" for n in range(60)]
    given = [(a.question, a.text) for a in bank.ask_all(unknown) if a.kind != "abstained"]
    assert given == []
    assert [a.text for a in bank.ask_all(list(codes))] == list(codes.values())
