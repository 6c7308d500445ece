"""Searching what a bank has in writing: stored answers and passages, the nearest first."""

from typing import NamedTuple

from lorabank.bank.bank import Bank


class NearText(NamedTuple):
    """A stored question with its answer, or a passage of a document."""

    score: float
    """Number from 0 to 1: how sure a stored question is the one asked, or the share of its words
    that a passage has."""
    text: str
    module: str
    """Name of the module; empty for a fact that is remembered only."""
    source: str | None


def nearest_texts(bank: Bank, question: str, k: int) -> list[NearText]:
    """Return at most `k` texts, the nearest first."""
    (lookup,) = bank.state.examples.look_up([question])
    texts = [
        NearText(near.p, f"{near.question} {near.answer}", near.module, near.source)
        for near in lookup.nearest
    ]
    for excerpt in bank.excerpts.search([question], k=k)[0]:
        document = excerpt.citation.document
        texts.append(NearText(excerpt.coverage, excerpt.text, excerpt.module, document))
    return sorted(texts, key=lambda text: -text.score)[:k]
