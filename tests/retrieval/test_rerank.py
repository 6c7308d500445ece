import numpy as np
import pytest

from lorabank.retrieval.index import SearchHit
from lorabank.retrieval.rerank import TokenVectors, late_interaction_scores, rerank_hits

WORDS = ["red", "blue", "car", "house", "fast", "."]


def tokens(text: str) -> TokenVectors:
    """A word is a token and an axis of its own."""
    ids, offsets, at = [], [], 0
    for word in text.replace(".", " .").split():
        at = text.index(word, at)
        ids.append(WORDS.index(word.lower()))
        offsets.append((at, at + len(word)))
        at += len(word)
    return TokenVectors(np.array(ids), np.array(offsets), np.eye(len(WORDS))[ids])


def score(question: str, *passages: str) -> np.ndarray:
    return late_interaction_scores(tokens(question), [(text, tokens(text)) for text in passages])


def test_every_word_found_in_one_sentence_is_best():
    one, two, none = score("red car", "Red car. Blue house.", "Red house. Blue car.", "Blue house.")
    assert one == pytest.approx(2.0)  # all of the passage's weight and all of a sentence's
    assert none == pytest.approx(0.0)
    assert none < two < one


def test_rare_words_weigh_more():
    with_rare, with_common = score("red fast", "Fast house.", "Red house.", "Red car.")[:2]
    assert with_rare > with_common


def test_a_question_without_tokens_scores_nothing():
    assert score("", "Red car.").tolist() == [0.0]


def test_scores_add_up_to_a_new_order():
    found = [
        SearchHit("a", 1.0, {"bm25": 3.0}, "x"),
        SearchHit("b", 0.9, {}, "y"),
        SearchHit("c", -1.9),
    ]
    new = rerank_hits(found, tokens=np.array([0.0, 1.0, 0.0]))
    assert [each.name for each in new] == ["b", "a", "c"]
    assert new[1].score_parts == {"bm25": 3.0, "tokens": 0.0}
    assert new[0].passage == "y"


def test_equal_scores_keep_the_order():
    found = [SearchHit("a", 1.0), SearchHit("b", 1.0)]
    assert [each.name for each in rerank_hits(found, tokens=np.zeros(2))] == ["a", "b"]
    assert rerank_hits([], tokens=np.zeros(0)) == []
