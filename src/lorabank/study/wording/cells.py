"""The result of a cell of a study about wordings.

Held-out wordings are the same for every cell and no cell trains on them. Near misses read like
taught questions and ask for something else; no taught answer is right for one.
"""

from typing import Literal

from lorabank.study.cells import Cell, Stored
from lorabank.study.wording.axes import WordingAxes


class WordingFactResults(Stored):
    """Results by fact, in the order in which the facts were drawn."""

    recalled: list[int]
    """1 where the answer is recalled as taught, else 0."""
    reworded: list[float]
    """Share of its held-out wordings that are answered."""
    wordings: list[int]
    """Number of wordings it was taught in."""


class WordingCell(Cell):
    """One adapter: what it answers of what it was taught, in which words, and what else."""

    kind: Literal["wording"] = "wording"
    axes: WordingAxes
    exposures_per_fact: float
    steps: int
    stopped: str
    """Reason for the end of training: budget, recalled or diverged."""
    recall: float
    """Share of facts whose answer is recalled as taught."""
    recall_before: float
    """Recall of the bare model."""
    recall_reworded: float
    """Share of held-out wordings that are answered."""
    recall_reworded_single: float | None
    """The same of facts that were taught in one wording; None where there are none."""
    recall_reversed: float | None
    """Share of reversed questions that are answered, taught or not; None where there are none."""
    near_miss_answered: float
    """Share of near misses to which the reply is a taught answer."""
    n_held_out: int
    n_reversed: int
    n_near_misses: int
    bits_stored: float
    """Bits of the facts that the adapter has and the base lacks."""
    trainable_parameters: int
    kl_to_base_nats: float
    """Drift from the base on ordinary text."""
    known_before: int
    """Number of simple things that the bare model knows."""
    known_after: int
    """Number of these that it still knows with the adapter."""
    per_fact: WordingFactResults
