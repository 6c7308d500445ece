"""Reranking: the first candidates of a question read again, word by word.

Late interaction (ColBERT, arXiv:2004.12832): each token of the question looks for the token of the
passage that is most like it, here among the token vectors of an ordinary sentence embedder, and a
token counts the more, the fewer of the candidates have it. A passage scores once for the whole and
once for its best sentence. What the base model finds likely to be asked of a passage can be added
(engine/asked.py). All scores are standardised over the candidates and weigh the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lorabank.retrieval.index import SearchHit, standardise
from lorabank.retrieval.indexed_texts import sentence_spans

N_CANDIDATES = 20


@dataclass(frozen=True, slots=True, eq=False)
class TokenVectors:
    """A text in tokens."""

    ids: np.ndarray
    """(T,)"""
    offsets: np.ndarray
    """(T, 2) first character and the one after the last; equal for marks that are no text."""
    vectors: np.ndarray
    """(T, d)"""

    def part(self, start: int, end: int) -> "TokenVectors":
        """The tokens between two characters, without marks."""
        begins, ends = self.offsets.T
        inside = (ends > start) & (begins < end) & (ends > begins)
        return TokenVectors(self.ids[inside], self.offsets[inside], self.vectors[inside])


def late_interaction_scores(
    question: TokenVectors, passages: Sequence[tuple[str, TokenVectors]]
) -> np.ndarray:
    """(n,) how well each passage answers every token of the question.

    Args: passages: (text, its tokens), with vectors of length 1, as the question's.
    """
    if not len(question.ids):
        return np.zeros(len(passages), dtype=np.float32)
    weights = _weights(question, [tokens for _, tokens in passages])
    return np.array([_interaction(question, weights, *each) for each in passages], np.float32)


def rerank_hits(found: Sequence[SearchHit], **scores: np.ndarray) -> list[SearchHit]:
    """Candidates in their new order.

    Args: scores: (n,) each, by name; they join the parts a candidate's score is made of.
    """
    total = standardise(np.array([each.score for each in found]))
    for values in scores.values():
        total = total + standardise(values)
    return [
        SearchHit(
            found[i].name,
            float(total[i]),
            {**found[i].score_parts, **{name: float(values[i]) for name, values in scores.items()}},
            found[i].passage,
        )
        for i in np.argsort(-total, kind="stable")
    ]


def _interaction(
    question: TokenVectors, weights: np.ndarray, text: str, passage: TokenVectors
) -> float:
    likeness = question.vectors @ passage.vectors.T  # (Q, T)
    begins, ends = passage.offsets.T
    best = [
        float(weights @ likeness[:, inside].max(1))
        for start, end in sentence_spans(text)
        if (inside := (ends > start) & (begins < end)).any()
    ]
    return float(weights @ likeness.max(1)) + max(best) if best else 0.0


def _weights(question: TokenVectors, passages: Sequence[TokenVectors]) -> np.ndarray:
    """(Q,) adding up to 1: rare among the candidates weighs much."""
    n = len(passages)
    have = np.array([sum(token in tokens.ids for tokens in passages) for token in question.ids])
    rarity = np.log(1 + (n - have + 0.5) / (have + 0.5))
    weights: np.ndarray = rarity / rarity.sum()
    return weights.astype(np.float32)
