"""Reranking of the first candidates by late interaction.

Each token of the question is matched with the most similar token of a passage (ColBERT,
arXiv:2004.12832), here by the token vectors of an ordinary sentence embedder. A token weighs more
the fewer candidates contain it. A passage scores for its whole text and again for its best
sentence. Other scores, such as how likely the base model finds the question, can be added: all are
standardised over the candidates and weigh the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lorabank.retrieval.index import SearchHit, standardise
from lorabank.retrieval.sentences import sentence_spans

N_CANDIDATES = 20


@dataclass(frozen=True, slots=True, eq=False)
class TokenVectors:
    """Tokens of a text with their vectors."""

    ids: np.ndarray
    """(T,) token ids."""
    offsets: np.ndarray
    """(T, 2) first character and the one after the last; equal for special tokens."""
    vectors: np.ndarray
    """(T, d) token vectors."""

    def part(self, start: int, end: int) -> "TokenVectors":
        """Return the tokens between two characters, without special tokens."""
        begins, ends = self.offsets.T
        inside = (ends > start) & (begins < end) & (ends > begins)
        return TokenVectors(self.ids[inside], self.offsets[inside], self.vectors[inside])


def late_interaction_scores(
    question: TokenVectors, passages: Sequence[tuple[str, TokenVectors]]
) -> np.ndarray:
    """Return (n,) scores of how well each passage matches the tokens of the question.

    Args:
        passages: text and tokens of each; their vectors and the question's have length 1.
    """
    if not len(question.ids):
        return np.zeros(len(passages), dtype=np.float32)
    weights = _weights(question, [tokens for _, tokens in passages])
    return np.array([_interaction(question, weights, *passage) for passage in passages], np.float32)


def rerank_hits(hits: Sequence[SearchHit], **scores: np.ndarray) -> list[SearchHit]:
    """Return the candidates in their new order.

    Args:
        scores: (n,) scores by name; each is added to a candidate's score and its score parts.
    """
    total = standardise(np.array([hit.score for hit in hits]))
    for values in scores.values():
        total = total + standardise(values)
    return [
        SearchHit(
            hits[i].name,
            float(total[i]),
            {**hits[i].score_parts, **{name: float(values[i]) for name, values in scores.items()}},
            hits[i].passage,
        )
        for i in np.argsort(-total, kind="stable")
    ]


def _interaction(
    question: TokenVectors, weights: np.ndarray, text: str, passage: TokenVectors
) -> float:
    similarity = question.vectors @ passage.vectors.T  # (Q, T)
    begins, ends = passage.offsets.T
    best = [
        float(weights @ similarity[:, inside].max(1))
        for start, end in sentence_spans(text)
        if (inside := (ends > start) & (begins < end)).any()
    ]
    return float(weights @ similarity.max(1)) + max(best) if best else 0.0


def _weights(question: TokenVectors, passages: Sequence[TokenVectors]) -> np.ndarray:
    """Return (Q,) weights that add up to 1; tokens rare among the candidates weigh most."""
    n = len(passages)
    n_containing = np.array(
        [sum(token in tokens.ids for tokens in passages) for token in question.ids]
    )
    rarity = np.log(1 + (n - n_containing + 0.5) / (n_containing + 0.5))
    weights: np.ndarray = rarity / rarity.sum()
    return weights.astype(np.float32)
