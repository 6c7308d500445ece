"""Figures of a part of the soak: outcomes counted by what was done, and the faults."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_MOST_FAULTS = 20  # that are printed


@dataclass
class Tally:
    """Counts of outcomes and the faults of one part."""

    title: str
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    """Counts by outcome, by what was done."""
    faults: list[str] = field(default_factory=list)

    @property
    def n_trials(self) -> int:
        """Return the number of trials."""
        return sum(counts.total() for counts in self.outcomes.values())

    def add(self, row: str, outcome: str) -> None:
        """Count one outcome."""
        self.outcomes.setdefault(row, Counter())[outcome] += 1

    def as_json(self) -> Mapping[str, Any]:
        return {"outcomes": self.outcomes, "trials": self.n_trials, "faults": self.faults}

    def show(self) -> None:
        """Print a table and the faults."""
        columns = sorted({column for counts in self.outcomes.values() for column in counts})
        print(f"{self.title}: {self.n_trials} trials, {len(self.faults)} faults")
        print(f"  {'':<20}" + "".join(f"{column:>14}" for column in columns))
        for row, counts in self.outcomes.items():
            print(f"  {row:<20}" + "".join(f"{counts[column]:>14}" for column in columns))
        for fault in self.faults[:_MOST_FAULTS]:
            print(f"  FAULT: {fault}")
