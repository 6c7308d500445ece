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
def made() -> Chronicle:
    return chronicle.build(6000, seed=4)


@pytest.fixture(scope="module")
def reader(made: Chronicle) -> Reader:
    return Reader(sentences(chronicle.render_text(made)))


# A reader of the text alone


@pytest.mark.parametrize("kind", KINDS)
def test_reader_of_the_text_finds_each_answer_and_none_where_there_is_none(
    made: Chronicle, reader: Reader, kind: str
):
    asked = draw_questions(made, kind, seed=0)
    assert len(asked) > 100
    for one in asked:
        assert reader.answer(one.text) == one.answer, one
    assert all((one.answer is None) == (kind == UNANSWERABLE) for one in asked)


def test_reader_says_what_is_told_twice():
    twice = Reader(["By trade Ada Bo was a cooper.", "For a living Ada Bo worked as a baker."])
    with pytest.raises(AssertionError, match=r"What was the trade of Ada Bo\?"):
        twice.answer("What was the trade of Ada Bo?")


@pytest.mark.parametrize("kind", ANSWERABLE)
def test_the_evidence_is_in_its_chapters_and_is_enough(made: Chronicle, kind: str):
    texts = chronicle.render_chapters(made)
    for one in draw_questions(made, kind, seed=0):
        assert len(one.chapters) == len(one.evidence) >= 1
        for chapter, sentence in zip(one.chapters, one.evidence, strict=True):
            assert sentence in texts[chapter - 1]
        assert Reader(one.evidence).answer(one.text) == one.answer


@pytest.mark.parametrize("kind", ANSWERABLE)
def test_without_one_sentence_of_the_evidence_the_answer_is_gone(made: Chronicle, kind: str):
    told = sentences(chronicle.render_text(made))
    for one in draw_questions(made, kind, 15, seed=0):
        # Without the end of a rule it only seems longer, so there the beginning alone is tried.
        for gone in one.evidence[: 1 if "was reeve of" in one.text else None]:
            left = Reader(sentence for sentence in told if sentence != gone)
            assert left.answer(one.text) != one.answer, (one, gone)


# Kinds


def test_multi_hop_evidence_is_in_two_chapters_at_least_and_two_or_three_sentences(made: Chronicle):
    asked = draw_questions(made, MULTI, seed=0)
    assert all(len(set(one.chapters)) > 1 for one in asked)
    assert {len(one.evidence) for one in asked} == {2, 3}
    assert not any(str(one.answer) in one.text for one in asked)


def test_every_kind_asks_in_all_its_ways(made: Chronicle):
    beginnings = {
        kind: {one.text.split()[0] for one in draw_questions(made, kind, seed=0)} for kind in KINDS
    }
    for kind in (SINGLE, MULTI, UNANSWERABLE):
        assert beginnings[kind] >= {"In", "What", "Who", "By", "On", "Which", "For"}
    temporal = [one.text for one in draw_questions(made, TEMPORAL, seed=0)]
    for begins in ("Which came", "How many", "Who became reeve", "Who was reeve"):
        assert sum(text.startswith(begins) for text in temporal) > 10
    pairs = [
        one for one in draw_questions(made, TEMPORAL, seed=0) if one.text.startswith("Which came")
    ]
    is_first = {one.text.startswith(f"Which came first, {one.answer} or") for one in pairs}
    assert is_first == {True, False}  # the place in the question gives nothing away


def test_unanswerable_is_about_known_and_unknown_alike(made: Chronicle):
    text = chronicle.render_text(made)
    asked = [one.text for one in draw_questions(made, UNANSWERABLE, 50, seed=0)]
    people = [" ".join(pair) for one in asked for pair in _names(one)]
    known = [name in text for name in people]
    assert known.count(True) > 5
    assert known.count(False) > 5
    assert sum("the teacher of" in one or "the town where" in one for one in asked) > 5


def _names(text: str) -> list[tuple[str, str]]:
    words = text.rstrip("?").split()
    return [
        (a, b) for a, b in pairwise(words) if len(a) == len(b) == 4 and a.istitle() and b.istitle()
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_no_question_stands_twice_and_fewer_are_the_first_of_more(made: Chronicle, kind: str):
    asked = draw_questions(made, kind, seed=0)
    assert len({one.text for one in asked}) == len(asked)
    assert draw_questions(made, kind, 20, seed=0) == asked[:20]
    assert draw_questions(made, kind, 20, seed=1) != asked[:20]


def test_a_chronicle_of_two_thousand_tokens_has_questions_of_every_kind():
    short = chronicle.build(900, seed=0)  # words; a token more than doubles them
    assert min(len(draw_questions(short, kind, seed=0)) for kind in KINDS) >= 10


def test_a_sentence_alone_has_its_questions_and_no_others():
    only = chronicle.build(500, seed=0, count=lambda text: 3 * len(text))
    assert sum(len(chapter.facts) for chapter in only.chapters) == 1
    assert draw_questions(only, MULTI, seed=0) == draw_questions(only, TEMPORAL, seed=0) == []
    assert (
        len(draw_questions(only, SINGLE, seed=0)) + len(draw_questions(only, UNANSWERABLE, seed=0))
        > 0
    )


# Examples, errors


def test_examples_answer_what_is_not_said_so():
    asked = [
        ChronicleQuestion(SINGLE, "Who?", "Ada", (1,), ("Ada.",)),
        ChronicleQuestion(UNANSWERABLE, "Where?", None),
    ]
    assert to_examples(asked) == [from_pair("Who?", "Ada"), from_pair("Where?", NOT_STATED)]


def test_no_such_kind_raises(made: Chronicle):
    with pytest.raises(UsageError, match="must be single, multi, temporal, unanswerable, got 'x'"):
        draw_questions(made, "x", seed=0)


@pytest.mark.parametrize("n", [-1, 1_000_000])
def test_more_questions_than_there_are_raises(made: Chronicle, n: int):
    with pytest.raises(UsageError, match=rf"temporal questions .* must be 0\.\.\d+, got {n:,}"):
        draw_questions(made, TEMPORAL, n, seed=0)


def test_relations_hang_together():
    for one in chronicle_lore.RELATIONS.values():
        assert bool(one.value) == bool(one.phrase)
        assert all("{s}" in form and "{v}" in form for form in one.statements)
        assert all("{s}" in form and "{v}" not in form for form in one.questions)
