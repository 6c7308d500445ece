"""Stored examples as answers and as evidence: in other words, near misses, contradictions."""

from dataclasses import replace
from pathlib import Path

import pytest

from lorabank.bank.answer.lookup import StoredExamples, agree
from lorabank.bank.bank import Bank
from lorabank.bank.drafts import EXAMPLES, draft_from_examples
from lorabank.bank.write.fact_removal import remove_fact
from lorabank.bank.write.transfer import export_module
from lorabank.cli.ask import provenance
from lorabank.errors import UsageError
from lorabank.retrieval.stored_questions import StoredQuestions
from lorabank.tasks.examples import Example, Message

from .conftest import TINY


def name_in(example: Example) -> str:
    return example.question.removeprefix("What is the phone number of ").rstrip("?")


@pytest.mark.parametrize(
    "form",
    [
        "What is the phone number of {}?",
        "what is the phone number of {}",
        "Please tell me: What is the phone number of {}?",
        "phone number {}",
        "{}'s phone number?",
    ],
)
def test_a_stored_example_is_given_exactly_in_any_form(bank: Bank, book: list[Example], form: str):
    questions = [form.format(name_in(example)) for example in book[:12]]
    questions += [question.lower() for question in questions]
    answers = bank.ask_all(questions, mode="exact")
    assert [answer.text for answer in answers] == 2 * [example.answer for example in book[:12]]
    for answer, example in zip(answers, [*book[:12], *book[:12]], strict=True):
        assert (answer.kind, answer.used, answer.mode) == ("example", "exact", "exact")
        assert answer.example is not None
        assert answer.example.question == example.question
        assert (answer.source, answer.version) == (f"{answer.module}.csv", 1)
        assert answer.p is not None
        assert answer.p > 0.7
        assert answer.prompt_tokens == 0


def test_near_misses_get_no_answer_and_hear_what_came_nearest(bank: Bank, book: list[Example]):
    known = name_in(book[0])
    stranger = f"{known.split()[0]} Xyvorrn"
    for mode in ("exact", "adapter"):
        answer = bank.ask(f"What is the phone number of {stranger}?", mode=mode)
        assert (answer.kind, answer.text) == ("abstained", "")
        assert answer.note == f"I know {known}, not {stranger}"
        assert {"trigrams", "name_new"} <= answer.as_json(explain=True)["nearest"][0][
            "features"
        ].keys()
    assert bank.ask("Why do leaves fall?", mode="exact").kind == "abstained"


def test_the_module_is_a_second_witness_by_one_reading(bank: Bank, book: list[Example]):
    alone = bank.ask(book[0].question, mode="exact")
    both = bank.ask(book[0].question)
    assert (both.kind, both.text, both.mode) == ("example", book[0].answer, "adapter")
    assert alone.p is not None
    assert both.p is not None
    assert both.p > alone.p
    assert (both.is_confirmed, both.candidates) == (True, ())
    by_drafts = bank.ask(book[0].question, explain=True)
    assert [c.draft.text for c in by_drafts.candidates if c.candidate.module == both.module] == [
        book[0].answer
    ]
    assert (by_drafts.kind, by_drafts.text, by_drafts.p) == (both.kind, both.text, both.p)
    assert by_drafts.prompt_tokens == both.prompt_tokens


def test_a_module_without_weights_is_answered_from_its_examples(bank: Bank, book: list[Example]):
    remove_fact(bank.reader, bank.texts, book[1].question)
    answer = bank.ask(book[0].question)
    assert (answer.kind, answer.text, answer.module) == ("example", book[0].answer, "north")
    assert not answer.is_confirmed
    assert bank.ask(book[1].question).text == ""


def test_a_draft_that_differs_is_shown_and_nobody_is_sure(bank: Bank, book: list[Example]):
    other = [Example(book[0].prompt, "never trained")]
    bank.write_all([draft_from_examples("west", other)], settings=replace(TINY, exposures=1))
    bank.forget("north")
    answer = bank.ask(book[0].question)
    assert (answer.kind, answer.text, answer.module) == ("example", "never trained", "west")
    assert not answer.is_confirmed
    assert answer.p is not None
    assert answer.p <= 0.9
    assert answer.candidates


def test_contradicting_modules_are_both_heard_and_neither_is_sure(bank: Bank, book: list[Example]):
    other = [Example((Message("user", book[0].question.lower()),), "000-000-0000")]
    bank.write_all([draft_from_examples("west", other)], settings=TINY)
    for mode in ("exact", "adapter", "auto"):
        answer = bank.ask(book[0].question, mode=mode)
        assert answer.p is not None
        assert answer.p <= 0.5
        assert book[0].answer in answer.text
        assert "000-000-0000" in answer.text
        assert "module 'west' says '000-000-0000'" in answer.note


def test_the_lookup_follows_the_bank(bank: Bank, book: list[Example]):
    assert bank.ask(book[0].question, mode="exact").kind == "example"
    bank.forget("north")
    forgotten = bank.ask(book[0].question, mode="exact")
    assert forgotten.kind == "abstained"
    assert book[0].answer not in str(forgotten.as_json(explain=True))


def test_one_look_stays_with_the_bank_it_began_with(
    bank: Bank, book: list[Example], monkeypatch: pytest.MonkeyPatch
):
    """Another process drops the first module while a question is looked up."""
    stored, read_current = bank.state.examples, StoredExamples._current
    bank.ask(book[0].question, mode="exact")

    def current_and_then_forget(examples: StoredExamples) -> StoredQuestions | None:
        index = read_current(examples)
        if "north" in bank.store.names():
            bank.forget("north")
        return index

    monkeypatch.setattr(StoredExamples, "_current", current_and_then_forget)
    (looked,) = stored.look_up([book[4].question])
    assert looked.best is not None
    assert looked.best.question == book[4].question


def test_modules_without_examples_answer_by_their_weights(
    bank: Bank, book: list[Example], tmp_path: Path
):
    folder = tmp_path / "north"
    export_module(bank.store, bank.store.current("north"), folder)
    (folder / EXAMPLES).unlink(missing_ok=True)
    bank.forget("north")
    bank.import_(folder, "north")
    assert EXAMPLES not in bank.store.current("north").files
    assert bank.ask(book[0].question, mode="exact").kind == "abstained"
    assert bank.ask(book[5].question, mode="exact").text == book[5].answer


def test_switched_off_a_module_answers_by_its_weights_alone(bank: Bank, book: list[Example]):
    bank.looks_up = False
    answer = bank.ask(book[0].question)
    assert (answer.kind, answer.used, answer.example) == ("module", "adapter", None)


def test_a_follow_up_is_not_taken_for_a_question_by_itself(bank: Bank):
    turns = (Message("user", "Who is Oda?"), Message("assistant", "A smith."))
    example = Example((*turns, Message("user", "And her birthday?")), "In May")
    bank.write_all([draft_from_examples("west", [example])], settings=TINY)
    assert bank.ask("And her birthday?", mode="exact").text == ""


def test_an_empty_question_is_refused(bank: Bank):
    with pytest.raises(UsageError, match="the question is empty"):
        bank.ask(" ", mode="exact")


def test_an_empty_bank_holds_nothing(bank: Bank):
    for name in ("north", "south", "east"):
        bank.forget(name)
    assert bank.ask("Who?", mode="exact").kind == "abstained"


def test_the_answer_says_from_which_stored_example_it_is(bank: Bank, book: list[Example]):
    answer = bank.ask(book[0].question, mode="exact")
    assert provenance(answer).startswith(
        f'from north version 1, source north.csv, stored example "{book[0].question}", '
    )


def test_drafts_agree_with_answers_without_case_and_marks_or_cut_off():
    assert agree(" Oslo. ", "oslo")
    assert agree("a very long answer that is cut", "A very long answer that is cut off here")
    assert not agree("Os", "Oslo")
    assert not agree("", "Oslo")
    assert not agree("555-1235", "555-1234")
