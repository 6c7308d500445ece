"""Checks of written items: support, self-containment, repetitions, and coverage of the source."""

import os
from pathlib import Path

import pytest

from lorabank.synthesis.coverage import (
    choose_items,
    measure_coverage,
    names_of,
    sentences_of,
    uncovered_sentences,
)
from lorabank.synthesis.facts import refine_variant
from lorabank.synthesis.formats import FormatKind
from lorabank.synthesis.item_checks import (
    HeldOutQuestions,
    is_question,
    is_repeat,
    is_self_contained,
    name_document,
    refine_item,
    support,
)
from lorabank.synthesis.replies import WrittenItem
from lorabank.synthesis.sources import SourceText
from lorabank.tasks.examples import from_pair

DATA = os.environ.get("LORABANK_DATA")
TEXT = (
    "Nikola Tesla moved to Prague in 1880. He attended lectures in philosophy at the university. "
    "His workshop cost 12,500 crowns and had two lathes."
)
TESLA = SourceText("t.md", "Tesla in Prague", "“Tesla in Prague”", "“Tesla in Prague”", "", TEXT)


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
def test_support_is_the_share_of_an_answer_that_its_source_has(
    answer: str, least: float, most: float
):
    assert least <= support(answer, TESLA) <= most


@pytest.mark.parametrize(
    ("question", "named"),
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
def test_this_paper_is_replaced_by_the_title(question: str, named: str):
    assert name_document(question, "“T”") == named


@pytest.mark.parametrize(
    ("question", "is_alone"),
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
def test_a_question_with_an_open_reference_is_not_self_contained(question: str, is_alone: bool):
    assert is_self_contained(question) is is_alone


def test_questions_are_told_from_statements():
    assert is_question("Name the city where Tesla studied.")
    assert is_question("In 1880, Tesla moved where?")
    assert not is_question("The 1880 move to Prague.")


@pytest.mark.parametrize(
    ("item", "kind", "reason_part"),
    [
        (WrittenItem("When did Tesla move?", "in 1880"), FormatKind.QA, ""),
        (WrittenItem("Did Tesla move to Prague in 1880?", "Yes"), FormatKind.QA, ""),
        (WrittenItem("Did Darwin sail to Peru in 1835?", "No"), FormatKind.QA, "does not support"),
        (WrittenItem("When did Tesla move?", "in 1890"), FormatKind.QA, "does not support"),
        (WrittenItem("When did he move?", "in 1880"), FormatKind.QA, "needs its passage"),
        (WrittenItem("Tesla", "in 1880"), FormatKind.QA, "no question"),
        (
            WrittenItem("When did Tesla move?", "When did Tesla move?"),
            FormatKind.QA,
            "an answer that asks",
        ),
        (WrittenItem("", TEXT.upper()), FormatKind.REWRITE, "a copy"),
        (WrittenItem("", "Tesla moved."), FormatKind.REWRITE, "too short"),
        (WrittenItem("", TEXT + " " + TEXT), FormatKind.SUMMARY, "too long"),
        (
            WrittenItem("", "Tesla moved to Prague in 1880 and attended lectures."),
            FormatKind.SUMMARY,
            "",
        ),
        (
            WrittenItem("", "Tesla moved to Prague in 1980 and attended."),
            FormatKind.SUMMARY,
            "does not support",
        ),
    ],
)
def test_an_item_is_used_or_refused_with_a_reason(
    item: WrittenItem, kind: FormatKind, reason_part: str
):
    refined, refusal = refine_item(item, kind, TESLA)
    assert (refined is not None) == (not reason_part)
    assert reason_part in refusal


@pytest.mark.parametrize(
    ("item", "kind", "reason_part"),
    [
        (WrittenItem("Which city is Ghana governed from?", ""), FormatKind.PARAPHRASE, ""),
        (WrittenItem("What is the capital of Ghana?", ""), FormatKind.PARAPHRASE, "as it was"),
        (
            WrittenItem("Which city is that country governed from?", ""),
            FormatKind.PARAPHRASE,
            "without the names",
        ),
        (
            WrittenItem("Is Accra where Ghana is governed from?", ""),
            FormatKind.PARAPHRASE,
            "gives the answer",
        ),
        (WrittenItem("Of which country is Accra the capital?", "Ghana"), FormatKind.REVERSE, ""),
        (WrittenItem("Which country is it?", "Ghana"), FormatKind.REVERSE, "does not state"),
        (WrittenItem("What is Accra?", "a town"), FormatKind.REVERSE, "not in the question"),
        (WrittenItem("Is Accra in Ghana?", "Ghana"), FormatKind.REVERSE, "gives its answer"),
    ],
)
def test_a_variant_of_a_fact_is_used_or_refused_with_a_reason(
    item: WrittenItem, kind: FormatKind, reason_part: str
):
    refined, refusal = refine_variant(
        item, kind, from_pair("What is the capital of Ghana?", "Accra")
    )
    assert (refined is not None) == (not reason_part)
    assert reason_part in refusal
    if refined and kind is FormatKind.PARAPHRASE:
        assert refined.answer == "Accra"


def test_an_item_that_repeats_an_earlier_one_is_recognised():
    earlier = [WrittenItem("Where did Tesla study?", "Prague"), WrittenItem("", TEXT)]
    assert is_repeat(WrittenItem("where did Tesla study", "in the city of Prague"), earlier)
    assert is_repeat(WrittenItem("Tesla did study where?", "Prague"), earlier)
    assert not is_repeat(WrittenItem("Where did Edison study?", "Prague"), earlier)
    assert is_repeat(WrittenItem("", TEXT.replace("two", "three")), earlier[1:])
    assert not is_repeat(
        WrittenItem("", "In 1880 Prague saw Tesla come and hear lectures."), earlier[1:]
    )


def test_reworded_held_out_questions_are_recognised_and_others_are_not():
    held_out = HeldOutQuestions(
        ["What is the main advantage of diffusion planners over forward models?"]
    )
    assert held_out.find_match(
        "What is the main advantage of diffusion planners over forward models"
    )
    assert held_out.find_match("Name what is the main advantage of diffusion planners over models?")
    assert not held_out.find_match("What is the main advantage of small cars?")
    assert not held_out.find_match(
        "Which planners have an advantage over forward diffusion models?"
    )
    assert not HeldOutQuestions([]).find_match("What is it?")


def test_coverage_counts_sentences_and_names():
    items = [
        WrittenItem("When did Tesla move to Prague?", "1880"),
        WrittenItem("What had two lathes?", "It had"),
    ]
    assert len(sentences_of(TEXT)) == 3
    assert uncovered_sentences(TEXT, items) == [sentences_of(TEXT)[1]]
    assert names_of("In Prague, Nikola Tesla met Edison. The end.") == [
        "Prague",
        "Nikola Tesla",
        "Edison",
    ]
    coverage = measure_coverage(TEXT, items)
    assert (coverage.sentences, coverage.sentences_covered) == (3, 2)


def test_a_question_about_each_sentence_is_chosen_first():
    moves = [
        WrittenItem(f"When did Tesla move {how} to Prague?", "1880")
        for how in ("by rail", "on", "off")
    ]
    lathes = WrittenItem("How many lathes had the workshop?", "two lathes")
    assert choose_items(TEXT, [*moves, lathes], 2) == [moves[0], lathes]
    assert choose_items(TEXT, [*moves, lathes], 3) == [moves[0], moves[1], lathes]
    assert choose_items(TEXT, moves, 9) == moves


@pytest.mark.skipif(not DATA, reason="LORABANK_DATA is not set")
def test_the_support_limit_separates_a_papers_answers_from_those_of_others():
    from lorabank.tasks.datasets.paperqa import read_papers

    papers = read_papers(Path(str(DATA)) / "paperqa")
    sources = [
        SourceText(paper.title, paper.title, paper.title, paper.title, "", paper.introduction)
        for paper in papers
    ]
    own_supported = [
        support(example.answer, sources[i]) >= 0.6
        for i, paper in enumerate(papers)
        for example in paper.train
    ]
    other_supported = [
        support(example.answer, source) >= 0.6
        for i, paper in enumerate(papers)
        for example in paper.train[::4]
        for source in sources[:i] + sources[i + 1 :]
    ]
    assert sum(own_supported) / len(own_supported) > 0.95
    assert sum(other_supported) / len(other_supported) < 0.05


def test_sentences_and_names_are_found_beyond_english():
    names = names_of("the guard Élise Ørsted met Иван Петров there")
    assert names == ["Élise Ørsted", "Иван Петров"]
    chinese = ["灯塔建于一八八七年。", "灯塔由图瓦看守。"]
    assert sentences_of("好。".join(chinese)) == chinese
