"""The result of a cell of a capacity study.

Stored bits are counted twice: exactly recalled facts times their entropy, and by likelihood, what
the adapter takes off the entropy (`sum max(0, H - (-log2 p))`, after arXiv:2404.05405). For a phone
number H is 33.2, of a built edit the logarithm of how many values its relation could have given;
how edits of a file were drawn nobody knows, so there H is the bare model's surprise.
"""

from typing import Literal

from lorabank.study.capacity.axes import CapacityAxes
from lorabank.study.cells import Cell, Stored


class EditShares(Stored):
    """Shares of edits that turned out well; None where no edit has such prompts."""

    efficacy: float | None
    efficacy_published: float | None
    paraphrase: float | None
    neighbourhood: float | None


class FactResults(Stored):
    """Results by fact, in the order in which the facts were drawn."""

    recalled: list[int]
    """1 where the answer is recalled, else 0."""
    bits: list[float]
    """Stored bits by likelihood."""


class CapacityCell(Cell):
    """One adapter: what it was taught, what it recalls, how many bits it stores."""

    kind: Literal["capacity"] = "capacity"
    axes: CapacityAxes
    placement: str
    """Layers and blocks that hold the adapter, such as `all-linear in blocks 26-29`."""
    exposures_per_fact: float
    steps: int
    stopped: str
    """Reason for the end of training: converged, budget, recall or diverged."""
    recall: float
    recall_before: float
    """Recall of the bare model."""
    recall_published: float
    """Recall as the digits-only match of arXiv:2603.01097 counts it."""
    edits: EditShares | None = None
    """None for tasks without edits."""
    bits_stored: float | None = None
    """Bits that the adapter has and the base lacks; None in cells from before it was stored."""
    bits_exact: float
    """Entropy of the recalled facts."""
    bits_likelihood: float
    bits_demanded: float
    """Entropy of all facts."""
    bits_per_parameter: float
    bits_per_byte: float
    tokens: int
    """Number of answer tokens of all facts together."""
    tokens_per_parameter: float
    tokens_per_byte: float
    loss: float
    """Nats per answer token after training."""
    loss_drop: float
    """Nats per answer token, bare model less adapter."""
    trainable_parameters: int
    adapter_bytes: int
    kl_to_base_nats: float
    """Drift from the base on ordinary text."""
    exposures_to_recall: dict[str, float | None]
    """Exposures at the end of the first epoch with this recall; by recall, None if never."""
    per_fact: FactResults
    curve: list[tuple[float, float, float]]
    """Exposures, loss and recall while training, of some forty epochs."""
