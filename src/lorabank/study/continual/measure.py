"""Measures of an arm after some of a stream's writes: what it still knows, and what it costs.

Everything current is asked, as taught and in a wording that nobody taught, and what has changed: by
its old value, and as of the day before the change.
"""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

from lorabank.bank.bank import Bank
from lorabank.bank.opening import identify_base
from lorabank.engine.backbone.base import Base
from lorabank.files import write_atomically
from lorabank.store.store import Store
from lorabank.study.continual.arms import Arm, measure_kl
from lorabank.study.continual.stream import Stated, Stream
from lorabank.tasks.folding import fold


@dataclass(slots=True)
class Progress:
    """The writes that a bank has, and what was measured after some of them."""

    n_writes: int = 0
    n_trained: float = 0.0
    """Examples that were trained on, each as often as it was."""
    write_s: list[float] = field(default_factory=list)
    """Seconds that each write took."""
    seconds: float = 0.0
    """Seconds of all of it, asking included."""
    rows: list[dict[str, Any]] = field(default_factory=list)


def write_stream(
    base: Base,
    arm: Arm,
    stream: Stream,
    *,
    folder: Path,
    reports: Sequence[int],
    embeds: bool = True,
) -> Iterator[Progress]:
    """Write a stream into one arm, measure it after some of the writes, and yield how far it is.

    It is yielded as it was found, and after each write.

    The write under way when a process ends is made again by the next one; of the facts that it had
    trained on before, nothing is counted.

    Args:
        folder: where the bank is kept; one that holds a part of the stream goes on from there.
        reports: numbers of writes after which everything is asked; it is after the last one too.
        embeds: whether questions are looked up by meaning, not by words alone.
    """
    state_file, path = folder / "progress.json", folder / "bank"
    progress = Progress(**json.loads(state_file.read_text())) if state_file.exists() else Progress()
    if not state_file.exists():
        shutil.rmtree(path, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        Store.create(path, base=identify_base(base.info)).close()
    yield progress
    with Bank(Store.open(path), base, embeds=embeds) as bank:
        stated = Stated()
        for write in stream.writes:
            stated.take(write)
            if stated.n_writes <= progress.n_writes:
                continue
            started = time.perf_counter()
            progress.n_trained += arm.write(bank, write, stated)
            progress.write_s.append(time.perf_counter() - started)
            progress.n_writes = stated.n_writes
            if stated.n_writes in reports or stated.n_writes == len(stream.writes):
                measured = _measure(bank, arm, stream, stated)
                exposures = progress.n_trained / stated.n_statements
                cost = {"exposures": exposures, "write_s": fmean(progress.write_s)}
                progress.rows.append({**measured, **cost})
            progress.seconds += time.perf_counter() - started
            write_atomically(state_file, json.dumps(asdict(progress)))
            yield progress


def _measure(bank: Bank, arm: Arm, stream: Stream, stated: Stated) -> dict[str, Any]:
    """Ask everything that is current, and what has changed."""

    def share(questions: Sequence[str], right: Sequence[str]) -> float | None:
        if not questions:
            return None
        pairs = zip(arm.ask(bank, questions), right, strict=True)
        return fmean(_gives(text, answer, arm) for text, answer in pairs)

    current = stated.current
    writes = stream.writes[: stated.n_writes]
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
        "writes": stated.n_writes,
        "facts": len(current),
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
