"""The result of a cell of a study about ranks: what an adapter recalls, and its size."""

from typing import Literal

from lorabank.study.cells import Cell
from lorabank.study.ranks.axes import RanksAxes


class RanksCell(Cell):
    """One adapter: its rank, what it recalls, what it costs."""

    kind: Literal["ranks"] = "ranks"
    axes: RanksAxes
    r_trained: int
    """Rank at which training ended; of AdaLoRA the mean rank asked for."""
    bytes_trained: int
    """Size of an adapter of that rank in float32, before anything is shrunk."""
    adapter_bytes: int
    """Size of the adapter's file."""
    trainable_parameters: int
    exposures_per_fact: float
    stopped: str
    recall: float
    """Share of facts recalled as taught."""
    recall_by_rendering: dict[str, float]
    recall_reworded: float | None
    """Share of held-out wordings that are answered; None where there are none."""
    smallest_lead: float
    bits_stored: float
    kl_to_base_nats: float
    known_before: int
    known_after: int
    train_s: float
    """Seconds of training, shrinking included."""
