"""Measures of an arm after some of a stream's writes: what it still knows, and what it costs.

Everything current is asked, as taught and in a wording that nobody taught, and what has changed: by
its old value, and as of the day before the change.
"""

import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

from lorabank.bank.bank import Bank
from lorabank.bank.opening import identify_base
from lorabank.engine.backbone.base import Base
from lorabank.store.store import Store
from lorabank.study.continual.arms import Arm, measure_kl
from lorabank.study.continual.stream import Stated, Stream
from lorabank.tasks.folding import fold


def write_stream(
    base: Base, arm: Arm, stream: Stream, *, reports: Sequence[int], embeds: bool = True
) -> list[dict[str, Any]]:
    """Write a stream into one arm; return what was measured after some of the writes.

    Args:
        reports: numbers of writes after which everything is asked; it is after the last one too.
        embeds: whether questions are looked up by meaning, not by words alone.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder) / "bank", base=identify_base(base.info))
        with Bank(store, base, embeds=embeds) as bank:
            stated, seconds, n_trained = Stated(), [], 0.0
            for n_writes, write in enumerate(stream.writes, start=1):
                stated.take(write)
                started = time.perf_counter()
                n_trained += arm.write(bank, write, stated)
                seconds.append(time.perf_counter() - started)
                if n_writes in reports or n_writes == len(stream.writes):
                    row: dict[str, Any] = {"writes": n_writes, "facts": len(stated.current)}
                    exposures = n_trained / stated.n_statements
                    measured = _measure(bank, arm, stream, n_writes, stated)
                    row |= {"exposures": exposures, **measured, "write_s": fmean(seconds)}
                    rows.append(row)
    return rows


def _measure(bank: Bank, arm: Arm, stream: Stream, n_writes: int, stated: Stated) -> dict[str, Any]:
    """Ask everything that is current, and what has changed."""

    def share(questions: Sequence[str], right: Sequence[str]) -> float | None:
        if not questions:
            return None
        pairs = zip(arm.ask(bank, questions), right, strict=True)
        return fmean(_gives(text, answer, arm) for text, answer in pairs)

    current = stated.current
    writes = stream.writes[:n_writes]
    oldest, newest = ([fact.question for fact in writes[i].facts] for i in (0, -1))
    reworded = [(stream.reworded[q], a) for q, a in current.items() if q in stream.reworded]
    started = time.perf_counter()
    recall = share(list(current), list(current.values()))
    ask_s = (time.perf_counter() - started) / len(current)
    as_of = [
        bank.ask(question, as_of=(day - timedelta(days=1)).isoformat()).text == answer
        for question, answer, day in (stated.changed if arm.knows_dates else [])
    ]
    versions = bank.modules()
    changed = [question for question, _, _ in stated.changed]
    return {
        "recall_current": recall,
        "recall_oldest": share(oldest, [current[question] for question in oldest]),
        "recall_newest": share(newest, [current[question] for question in newest]),
        "recall_reworded": share([q for q, _ in reworded], [a for _, a in reworded]),
        "stale": share(changed, [answer for _, answer, _ in stated.changed]),
        "as_of": fmean(as_of) if as_of else None,
        "near_miss_answered": fmean(bool(text) for text in arm.ask(bank, stream.near_misses)),
        "modules": len(versions),
        "kl": measure_kl(bank),
        "bytes": sum(version.record["adapter_bytes"] for version in versions),
        "ask_s": ask_s,
    }


def _gives(text: str, answer: str, arm: Arm) -> bool:
    """Return whether a reply gives an answer: in just its words, or among others if it reads."""
    return fold(answer) in fold(text) if arm.is_loose else text == answer
