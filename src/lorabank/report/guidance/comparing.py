"""Two arms of a study compared: the difference of their means, paired, with a t interval.

Values stand by training (seed) and by what was asked about (document, or load of a phone book).
Both arms were asked the same, so differences are taken seed by seed and document by document.
With three trainings or more the interval is over trainings or over all pairs of training and
document, whichever is wider: the spread of three means is itself known badly. With fewer it is over
documents, and another training may differ. Below three of either there is none.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from lorabank.lora.intervals import FEWEST_SEEDS, t_interval
from lorabank.report.estimates import Cluster, mean
from lorabank.study.cells import Cell

Winner = Literal["first", "second"]
C = TypeVar("C", bound=Cell)


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a comparison: its name, its cells, and their values."""

    name: str
    cells: tuple[Cell, ...]
    values: Mapping[Cluster, Sequence[float]]
    """Values by seed and document."""

    @property
    def studies(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.study for cell in self.cells))

    @property
    def base(self) -> str:
        return self.cells[0].base


@dataclass(frozen=True, slots=True)
class Comparison:
    """The evidence on one choice: two arms, their means, and the difference of the first."""

    topic: str
    where: str
    """Task, budget and whatever else both arms share."""
    measure: str
    lower_is_better: bool
    first: Arm
    second: Arm
    means: tuple[float, float]
    difference: float
    interval: tuple[float, float] | None
    """95 %; None where there are too few pairs for one."""
    n: int
    """Number of values that were paired, of each arm."""
    n_trainings: int

    @property
    def is_bound(self) -> bool:
        """Whether all pairs are equal, as where both arms recall everything or nothing."""
        return self.interval == (0.0, 0.0)

    @property
    def winner(self) -> Winner | None:
        """Return the better arm; None where the evidence does not decide."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return None
        return "first" if (self.difference > 0) != self.lower_is_better else "second"


@dataclass(frozen=True, slots=True)
class Choice:
    """A question of practice that comparisons answer, and the number it is decided by."""

    topic: str
    where: str
    measure: str
    lower_is_better: bool = False

    def compare(self, first: Arm, second: Arm) -> Comparison | None:
        """Return what the arms' common seeds and documents say; None where they share none."""
        shared = sorted(first.values.keys() & second.values.keys())
        if not shared:
            return None
        pairs = {key: (mean(first.values[key]), mean(second.values[key])) for key in shared}
        n_trainings = len({seed for seed, _ in shared})
        place = 0 if n_trainings >= FEWEST_SEEDS else 1
        groups = [
            [pairs[key] for key in shared if key[place] == value]
            for value in sorted({key[place] for key in shared})
        ]
        differences = [mean(a - b for a, b in group) for group in groups]
        intervals = [t_interval(differences)]
        if place == 0:
            intervals.append(t_interval([a - b for a, b in pairs.values()]))
        reach = max((i.high - i.mean for i in intervals if i is not None), default=None)
        middle = mean(differences)
        return Comparison(
            topic=self.topic,
            where=self.where,
            measure=self.measure,
            lower_is_better=self.lower_is_better,
            first=first,
            second=second,
            means=(
                mean(mean(a for a, _ in group) for group in groups),
                mean(mean(b for _, b in group) for group in groups),
            ),
            difference=middle,
            interval=None if reach is None else (middle - reach, middle + reach),
            n=sum(min(len(first.values[key]), len(second.values[key])) for key in shared),
            n_trainings=n_trainings,
        )


def gather(
    cells: Iterable[C], values: Callable[[C], Iterable[tuple[Cluster, float]]]
) -> dict[Cluster, list[float]]:
    """Return the values of cells by seed and document."""
    gathered: dict[Cluster, list[float]] = {}
    for cell in cells:
        for key, value in values(cell):
            gathered.setdefault(key, []).append(value)
    return gathered


def blocks(cells: Iterable[C], key: Callable[[C], str]) -> list[list[C]]:
    """Return cells that have a key in common, in the order of their first."""
    by_key: dict[str, list[C]] = {}
    for cell in cells:
        by_key.setdefault(key(cell), []).append(cell)
    return list(by_key.values())
