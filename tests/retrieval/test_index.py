"""Search in the text index: by words, by vectors and by both."""

import numpy as np
import pytest

from lorabank.errors import UsageError
from lorabank.retrieval.index import TextIndex, best_places
from lorabank.retrieval.indexed_texts import split_into_passages

KEYS = [
    ("tesla", "text", "Nikola Tesla was an inventor. He patented an induction motor in 1888."),
    ("luther", "text", "Martin Luther was a monk. He nailed his theses to a church door."),
    ("phones", "question", "What is the phone number of Baba Cece?"),
    ("phones", "question", "What is the phone number of Kimu Gugu?"),
]


@pytest.fixture
def index() -> TextIndex:
    """Return an index whose vectors put each module's sentences on an axis of its own."""
    texts = split_into_passages(KEYS)
    axes = {name: i for i, name in enumerate(("luther", "phones", "tesla"))}
    return TextIndex(texts, vectors=np.eye(3)[[axes[s.module] for s in texts.sentences]])


@pytest.mark.parametrize(
    ("question", "module"),
    [
        ("Who patented the induction motor?", "tesla"),
        ("What did Luther nail to a door?", "luther"),
        ("And Gugu's phone?", "phones"),
        ("Is that a Lutheran church?", "luther"),  # by its runs of letters; its stem differs
    ],
)
def test_words_find_their_module(index: TextIndex, question: str, module: str):
    assert index.search(question, method="bm25")[0].name == module


def test_vectors_find_what_words_do_not(index: TextIndex):
    like_tesla = np.array([0.0, 0.1, 0.9])
    assert index.search("Qui?", like_tesla, method="dense")[0].name == "tesla"
    hits = index.search("Qui?", like_tesla)
    assert [hit.name for hit in hits] == ["tesla", "phones", "luther"]
    assert hits[0].score_parts["dense"] == pytest.approx(0.9)
    assert hits[0].score_parts["bm25"] == 0


def test_hybrid_search_without_a_vector_is_bm25_alone(index: TextIndex):
    question = "Who patented the induction motor?"
    assert index.search(question) == index.search(question, method="bm25")


@pytest.mark.parametrize("question", ["", "?", "zzz"])
def test_without_a_match_all_scores_are_equal_and_names_in_order(index: TextIndex, question: str):
    hits = index.search(question, method="bm25")
    assert [hit.name for hit in hits] == ["luther", "phones", "tesla"]
    assert [hit.score for hit in hits] == [0, 0, 0]


def test_equal_scores_are_ordered_by_name():
    index = TextIndex(
        split_into_passages([(name, "text", "The same words.") for name in ("c", "a", "b")])
    )
    assert [hit.name for hit in index.search("same words")] == ["a", "b", "c"]


def test_k_limits_the_number_of_hits(index: TextIndex):
    assert len(index.search("monk", k=2)) == 2


@pytest.mark.parametrize("k", [1, 2, 5, 49, 50, 80])
def test_the_best_places_are_those_of_a_stable_sort(k: int):
    rng = np.random.default_rng(k)
    for n_distinct in (1, 3, 50):
        scores = rng.integers(0, n_distinct, size=50).astype(np.float32)
        plain = np.argsort(-scores, kind="stable")[:k]
        assert best_places(scores, k).tolist() == plain.tolist()


def test_a_hit_has_the_passage_that_matches_best():
    filler = " ".join(f"Sentence {i} is about rain." for i in range(100))
    index = TextIndex(
        split_into_passages([("a", "text", f"{filler} The motor is new."), ("b", "text", "No.")])
    )
    best = index.search("Which motor?")[0]
    assert best.passage.endswith("The motor is new.")
    assert not best.passage.startswith("Sentence 0 ")


def test_a_loaded_index_finds_what_the_saved_one_found(index: TextIndex):
    loaded = TextIndex.from_bytes(index.to_bytes())
    vector = np.array([0.6, 0.0, 0.8])
    for question in ("Who patented the motor?", "Baba Cece", ""):
        hits, loaded_hits = index.search(question, vector), loaded.search(question, vector)
        assert [hit.name for hit in hits] == [hit.name for hit in loaded_hits]
        assert [hit.score for hit in hits] == pytest.approx(
            [hit.score for hit in loaded_hits], abs=1e-3
        )
        assert [hit.passage for hit in hits] == [hit.passage for hit in loaded_hits]


def test_an_unknown_method_raises(index: TextIndex):
    with pytest.raises(UsageError, match="method must be bm25, dense, hybrid, got 'sparse'"):
        index.search("monk", method="sparse")


def test_a_dense_search_without_vectors_raises():
    index = TextIndex(split_into_passages(KEYS))
    with pytest.raises(UsageError, match="method dense needs an embedding model"):
        index.search("monk", np.ones(3), method="dense")
