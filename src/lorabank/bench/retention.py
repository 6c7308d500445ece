"""Bench of retention: what a memory still knows after many writes, some of which change facts.

A stream of writes (`study/continual/stream.py`) goes into each arm (`arms.py` there), and after
some of the writes everything is asked (`measure.py`). The study `continual` does so in cells.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorabank.engine.backbone.base import Base
from lorabank.engine.settings import TrainSettings, settings_for
from lorabank.errors import UsageError
from lorabank.study.continual.arms import ARMS, make_arms
from lorabank.study.continual.measure import write_stream
from lorabank.study.continual.stream import make_stream

_EQUAL = settings_for("sound", exposures=24)


@dataclass(frozen=True, slots=True)
class RetentionSizes:
    """The sizes of the bench of retention.

    Raises:
        UsageError: an arm that there is not.
    """

    facts: int = 12
    """Facts in a write."""
    writes: int = 4
    data: str = "phonebook"
    """Facts that are written: `phonebook` or `wikibigedit`."""
    changed_share: float = 0.2
    """Share of a write of the phone book that gives an earlier fact another value."""
    reports: tuple[int, ...] = (1, 2, 4, 10, 50, 100, 200)
    """Numbers of writes after which everything is asked, as far as there are that many."""
    arms: tuple[str, ...] = ()
    """Arms that are run; empty for all."""
    settings: TrainSettings = _EQUAL
    """Settings of every training; by default with equal exposures for each fact stated."""
    embeds: bool = True

    def __post_init__(self) -> None:
        """Check the arms."""
        if wrong := [name for name in self.arms if name not in ARMS]:
            raise UsageError(f"--arms takes {', '.join(ARMS)}, got {wrong[0]!r}")


def bench_retention(
    base: Base, *, pairs: int = 1, sizes: RetentionSizes | None = None
) -> dict[str, Any]:
    """Write a stream of facts that change into each arm, and ask what each still knows.

    Args:
        pairs: not used; every arm gets the stream once.
    """
    sizes = sizes or RetentionSizes()
    stream = make_stream(
        sizes.data, facts=sizes.facts, writes=sizes.writes, changed_share=sizes.changed_share
    )
    rows = []
    for name, arm in make_arms(sizes.settings).items():
        if not sizes.arms or name in sizes.arms:
            with tempfile.TemporaryDirectory() as folder:
                *_, progress = write_stream(
                    base,
                    arm,
                    stream,
                    folder=Path(folder),
                    reports=sizes.reports,
                    embeds=sizes.embeds,
                )
            rows += [{"arm": name, **row} for row in progress.rows]
    return {
        "bench": "retention",
        "base": base.identity,
        "data": sizes.data,
        "facts": sizes.facts,
        "writes": sizes.writes,
        "changed_share": sizes.changed_share if sizes.data == "phonebook" else 0.0,
        "arms": rows,
        "settings": sizes.settings.as_json(),
    }
