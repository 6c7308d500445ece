"""Questions about a chronicle: answerable from its text, with evidence, and of every kind."""

from itertools import pairwise

import pytest

from lorabank.errors import UsageError
from lorabank.tasks.examples import from_pair
from lorabank.tasks.synthetic import chronicle, chronicle_lore
from lorabank.tasks.synthetic.chronicle import Chronicle
from lorabank.tasks.synthetic.chronicle_questions import (
    KINDS,
    MULTI,
    NOT_STATED,
    SINGLE,
    TEMPORAL,
    UNANSWERABLE,
    ChronicleQuestion,
    draw_questions,
    to_examples,
)
from tests.tasks.chronicle_reader import Reader, sentences

ANSWERABLE = (SINGLE, MULTI, TEMPORAL)


@pytest.fixture(scope="module")
def history() -> Chronicle:
    return chronicle.build(6000, seed=4)


@pytest.fixture(scope="module")
def reader(history: Chronicle) -> Reader:
    return Reader(sentences(chronicle.render_text(history)))


# Answers of a reader that has the text alone


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_of_the_text_finds_the_same_answers_and_no_others(
    history: Chronicle, reader: Reader, kind: str
):
    questions = draw_questions(history, kind, seed=0)
    assert len(questions) > 100
    for question in questions:
        assert reader.answer(question.text) == question.answer, question
    assert all((question.answer is None) == (kind == UNANSWERABLE) for question in questions)


def test_the_reader_refuses_two_answers_to_one_question():
    contradictory = Reader(
        ["By trade Ada Bo was a cooper.", "For a living Ada Bo worked as a baker."]
    )
    with pytest.raises(AssertionError, match=r"What was the trade of Ada Bo\?"):
        contradictory.answer("What was the trade of Ada Bo?")


@pytest.mark.parametrize("kind", ANSWERABLE)
def test_the_evidence_is_in_its_chapters_and_suffices(history: Chronicle, kind: str):
    texts = chronicle.render_chapters(history)
    for question in draw_questions(history, kind, seed=0):
        assert len(question.chapters) == len(question.evidence) >= 1
        for chapter, sentence in zip(question.chapters, question.evidence, strict=True):
            assert sentence in texts[chapter - 1]
        assert Reader(question.evidence).answer(question.text) == question.answer


@pytest.mark.parametrize("kind", ANSWERABLE)
def test_without_one_sentence_of_the_evidence_the_answer_is_gone(history: Chronicle, kind: str):
    all_sentences = sentences(chronicle.render_text(history))
    for question in draw_questions(history, kind, 15, seed=0):
        # Without the sentence that ends a reeve's rule, the rule only seems longer.
        for removed in question.evidence[: 1 if "was reeve of" in question.text else None]:
            reduced = Reader(sentence for sentence in all_sentences if sentence != removed)
            assert reduced.answer(question.text) != question.answer, (question, removed)


# Kinds


def test_multi_hop_evidence_is_two_or_three_sentences_of_several_chapters(history: Chronicle):
    questions = draw_questions(history, MULTI, seed=0)
    assert all(len(set(question.chapters)) > 1 for question in questions)
    assert {len(question.evidence) for question in questions} == {2, 3}
    assert not any(str(question.answer) in question.text for question in questions)


def test_every_kind_of_question_occurs_in_all_its_forms(history: Chronicle):
    beginnings = {
        kind: {question.text.split()[0] for question in draw_questions(history, kind, seed=0)}
        for kind in KINDS
    }
    for kind in (SINGLE, MULTI, UNANSWERABLE):
        assert beginnings[kind] >= {"In", "What", "Who", "By", "On", "Which", "For"}
    temporal = [question.text for question in draw_questions(history, TEMPORAL, seed=0)]
    for begins in ("Which came", "How many", "Who became reeve", "Who was reeve"):
        assert sum(text.startswith(begins) for text in temporal) > 10
    pairs = [
        question
        for question in draw_questions(history, TEMPORAL, seed=0)
        if question.text.startswith("Which came")
    ]
    is_first = {
        question.text.startswith(f"Which came first, {question.answer} or") for question in pairs
    }
    assert is_first == {True, False}  # the place in the question gives nothing away


def test_unanswerable_questions_are_about_known_and_unknown_people(history: Chronicle):
    text = chronicle.render_text(history)
    questions = [question.text for question in draw_questions(history, UNANSWERABLE, 50, seed=0)]
    people = [" ".join(pair) for question in questions for pair in _names(question)]
    is_known = [name in text for name in people]
    assert is_known.count(True) > 5
    assert is_known.count(False) > 5
    phrases = ("the teacher of", "the town where")
    assert sum(any(phrase in question for phrase in phrases) for question in questions) > 5


def _names(text: str) -> list[tuple[str, str]]:
    """Return the names in a question, which are two capitalised words of four letters."""
    words = text.rstrip("?").split()
    return [
        (a, b) for a, b in pairwise(words) if len(a) == len(b) == 4 and a.istitle() and b.istitle()
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_questions_are_distinct_and_a_short_list_is_the_beginning_of_a_long_one(
    history: Chronicle, kind: str
):
    questions = draw_questions(history, kind, seed=0)
    assert len({question.text for question in questions}) == len(questions)
    assert draw_questions(history, kind, 20, seed=0) == questions[:20]
    assert draw_questions(history, kind, 20, seed=1) != questions[:20]


def test_a_chronicle_of_two_thousand_tokens_has_questions_of_every_kind():
    short = chronicle.build(900, seed=0)  # words; a token more than doubles them
    assert min(len(draw_questions(short, kind, seed=0)) for kind in KINDS) >= 10


def test_a_chronicle_of_one_sentence_has_no_multi_hop_or_temporal_questions():
    short = chronicle.build(500, seed=0, count=lambda text: 3 * len(text))
    assert sum(len(chapter.facts) for chapter in short.chapters) == 1
    assert draw_questions(short, MULTI, seed=0) == draw_questions(short, TEMPORAL, seed=0) == []
    assert (
        len(draw_questions(short, SINGLE, seed=0))
        + len(draw_questions(short, UNANSWERABLE, seed=0))
        > 0
    )


# Examples, errors


def test_examples_of_unanswerable_questions_say_that_it_is_not_stated():
    questions = [
        ChronicleQuestion(SINGLE, "Who?", "Ada", (1,), ("Ada.",)),
        ChronicleQuestion(UNANSWERABLE, "Where?", None),
    ]
    assert to_examples(questions) == [from_pair("Who?", "Ada"), from_pair("Where?", NOT_STATED)]


def test_an_unknown_kind_raises(history: Chronicle):
    with pytest.raises(UsageError, match="must be single, multi, temporal, unanswerable, got 'x'"):
        draw_questions(history, "x", seed=0)


@pytest.mark.parametrize("n", [-1, 1_000_000])
def test_more_questions_than_exist_raise(history: Chronicle, n: int):
    with pytest.raises(UsageError, match=rf"temporal questions .* must be 0\.\.\d+, got {n:,}"):
        draw_questions(history, TEMPORAL, n, seed=0)


def test_the_forms_of_a_relation_have_the_placeholders_they_need():
    for relation in chronicle_lore.RELATIONS.values():
        assert bool(relation.value) == bool(relation.phrase)
        assert all("{s}" in form and "{v}" in form for form in relation.statements)
        assert all("{s}" in form and "{v}" not in form for form in relation.questions)
