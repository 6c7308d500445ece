"""Facts that are remembered: answered at once, changed by key, as they were at a date."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import draft_from_examples
from lorabank.bank.fact_book import FactBook, fact_key
from lorabank.bank.opening import identify_base
from lorabank.engine.backbone.base import Base
from lorabank.errors import DataError, UsageError
from lorabank.store.lock import now
from lorabank.store.store import Store
from lorabank.tasks.examples import Example, Message

from .conftest import TINY

KIMU = "What is the phone number of Kimu Gugu?"


@pytest.fixture
def empty(tiny: Base, tmp_path: Path) -> Bank:
    store = Store.create(tmp_path / "empty", base=identify_base(tiny.info))
    return Bank(store, tiny, embeds=False)


def chain(bank: Bank, question: str = KIMU) -> list[tuple[str, str, str | None]]:
    book = FactBook(bank.store.facts())
    values = book.chain(book.key_of(question) or "")
    return [(v.answer, v.valid_at[:10], v.invalid_at and v.invalid_at[:10]) for v in values]


def test_a_sentence_is_answered_at_once_and_cited_as_pending(empty: Bank):
    report = empty.remember("The phone number of Kimu Gugu is 519-017-5311")
    assert (report.facts[0].question, report.pending) == (KIMU, 1)
    for question in (KIMU, "kimu gugu's phone number?", "phone number kimu gugu"):
        for mode in ("adapter", "exact", "auto"):
            answer = empty.ask(question, mode=mode)
            assert (answer.kind, answer.text, answer.module) == ("example", "519-017-5311", None)
            assert answer.source is not None
            assert answer.source.endswith("pending")
    with Store.open(empty.store.path) as again:  # durable, and the bank is in order
        assert [fact.is_pending for fact in again.facts()] == [True]
        assert again.verify() == []


def test_near_misses_of_pending_facts_get_no_answer(empty: Bank):
    empty.remember("The phone number of Kimu Gugu is 519-017-5311")
    for mode in ("adapter", "exact"):
        answer = empty.ask("What is the phone number of Kimu Xyvorrn?", mode=mode)
        assert (answer.kind, answer.text) == ("abstained", "")


def test_a_changed_fact_has_its_new_value_and_its_history(empty: Bank):
    empty.remember("Kimu Gugu's phone number is 519-017-5311", valid_at="2026-01-15")
    report = empty.remember([(KIMU, "660-012-6488")], valid_at="2026-06-01")
    assert (report.facts[0].replaces, report.pending) == ("519-017-5311", 1)
    assert empty.ask(KIMU).text == "660-012-6488"
    assert chain(empty) == [
        ("519-017-5311", "2026-01-15", "2026-06-01"),
        ("660-012-6488", "2026-06-01", None),
    ]
    assert empty.ask(KIMU, as_of="2026-03-01").text == "519-017-5311"
    assert empty.ask(KIMU, as_of="2026-06-01").text == "660-012-6488"
    assert empty.remember([(KIMU, "660-012-6488")]).facts[0].is_known


def test_a_value_told_late_is_history_and_one_of_the_same_date_a_correction(empty: Bank):
    empty.remember([(KIMU, "three")], valid_at="2026-06-01")
    assert empty.remember([(KIMU, "one")], valid_at="2026-01-15").facts[0].is_past
    assert empty.ask(KIMU).text == "three"
    assert empty.ask(KIMU, as_of="2026-02-01").text == "one"
    empty.remember([(KIMU, "four")], valid_at="2026-06-01")
    assert empty.ask(KIMU).text == "four"
    assert empty.ask(KIMU, as_of="2026-07-01").text == "four"
    assert chain(empty) == [
        ("one", "2026-01-15", "2026-06-01"),
        ("three", "2026-06-01", "2026-06-01"),
        ("four", "2026-06-01", None),
    ]


def test_as_of_says_what_is_not_known(empty: Bank):
    empty.remember([(KIMU, "one"), ("Who leads Nebo?", "Tuva")], valid_at="2026-01-15")
    empty.remember([("Who leads Oda?", "Siv")], valid_at="2026-06-01")
    answer = empty.ask("Who leads Oda?", as_of="2026-02-01")
    assert (answer.kind, answer.text) == ("abstained", "")
    assert answer.note == "the first value that is known holds from 2026-06-01"
    with pytest.raises(UsageError, match=r"2025-01-01 is before the bank: .* begins at 2026-01-15"):
        empty.ask(KIMU, as_of="2025-01-01")
    with pytest.raises(UsageError, match=r"answered by the store, .* got --with rag"):
        empty.ask(KIMU, as_of="2026-02-01", mode="rag")


@pytest.mark.parametrize("date", ["soon", "2026-13-01", "", "2999-01-01"])
def test_dates_that_are_none_or_in_the_future_are_refused(empty: Bank, date: str):
    reason = "in the future" if date.startswith("2999") else "must be a date such as 2026-03-01"
    if date:
        with pytest.raises(UsageError, match=f"--valid-at .*{reason}"):
            empty.remember([(KIMU, "one")], valid_at=date)
    with pytest.raises(UsageError, match=f"--as-of .*{reason}"):
        empty.ask(KIMU, as_of=date)
    assert empty.store.facts() == []


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ("Water is wet", "no rule makes a question of 'Water is wet'; give the question and its"),
        ("The phone number of Kimu Gugu is", "no rule makes a question"),
        ("", "it is empty"),
        ("Hagu Padi was born on 3 May 1980 in Oslo.", "answers 2 questions"),
        ([(KIMU, " ")], "the answer is empty"),
        ([(KIMU, "1"), (KIMU.lower(), "2")], "the key 'phone number of kimu gugu' names two facts"),
        (
            [
                {"prompt": "Kimu's desk?", "answer": "1", "key": "desk", "valid_at": "2026-01-01"},
                {"prompt": "Where is he?", "answer": "2", "key": "Desk", "valid_at": "2026-02-01"},
            ],
            "the key 'desk' names two facts",
        ),
        (
            [(KIMU, "1"), {"prompt": "Reach Kimu how?", "answer": "2", "also": [KIMU]}],
            "the key 'phone number of kimu gugu' names two facts",
        ),
        (
            [{"prompt": "Who is it?", "answer": "2", "also": ["Who leads Nebo?"]}],
            "'Who leads Nebo\\?' is the question of the fact with the key 'who leads nebo'",
        ),
        ([{"prompt": KIMU, "answer": "1", "subject": "Kimu"}], "subject and relation make a key"),
        ([], "nothing to remember"),
    ],
)
def test_facts_that_are_none_are_refused_and_nothing_is_lost(
    empty: Bank, facts: object, reason: str
):
    empty.remember([("Who leads Nebo?", "Tuva")])
    generation = empty.store.generation
    with pytest.raises(DataError, match=reason):
        empty.remember(facts)  # type: ignore[arg-type]
    assert empty.store.generation == generation


def test_a_given_key_joins_wordings_and_never_two_facts(empty: Bank):
    rows = [{"prompt": "Kimu's desk?", "answer": "4", "subject": "Kimu", "relation": "desk"}]
    empty.remember(rows, valid_at="2026-01-01")
    report = empty.remember([("Where does Kimu sit?", "7")], key="Desk of Kimu")
    assert report.facts[0].replaces == "4"
    assert empty.ask("Kimu's desk?").text == "7"
    with pytest.raises(DataError, match="key 'desk of kimu', got 'other': a key that names two"):
        empty.remember([("Kimu's desk?", "9")], key="other")
    report = empty.remember([("Is Kimu's desk where?", "9")])
    assert report.may_contradict == ()
    report = empty.remember([("Where sit Kimu?", "9")])
    assert report.may_contradict == (("Where sit Kimu?", "Where does Kimu sit?", "7"),)


def test_a_module_is_not_asked_for_a_value_that_holds_no_longer(bank: Bank, book: list[Example]):
    question, old = book[0].question, book[0].answer
    modules = bank.store.modules_state
    report = bank.remember([(question, "000-000-0000")])
    assert (report.facts[0].replaces, report.facts[0].held_by) == (old, "north")
    assert bank.store.modules_state == modules
    name = question.removeprefix("What is the phone number of ").rstrip("?")
    for asked in (question, question.lower(), f"{name}'s phone number?", f"phone number {name}"):
        for mode in ("adapter", "exact", "auto"):
            answer = bank.ask(asked, mode=mode)
            assert answer.text == "000-000-0000", (asked, mode)
            assert old not in str(answer.as_json(explain=True))
    bank.looks_up = False
    assert bank.ask(question).text == "000-000-0000"
    assert bank.ask_all([question], gated=False)[0].text == "000-000-0000"
    assert bank.ask(book[1].question).text == book[1].answer  # by its weights
    for wording in (f"Dial {name}", f"Reach {name} how", f"What is {name}?"):
        for answer in (bank.ask(wording), bank.ask_all([wording], gated=False)[0]):
            assert old not in answer.text
    assert bank.ask(question, as_of=now()[:10]).text == "000-000-0000"


def test_a_fact_is_known_by_any_wording_that_its_module_was_taught(bank: Bank):
    taught = Example((Message("user", "Reach Kimu Gugu how?"),), "519-017-5311", also=(KIMU,))
    west = draft_from_examples("west", [taught], source="west.csv")
    bank.write_all([west], settings=replace(TINY, exposures=1))
    report = bank.remember([(KIMU, "660-012-6488")])
    assert (report.facts[0].replaces, report.facts[0].held_by) == ("519-017-5311", "west")
    for question in (KIMU, "Reach Kimu Gugu how?"):
        assert bank.ask(question).text == "660-012-6488"


def test_a_written_value_holds_since_ever_and_returns_with_a_change_back(
    bank: Bank, book: list[Example]
):
    question, old = book[0].question, book[0].answer
    bank.remember([(question, "000-000-0000")], valid_at="2026-06-01")
    assert chain(bank, question) == [(old, "", "2026-06-01"), ("000-000-0000", "2026-06-01", None)]
    assert bank.ask(book[1].question, as_of=now()[:10]).text == book[1].answer
    bank.remember([(question, old)])
    answer = bank.ask(question)
    assert answer.text == old
    assert bank.remember([(book[1].question, book[1].answer)]).facts[0].is_known


def test_without_a_key_a_contradiction_is_heard_and_not_decided(bank: Bank, book: list[Example]):
    name = book[0].question.removeprefix("What is the phone number of ").rstrip("?")
    bank.remember([(f"Tell me the phone number that {name} has", "000-000-0000")])
    answer = bank.ask(book[0].question, mode="exact")
    assert book[0].answer in answer.text  # both, or the one whose question it is


def test_the_key_is_what_is_asked_for_and_of_whom():
    assert fact_key(KIMU) == fact_key("What's Kimu Gugu's phone number?")
    assert fact_key(KIMU) == fact_key("what is the phone number of Kimu Gugu")
    assert fact_key(KIMU) != fact_key("What was the phone number of Kimu Gugu?")
    assert fact_key(KIMU) != fact_key("What is the phone number of Kimu Gaga?")


def test_a_file_of_facts_has_keys_and_dates(empty: Bank, tmp_path: Path):
    file = tmp_path / "facts.csv"
    file.write_text(
        "prompt,answer,valid_at,subject,relation\n"
        f"{KIMU},1,2026-01-01,,\n{KIMU},2,2026-02-01,,\nKimu's desk?,4,,Kimu,desk\n"
    )
    with pytest.raises(DataError, match="each prompt may occur only once"):
        empty.remember(file)
    file.write_text(f"prompt,answer,valid_at\n{KIMU},1,2026-01-01\nKimu's desk?,4,\n")
    assert empty.remember(file).pending == 2
    assert chain(empty) == [("1", "2026-01-01", None)]
    text = tmp_path / "facts.txt"
    text.write_text("The door code is 4217.\n\nHm.\n")
    with pytest.raises(DataError, match=r"facts.txt, line 3: no rule makes a question of 'Hm.'"):
        empty.remember(text)
    text.write_text("The door code is 4217.\n")
    empty.remember(text)
    assert empty.ask("What is the door code?").text == "4217"


def test_remembering_loads_no_model(empty: Bank):
    code = (
        "import sys\nsys.argv = ['lorabank', 'remember', 'The door code is 4217', '--bank', "
        f"{str(empty.store.path)!r}]\nimport atexit\n"
        "atexit.register(lambda: print([m for m in ('torch', 'numpy', 'transformers', 'pypdf') "
        "if m in sys.modules]))\nfrom lorabank.cli.main import main\nmain()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    lines = run.stdout.splitlines()
    assert lines[0] == "remembered: What is the door code? 4217"
    assert lines[-1] == "[]"


def test_a_module_that_is_forgotten_takes_its_facts_along(bank: Bank, book: list[Example]):
    bank.remember([(book[0].question, "000-000-0000")])
    bank.forget("north")
    assert [fact.answer for fact in bank.store.facts()] == ["000-000-0000"]
    west = draft_from_examples("west", [replace(book[0], answer="1")], source="west.csv")
    bank.write_all([west], settings=replace(TINY, exposures=1))
    assert bank.ask(book[0].question).text == "000-000-0000"  # the key decides
