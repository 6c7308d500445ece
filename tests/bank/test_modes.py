"""Answering with nothing, modules, text and both: the same model, what it reads, what is said."""

from dataclasses import replace

import pytest

from lorabank.bank.answer.modes import MODES
from lorabank.bank.answer.with_text import NOTHING_FOUND
from lorabank.bank.bank import Bank
from lorabank.bank.drafts import draft_from_examples
from lorabank.engine.inference.document_prefix import prompt_with_document
from lorabank.engine.inference.generate import generate
from lorabank.errors import DataError, UsageError
from lorabank.retrieval.documents import document_from_text
from lorabank.tasks.examples import Example, Message

from .conftest import TINY

QUESTION = "What was the trade of Siv Kolbe?"
N = 8


def test_every_mode_answers_and_reports_what_it_used(library: Bank, book: list[Example]):
    answers = {mode: library.ask(QUESTION, mode=mode, max_new_tokens=N) for mode in MODES}
    assert [a.mode for a in answers.values()] == list(MODES)
    for mode in ("none", "rag", "icl"):
        assert (answers[mode].used, answers[mode].kind, answers[mode].module) == (
            mode,
            "bare",
            None,
        )
    for mode in ("adapter+rag", "adapter+icl"):
        assert (answers[mode].used, answers[mode].module) == (mode, "rolls")
        assert answers[mode].source == "rolls.csv"
    for answer in answers.values():
        assert 0 < answer.first_token_s <= answer.seconds
    assert not answers["none"].citations
    assert {c.document for c in answers["rag"].citations} == {"births.md", "trades.md"}
    assert (answers["exact"].text, answers["exact"].used) == ("tanner", "exact")
    library.looks_up = False
    assert library.ask(book[0].question).used == "adapter"


def test_text_modes_answer_as_the_model_does_to_that_prompt(library: Bank):
    base = library.base
    (excerpts,) = library.excerpts.search([QUESTION])
    passages = "\n\n".join(excerpt.text for excerpt in excerpts)
    document = excerpts[0].chunk.document
    contexts = {"rag": passages, "icl": document.text}
    for mode, context in contexts.items():
        prompt = prompt_with_document(base, context, QUESTION, room=N)
        answer = library.ask(QUESTION, mode=mode, max_new_tokens=N)
        assert answer.prompt_tokens == len(prompt.ids)
        assert [answer.text] == generate(base, [prompt.ids], max_new_tokens=N)
    whole = library.ask(QUESTION, mode="icl", max_new_tokens=N).citations[0]
    assert (whole.document, whole.start, whole.end) == ("trades.md", 0, len(document.text))


def test_the_module_reads_the_text_too(library: Bank):
    base = library.base
    (excerpts,) = library.excerpts.search([QUESTION])
    prompt = prompt_with_document(base, excerpts[0].chunk.document.text, QUESTION, room=N)
    with library.reader.loaded_fleet([library.store.current("rolls")]) as fleet:
        want = generate(base, [prompt.ids], fleet=fleet, slots=[0], max_new_tokens=N)
    assert [library.ask(QUESTION, mode="adapter+icl", max_new_tokens=N).text] == want


def test_a_batch_answers_as_its_questions_alone(library: Bank):
    questions = [QUESTION, "In which town was Odd Sunde born?", "Who carried a razor?"]
    for mode in ("none", "rag", "adapter+icl"):
        together = library.ask_all(questions, mode=mode, max_new_tokens=N)
        alone = [library.ask(question, mode=mode, max_new_tokens=N) for question in questions]
        assert [a.text for a in together] == [a.text for a in alone]


def test_nothing_found_is_answered_closed_book_with_a_note(library: Bank):
    unheard = "Xyzzy plugh?"
    answer = library.ask(unheard, mode="rag", max_new_tokens=N)
    assert (answer.used, answer.note, answer.citations) == ("none", NOTHING_FOUND, ())
    assert answer.text == library.ask(unheard, mode="none", max_new_tokens=N).text
    assert library.ask(unheard, mode="adapter+icl", max_new_tokens=N).used == "adapter"


@pytest.mark.parametrize("mode", ["rag", "icl", "adapter+rag", "adapter+icl"])
def test_text_of_a_bank_without_is_refused(bank: Bank, mode: str):
    with pytest.raises(UsageError, match=rf"--with {mode.replace('+', '.')} needs text"):
        bank.ask(QUESTION, mode=mode)


def test_an_unknown_mode_is_refused(bank: Bank):
    with pytest.raises(
        UsageError, match=r"--with must be one of none, exact, adapter, .*, got 'magic'"
    ):
        bank.ask(QUESTION, mode="magic")


def test_a_document_that_does_not_fit_is_refused_and_passages_of_it_are_not(
    library: Bank, book: list[Example]
):
    text = "".join(f"The well number {i} of Hollow Down is {i} feet deep.\n\n" for i in range(900))
    draft = draft_from_examples("wells", book[8:10], source="wells.txt")
    long = replace(draft, documents=(document_from_text("wells.txt", text),))
    library.write_all([long], settings=replace(TINY, exposures=1))
    question = "How deep is the well number 17 of Hollow Down?"
    with pytest.raises(UsageError, match=r"more than .* takes .*--with rag"):
        library.ask(question, mode="icl")
    assert library.ask(question, mode="rag", max_new_tokens=N).used == "rag"


def test_passages_that_do_not_fit_together_are_left_out_and_that_is_said(library: Bank):
    whole = library.ask(QUESTION, mode="rag", max_new_tokens=N)
    library.base.model.config.max_position_embeddings = whole.prompt_tokens + N - 1
    less = library.ask(QUESTION, mode="rag", max_new_tokens=N)
    assert less.citations == whole.citations[:-1]
    assert (
        less.note
        == f"read {len(less.citations)} of {len(whole.citations)} passages: more do not fit"
    )
    library.base.model.config.max_position_embeddings = 100
    with pytest.raises(UsageError, match="more than"):
        library.ask(QUESTION, mode="rag", max_new_tokens=N)


def test_a_question_longer_than_the_context_is_refused(library: Bank):
    with pytest.raises(DataError, match="shorten it"):
        library.ask("why " * 20_000, mode="none")


def test_prompts_are_the_chats_own(library: Bank):
    ids = library.base.chat.prompt_ids([Message("user", QUESTION)])
    assert library.ask(QUESTION, mode="none", max_new_tokens=N).prompt_tokens == len(ids)
