"""Reranking by late interaction: scores of token vectors, and the new order of the hits."""

import numpy as np
import pytest

from lorabank.retrieval.index import SearchHit
from lorabank.retrieval.rerank import TokenVectors, late_interaction_scores, rerank_hits

WORDS = ["red", "blue", "car", "house", "fast", "."]


def embed(text: str) -> TokenVectors:
    """Return token vectors in which each word is one token, with an axis of its own."""
    ids, offsets, start = [], [], 0
    for word in text.replace(".", " .").split():
        start = text.index(word, start)
        ids.append(WORDS.index(word.lower()))
        offsets.append((start, start + len(word)))
        start += len(word)
    return TokenVectors(np.array(ids), np.array(offsets), np.eye(len(WORDS))[ids])


def score(question: str, *passages: str) -> np.ndarray:
    return late_interaction_scores(embed(question), [(text, embed(text)) for text in passages])


def test_all_words_in_one_sentence_score_best():
    together, apart, missing = score(
        "red car", "Red car. Blue house.", "Red house. Blue car.", "Blue house."
    )
    assert together == pytest.approx(2.0)  # all of the passage's weight and all of a sentence's
    assert missing == pytest.approx(0.0)
    assert missing < apart < together


def test_rare_words_have_more_weight():
    with_rare, with_common = score("red fast", "Fast house.", "Red house.", "Red car.")[:2]
    assert with_rare > with_common


def test_a_question_without_tokens_scores_nothing():
    assert score("", "Red car.").tolist() == [0.0]


def test_token_scores_change_the_order():
    hits = [
        SearchHit("a", 1.0, {"bm25": 3.0}, "x"),
        SearchHit("b", 0.9, {}, "y"),
        SearchHit("c", -1.9),
    ]
    reranked = rerank_hits(hits, tokens=np.array([0.0, 1.0, 0.0]))
    assert [hit.name for hit in reranked] == ["b", "a", "c"]
    assert reranked[1].score_parts == {"bm25": 3.0, "tokens": 0.0}
    assert reranked[0].passage == "y"


def test_equal_scores_keep_the_order():
    hits = [SearchHit("a", 1.0), SearchHit("b", 1.0)]
    assert [hit.name for hit in rerank_hits(hits, tokens=np.zeros(2))] == ["a", "b"]
    assert rerank_hits([], tokens=np.zeros(0)) == []
