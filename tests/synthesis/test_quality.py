import os
from pathlib import Path

import pytest

from lorabank.synthesis.coverage import choose, measure, names_of, sentences_of, uncovered
from lorabank.synthesis.facts import refine_fact
from lorabank.synthesis.formats import Kind
from lorabank.synthesis.pieces import Piece
from lorabank.synthesis.quality import (
    HeldOut,
    is_question,
    is_repeat,
    is_self_contained,
    refine,
    support,
    with_title,
)
from lorabank.synthesis.replies import Item
from lorabank.tasks.examples import from_pair

DATA = os.environ.get("LORABANK_DATA")
TEXT = (
    "Nikola Tesla moved to Prague in 1880. He attended lectures in philosophy at the university. "
    "His workshop cost 12,500 crowns and had two lathes."
)
TESLA = Piece("t.md", "Tesla in Prague", "“Tesla in Prague”", "“Tesla in Prague”", "", TEXT)


@pytest.mark.parametrize(
    ("answer", "least", "most"),
    [
        ("Prague", 1, 1),
        ("in 1880", 1, 1),
        ("12500 crowns", 1, 1),
        ("He was attending a lecture in philosophy", 0.9, 1),
        ("Two lathes were in the workshop, which cost a fortune", 0.5, 0.9),
        ("in 1881", 0, 0),
        ("Vienna", 0, 0),
        ("The quick brown fox jumps over lazy dogs", 0, 0.1),
    ],
)
def test_support(answer: str, least: float, most: float):
    assert least <= support(answer, TESLA) <= most


@pytest.mark.parametrize(
    ("question", "titled"),
    [
        ("What does this paper propose?", "What does “T” propose?"),
        ("Who is the main figure of the text?", "Who is the main figure of “T”?"),
        ("According to the passage, who won?", "According to “T”, who won?"),
        ("What do the authors claim?", "What do the authors of “T” claim?"),
        ("Who wrote the text of the treaty?", "Who wrote the text of the treaty?"),
        (
            "Which works did the author of Faust write?",
            "Which works did the author of Faust write?",
        ),
        ("What is a paperweight?", "What is a paperweight?"),
    ],
)
def test_the_title_takes_the_place_of_this_paper(question: str, titled: str):
    assert with_title(question, "“T”") == titled


@pytest.mark.parametrize(
    ("question", "stands_alone"),
    [
        ("When did Tesla move to Prague?", True),
        ("When did he move to Prague?", False),
        ("When Tesla moved, what did he take with him?", True),
        ("Who moved his court to Warsaw?", True),
        ("What is its capital?", False),
        ("Why did the army flee after it lost?", True),
        ("What does this method need?", False),
        ("Why is it important to pay?", True),
        ("What is the name of their leader?", False),
        ("Which item has the most italics?", True),
    ],
)
def test_self_contained(question: str, stands_alone: bool):
    assert is_self_contained(question) is stands_alone


def test_no_question_is_none():
    assert is_question("Name the city where Tesla studied.")
    assert is_question("In 1880, Tesla moved where?")
    assert not is_question("The 1880 move to Prague.")


@pytest.mark.parametrize(
    ("item", "kind", "why"),
    [
        (Item("When did Tesla move?", "in 1880"), Kind.QA, ""),
        (Item("Did Tesla move to Prague in 1880?", "Yes"), Kind.QA, ""),
        (Item("Did Darwin sail to Peru in 1835?", "No"), Kind.QA, "does not support"),
        (Item("When did Tesla move?", "in 1890"), Kind.QA, "does not support"),
        (Item("When did he move?", "in 1880"), Kind.QA, "needs its passage"),
        (Item("Tesla", "in 1880"), Kind.QA, "no question"),
        (Item("When did Tesla move?", "When did Tesla move?"), Kind.QA, "an answer that asks"),
        (Item("", TEXT.upper()), Kind.REWRITE, "a copy"),
        (Item("", "Tesla moved."), Kind.REWRITE, "too short"),
        (Item("", TEXT + " " + TEXT), Kind.SUMMARY, "too long"),
        (Item("", "Tesla moved to Prague in 1880 and attended lectures."), Kind.SUMMARY, ""),
        (Item("", "Tesla moved to Prague in 1980 and attended."), Kind.SUMMARY, "does not support"),
    ],
)
def test_refine(item: Item, kind: Kind, why: str):
    found, reason = refine(item, kind, TESLA)
    assert (found is not None) == (not why)
    assert why in reason


@pytest.mark.parametrize(
    ("item", "kind", "why"),
    [
        (Item("Which city is Ghana governed from?", ""), Kind.PARAPHRASE, ""),
        (Item("What is the capital of Ghana?", ""), Kind.PARAPHRASE, "as it was"),
        (
            Item("Which city is that country governed from?", ""),
            Kind.PARAPHRASE,
            "without the names",
        ),
        (Item("Is Accra where Ghana is governed from?", ""), Kind.PARAPHRASE, "gives the answer"),
        (Item("Of which country is Accra the capital?", "Ghana"), Kind.REVERSE, ""),
        (Item("Which country is it?", "Ghana"), Kind.REVERSE, "does not state"),
        (Item("What is Accra?", "a town"), Kind.REVERSE, "not in the question"),
        (Item("Is Accra in Ghana?", "Ghana"), Kind.REVERSE, "gives its answer"),
    ],
)
def test_variants_of_a_fact_are_held_against_it(item: Item, kind: Kind, why: str):
    found, reason = refine_fact(item, kind, from_pair("What is the capital of Ghana?", "Accra"))
    assert (found is not None) == (not why)
    assert why in reason
    if found and kind is Kind.PARAPHRASE:
        assert found.answer == "Accra"


def test_repeats():
    earlier = [Item("Where did Tesla study?", "Prague"), Item("", TEXT)]
    assert is_repeat(Item("where did Tesla study", "in the city of Prague"), earlier)
    assert is_repeat(Item("Tesla did study where?", "Prague"), earlier)
    assert not is_repeat(Item("Where did Edison study?", "Prague"), earlier)
    assert is_repeat(Item("", TEXT.replace("two", "three")), earlier[1:])
    assert not is_repeat(Item("", "In 1880 Prague saw Tesla come and hear lectures."), earlier[1:])


def test_held_out_questions_are_found_in_other_dress_and_no_others():
    held = HeldOut(["What is the main advantage of diffusion planners over forward models?"])
    assert held.same_as("What is the main advantage of diffusion planners over forward models")
    assert held.same_as("Name what is the main advantage of diffusion planners over models?")
    assert not held.same_as("What is the main advantage of small cars?")
    assert not held.same_as("Which planners have an advantage over forward diffusion models?")
    assert not HeldOut([]).same_as("What is it?")


def test_coverage_by_sentence_and_name():
    items = [Item("When did Tesla move to Prague?", "1880"), Item("What had two lathes?", "It had")]
    assert len(sentences_of(TEXT)) == 3
    assert uncovered(TEXT, items) == [sentences_of(TEXT)[1]]
    assert names_of("In Prague, Nikola Tesla met Edison. The end.") == [
        "Prague",
        "Nikola Tesla",
        "Edison",
    ]
    found = measure(TEXT, items)
    assert (found.sentences, found.sentences_covered) == (3, 2)


def test_one_question_for_each_sentence_is_chosen_first():
    moves = [
        Item(f"When did Tesla move {how} to Prague?", "1880") for how in ("by rail", "on", "off")
    ]
    lathes = Item("How many lathes had the workshop?", "two lathes")
    assert choose(TEXT, [*moves, lathes], 2) == [moves[0], lathes]
    assert choose(TEXT, [*moves, lathes], 3) == [moves[0], moves[1], lathes]
    assert choose(TEXT, moves, 9) == moves


@pytest.mark.skipif(not DATA, reason="LORABANK_DATA is not set")
def test_the_limits_part_a_papers_answers_from_anothers():
    from lorabank.tasks.datasets.paperqa import read_papers

    papers = read_papers(Path(str(DATA)) / "paperqa")
    of = [Piece(p.title, p.title, p.title, p.title, "", p.introduction) for p in papers]
    own = [support(e.answer, of[i]) >= 0.6 for i, p in enumerate(papers) for e in p.train]
    other = [
        support(e.answer, piece) >= 0.6
        for i, paper in enumerate(papers)
        for e in paper.train[::4]
        for piece in of[:i] + of[i + 1 :]
    ]
    assert sum(own) / len(own) > 0.95
    assert sum(other) / len(other) < 0.05
