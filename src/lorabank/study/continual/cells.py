"""The result of a cell of a study about continual writing: what an arm knows, write by write."""

from typing import Literal

from lorabank.study.cells import Cell, Stored
from lorabank.study.continual.axes import ContinualAxes


class AfterWrites(Stored):
    """Results of an arm after some writes, and its cost until then."""

    writes: int
    facts: int
    """Number of facts that hold."""
    exposures: float
    """Times a stated fact was trained on, on average, what is replayed or merged included."""
    recall_current: float
    """Share of the facts that hold whose value is given, as taught."""
    recall_oldest: float
    """The same of the first write's facts."""
    recall_newest: float
    """The same of the last write's facts."""
    recall_reworded: float | None
    """The same in a wording that nobody taught; None where there is none."""
    stale: float | None
    """Share of changed facts whose old value is given; None where none has changed."""
    as_of: float | None
    """Share of changed facts whose old value is given for the day before; None without dates."""
    near_miss_answered: float
    """Share of questions about something else that get any answer."""
    modules: int
    kl: float
    """Largest divergence of a module from the base on ordinary text, nats per token."""
    bytes: int
    """Size of all adapters."""
    write_s: float
    """Seconds a write took, on average."""
    ask_s: float
    """Seconds a question took."""


class ContinualCell(Cell):
    """One arm and one stream of writes."""

    kind: Literal["continual"] = "continual"
    axes: ContinualAxes
    rows: list[AfterWrites]
    """Results after 1, 2, 4, 10, 50, 100 and 200 writes, as far as there are; and the last."""

    @property
    def last(self) -> AfterWrites:
        """Return what is known after all writes."""
        return self.rows[-1]
