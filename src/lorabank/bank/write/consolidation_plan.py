"""The plan of a consolidation: which facts are taught, which modules are merged or written again.

Pending facts become one module. Modules that hold nothing but remembered facts have levels by their
size; where enough of one level have come together they are merged with it into a larger one, as in
a log-structured merge tree, up to a size that one adapter holds. Values that hold no longer are
left out, and a module without weights is trained. Everything is trained anew from the stored
facts, never from weights. The plan is made from the store alone.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from lorabank.bank.fact_book import FactBook
from lorabank.bank.write.remember import example_of, hash_fact
from lorabank.errors import UsageError
from lorabank.store.records import Fact, Version
from lorabank.store.store import Store

FAN = 4
"""Modules of a level that become one of the next."""
LEAST_FACTS = 12
"""Facts of the smallest module that is not of the lowest level."""
MOST_FACTS = 192
"""Most facts of a module that consolidation makes."""
_NAME = re.compile(r"memory-(\d+)")


@dataclass(frozen=True, slots=True)
class ConsolidationStep:
    """One module that is to be trained, and what leaves for it; committed whole or not at all."""

    kind: str
    """Kind of step: `teach` facts, `rewrite` a module without stale values, `drop` one, or
    `train` one without weights."""
    module: str
    facts: tuple[Fact, ...]
    """Remembered facts that the module will hold; those of a written module stay in it as well."""
    replaces: tuple[Version, ...]
    """Versions that leave, or of which a new one is written."""
    stale: int
    """Number of values that hold no longer and leave."""
    n_facts: int
    """Number of facts the module will hold."""
    seconds: float | None
    """Time that training takes; None where no module was written in this bank to tell."""
    n_bytes: int | None
    """Size of the bank's adapters afterwards, less what it is now."""

    @property
    def why(self) -> str:
        """Return the reason in words."""
        reasons = []
        n_pending = sum(fact.is_pending for fact in self.facts)
        if self.kind == "teach" and n_pending:
            reasons.append(f"{_count(n_pending, 'fact')} pending")
        if self.kind == "teach" and self.replaces:
            reasons.append(f"{_count(len(self.replaces), 'module')} merged")
        if self.kind == "train":
            reasons.append("not trained yet")
        if self.stale:
            reasons.append(f"{_count(self.stale, 'value')} no longer held")
        return ", ".join(reasons)

    def as_json(self) -> dict[str, Any]:
        """Return what is done, why, and what it costs."""
        return {
            "kind": self.kind,
            "module": self.module,
            "why": self.why,
            "facts": self.n_facts,
            "replaces": [version.module for version in self.replaces],
            "stale": self.stale,
            "seconds": self.seconds,
            "bytes": self.n_bytes,
        }


def check_pending_limit(limit: int) -> None:
    """Refuse a limit below 1.

    Raises:
        UsageError: states what is allowed.
    """
    if limit < 1:
        raise UsageError(f"--pending-limit must be at least 1, got {limit}")


def plan_consolidation(
    store: Store, *, pending_limit: int = 1, merges: bool = True
) -> list[ConsolidationStep]:
    """Return the steps that teach pending facts and remove what holds no longer.

    Args:
        pending_limit: number of pending facts below which none is taught yet.
        merges: whether modules are merged and written again; if not, facts are taught alone.
    """
    book, versions = FactBook(store.facts()), store.current_versions()
    # A file that a changed value was taught from may hold other facts, which nobody remembered.
    known = {fact.sha256 for fact in book.facts if fact.sha256 == hash_fact(example_of(fact))}
    stale, current = book.stale, book.current
    stale_in = {v.module: [fact for fact in stale if fact.module == v.module] for v in versions}
    own = [v for v in versions if v.sources and {s.sha256 for s in v.sources} <= known]
    live = {v.module: [fact for fact in current if fact.module == v.module] for v in own}
    estimate = _Estimate(versions)
    steps, merged = [], []
    pending = book.pending
    if pending and len(pending) >= pending_limit:
        merged = _choose_merged(len(pending), own, live, stale_in) if merges else []
        facts = [*pending, *(fact for v in merged for fact in live[v.module])]
        n_stale = sum(len(stale_in[v.module]) for v in merged)
        steps.append(
            estimate.step("teach", _next_name(versions), facts, merged, n_stale, len(facts))
        )
    for version in versions if merges else ():
        n_stale = len(stale_in[version.module])
        if version in merged or not (n_stale or version.is_untrained):
            continue
        n_facts = int(version.record.get("facts") or 0) - n_stale
        facts = live.get(version.module, [])
        kind = "train" if not n_stale else "rewrite" if n_facts > 0 else "drop"
        steps.append(estimate.step(kind, version.module, facts, [version], n_stale, n_facts))
    return steps


def _choose_merged(
    n_facts: int,
    own: Sequence[Version],
    live: dict[str, list[Fact]],
    stale_in: dict[str, list[Fact]],
) -> list[Version]:
    """Return the modules that are merged with new facts: a full level, and small ones with stale.

    Args:
        n_facts: number of new facts.
    """
    merged: list[Version] = []
    rest = sorted(own, key=lambda v: (len(live[v.module]), v.module))
    for version in list(rest):
        n = len(live[version.module])
        if stale_in[version.module] and _level(n) <= _level(n_facts) and n_facts + n <= MOST_FACTS:
            merged.append(version)
            rest.remove(version)
            n_facts += n
    while True:
        peers = [v for v in rest if _level(len(live[v.module])) <= _level(n_facts)]
        total = n_facts + sum(len(live[v.module]) for v in peers)
        if len(peers) < FAN - 1 or total > MOST_FACTS:
            return merged
        merged += peers
        rest = [v for v in rest if v not in peers]
        n_facts = total


def _level(n_facts: int) -> int:
    return int(math.log(max(n_facts, LEAST_FACTS) / LEAST_FACTS, FAN) + 1e-9)


def _next_name(versions: Sequence[Version]) -> str:
    numbers = [int(m[1]) for v in versions if (m := _NAME.fullmatch(v.module))]
    return f"memory-{max(numbers, default=0) + 1}"


class _Estimate:
    """Time and size of modules, by those that were written in this bank."""

    def __init__(self, versions: Sequence[Version]):
        trained = [v.record for v in versions if v.record.get("facts") and v.record.get("seconds")]
        rates = [record["seconds"] / record["facts"] for record in trained]
        sizes = [record["adapter_bytes"] for record in trained if record.get("adapter_bytes")]
        self.s_per_fact = median(rates) if rates else None
        self.n_bytes = int(median(sizes)) if sizes else None

    def step(
        self,
        kind: str,
        module: str,
        facts: Sequence[Fact],
        replaces: Sequence[Version],
        stale: int,
        n_facts: int,
    ) -> ConsolidationStep:
        """Return a step with what it costs."""
        seconds = None if self.s_per_fact is None else self.s_per_fact * n_facts
        freed = sum(int(v.record.get("adapter_bytes") or 0) for v in replaces)
        added = self.n_bytes if kind != "drop" else 0
        is_kept = kind == "rewrite"  # the version before stays until it is pruned
        n_bytes = None if added is None else added - freed * (not is_kept)
        return ConsolidationStep(
            kind,
            module,
            tuple(facts),
            tuple(replaces),
            stale,
            n_facts,
            0.0 if kind == "drop" else seconds,
            n_bytes,
        )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
