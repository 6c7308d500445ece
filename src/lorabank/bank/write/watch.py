"""Consolidation whenever it is due, by a process that watches a bank.

Facts are taught when enough are pending, or when some time has passed; values that hold no longer
leave their modules as soon as that is known. A step that could not be kept, since the bank changed
under it or its training diverged, is not tried again before the bank has changed.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from lorabank.bank.write.consolidate import ConsolidateOptions
from lorabank.bank.write.consolidation_plan import plan_consolidation
from lorabank.bank.write.write import WriteReport
from lorabank.errors import StorageError, UsageError
from lorabank.store.lock import WATCH, locked
from lorabank.store.store import Store

MOST_EVERY_S = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """The times of a watch.

    Raises:
        UsageError: a time out of range.
    """

    every_s: float = 0.0
    """Seconds after which pending facts are taught however few they are; 0 for never."""
    poll_s: float = 1.0
    """Seconds between two looks at the bank."""

    def __post_init__(self) -> None:
        """Check the times."""
        if self.every_s and not 1 <= self.every_s <= MOST_EVERY_S:
            raise UsageError(
                f"--every must be 1 to {MOST_EVERY_S:,.0f} seconds, or 0 for never, "
                f"got {self.every_s:g}"
            )


@dataclass(frozen=True, slots=True)
class WatchListener:
    """The functions that hear what a watch does."""

    on_report: Callable[[WriteReport], None]
    """Called with each module that was written."""
    on_problem: Callable[[str], None]
    """Called with the reason for which a step was not kept."""


def watch(
    store: Store,
    consolidate: Callable[[ConsolidateOptions], list[WriteReport]],
    options: ConsolidateOptions,
    settings: WatchSettings,
    listener: WatchListener,
    stop: threading.Event,
) -> None:
    """Consolidate whenever it is due, until `stop` is set; a step under way is finished first.

    Args:
        consolidate: the bank's own, which does all steps that its options ask for.

    Raises:
        UsageError: another process watches the bank.
        StorageError: the bank cannot be written.
        KeyboardInterrupt: training was interrupted; the steps before are done.
    """
    if store.problem:
        raise StorageError(store.problem)
    with locked(store.path, what="consolidate --watch", file=WATCH):
        due = time.monotonic() + settings.every_s
        failed_at: int | None = None  # generation of the bank at which a step was not kept
        while not stop.is_set():
            is_due = bool(settings.every_s) and time.monotonic() >= due
            if is_due:
                due = time.monotonic() + settings.every_s
            limit = 1 if is_due else options.pending_limit
            generation = store.generation  # before the step: what spoils it is a change after this
            is_known_to_fail = generation == failed_at and not is_due
            if is_known_to_fail or not plan_consolidation(
                store, pending_limit=limit, merges=options.merges
            ):
                stop.wait(settings.poll_s)
                continue
            try:
                step = replace(options, pending_limit=limit, most_steps=1)
                for report in consolidate(step):
                    listener.on_report(report)
                failed_at = None
            except UsageError as error:
                failed_at = generation
                listener.on_problem(str(error))
