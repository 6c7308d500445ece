"""Texts are divided into passages and sentences, and words into terms."""

import pytest

from lorabank.retrieval.indexed_texts import PASSAGE_WORDS, split_into_passages
from lorabank.retrieval.sentences import sentence_spans
from lorabank.retrieval.terms import terms


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One is here. Two is there!", ["One is here.", "Two is there!"]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        (
            "Dr. J. Smith met Mrs. Brown. They spoke.",
            ["Dr. J. Smith met Mrs. Brown.", "They spoke."],
        ),
        ("It cost 3.5 million. Is that so? Yes", ["It cost 3.5 million.", "Is that so?", "Yes"]),
        ("  A heading\n\nA paragraph.  ", ["A heading", "A paragraph."]),
        ("", []),
        (" \n ", []),
    ],
)
def test_a_text_is_divided_into_sentences(text: str, sentences: list[str]):
    assert [text[start:end] for start, end in sentence_spans(text)] == sentences


def test_a_sentence_has_its_passage_as_context_and_a_question_none_but_itself():
    texts = split_into_passages(
        [
            ("b", "text", "Rain fell. It stopped."),
            ("a", "question", "Who fell?"),
            ("a", "question", "Who rose?"),
        ]
    )
    assert texts.passages == [("a", "Who fell? Who rose?"), ("b", "Rain fell. It stopped.")]
    assert [(s.module, s.text, s.context) for s in texts.sentences] == [
        ("a", "Who fell?", "Who fell?"),
        ("a", "Who rose?", "Who rose?"),
        ("b", "Rain fell.", "Rain fell. It stopped."),
        ("b", "It stopped.", "Rain fell. It stopped."),
    ]


def test_a_long_text_is_divided_between_sentences_and_nothing_is_lost():
    text = " ".join(f"Sentence {i} has exactly six words." for i in range(200))
    passages = [passage for _, passage in split_into_passages([("a", "text", text)]).passages]
    assert len(passages) == 4
    assert " ".join(passages) == text
    assert max(len(passage.split()) for passage in passages) <= PASSAGE_WORDS


def test_a_sentence_longer_than_a_passage_stays_whole():
    text = "word " * (PASSAGE_WORDS + 50) + "end."
    assert split_into_passages([("a", "text", text)]).passages == [("a", text)]


def test_empty_texts_are_left_out():
    texts = split_into_passages([("a", "text", "  "), ("b", "question", "")])
    assert (texts.passages, texts.sentences) == ([], [])


def test_terms_are_stems_pairs_of_stems_and_runs_of_letters():
    assert terms("The Normans ruled") == [
        "norman", "rule", "norman rule",
        "*_nor", "*norm", "*orma", "*rman", "*mans", "*ans_",
        "*_rul", "*rule", "*uled", "*led_",
    ]  # fmt: skip


def test_a_question_of_stop_words_alone_keeps_them():
    assert terms("Who was it?") == ["who", "was", "it"]
    assert terms("?!") == []
