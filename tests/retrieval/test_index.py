from pathlib import Path

import numpy as np
import pytest

from lorabank.errors import UsageError
from lorabank.retrieval.index import TextIndex
from lorabank.retrieval.indexed_texts import split_into_passages

KEYS = [
    ("tesla", "text", "Nikola Tesla was an inventor. He patented an induction motor in 1888."),
    ("luther", "text", "Martin Luther was a monk. He nailed his theses to a church door."),
    ("phones", "question", "What is the phone number of Baba Cece?"),
    ("phones", "question", "What is the phone number of Kimu Gugu?"),
]


@pytest.fixture
def index() -> TextIndex:
    """Vectors by hand: each module's sentences along its own axis."""
    pieces = split_into_passages(KEYS)
    axes = {name: i for i, name in enumerate(("luther", "phones", "tesla"))}
    return TextIndex(pieces, vectors=np.eye(3)[[axes[s.module] for s in pieces.sentences]])


@pytest.mark.parametrize(
    ("question", "module"),
    [
        ("Who patented the induction motor?", "tesla"),
        ("What did Luther nail to a door?", "luther"),
        ("And Gugu's phone?", "phones"),
        ("Is that a Lutheran church?", "luther"),  # by a run of letters: its stem is another
    ],
)
def test_words_find_their_module(index: TextIndex, question: str, module: str):
    assert index.search(question, method="bm25")[0].name == module


def test_meaning_finds_what_words_do_not(index: TextIndex):
    like_tesla = np.array([0.0, 0.1, 0.9])
    assert index.search("Qui?", like_tesla, method="dense")[0].name == "tesla"
    found = index.search("Qui?", like_tesla)
    assert [each.name for each in found] == ["tesla", "phones", "luther"]
    assert found[0].score_parts["dense"] == pytest.approx(0.9)
    assert found[0].score_parts["bm25"] == 0


def test_hybrid_without_a_vector_is_words_alone(index: TextIndex):
    question = "Who patented the induction motor?"
    assert index.search(question) == index.search(question, method="bm25")


@pytest.mark.parametrize("question", ["", "?", "zzz"])
def test_where_nothing_fits_all_are_equal_and_in_order_of_name(index: TextIndex, question: str):
    found = index.search(question, method="bm25")
    assert [each.name for each in found] == ["luther", "phones", "tesla"]
    assert [each.score for each in found] == [0, 0, 0]


def test_equal_texts_come_by_name():
    index = TextIndex(
        split_into_passages([(name, "text", "The same words.") for name in ("c", "a", "b")])
    )
    assert [each.name for each in index.search("same words")] == ["a", "b", "c"]


def test_k_bounds_what_is_found(index: TextIndex):
    assert len(index.search("monk", k=2)) == 2


def test_the_passage_that_fits_is_named():
    filler = " ".join(f"Sentence {i} is about rain." for i in range(100))
    index = TextIndex(
        split_into_passages([("a", "text", f"{filler} The motor is new."), ("b", "text", "No.")])
    )
    found = index.search("Which motor?")[0]
    assert found.passage.endswith("The motor is new.")
    assert not found.passage.startswith("Sentence 0 ")


def test_saved_and_loaded_finds_the_same(index: TextIndex, tmp_path: Path):
    index.save(tmp_path / "index")
    loaded = TextIndex.load(tmp_path / "index")
    vector = np.array([0.6, 0.0, 0.8])
    for question in ("Who patented the motor?", "Baba Cece", ""):
        mine, theirs = index.search(question, vector), loaded.search(question, vector)
        assert [each.name for each in mine] == [each.name for each in theirs]
        assert [e.score for e in mine] == pytest.approx([e.score for e in theirs], abs=1e-3)
        assert [each.passage for each in mine] == [each.passage for each in theirs]


def test_unknown_method_raises(index: TextIndex):
    with pytest.raises(UsageError, match="method must be bm25, dense, hybrid, got 'sparse'"):
        index.search("monk", method="sparse")


def test_dense_without_vectors_raises():
    index = TextIndex(split_into_passages(KEYS))
    with pytest.raises(UsageError, match="method dense needs an embedding model"):
        index.search("monk", np.ones(3), method="dense")
