"""Bench of how cost grows: seconds at several sizes of one thing, everything else fixed.

Three rows are of training (facts, rank, layers), two of asking (modules in the bank, candidates
read for a question), two of finding a module by its text (making the index, one question), three
of a bank on disk (opening it, listing its modules, adding one). Each row has the exponent of the
power law that fits it best,

    log seconds = exponent * log size + constant,

so that 1 is proportional growth, 0 none. A fixed part beside a growing one gives less than 1 at
these sizes and comes nearer to 1 beyond them.
"""

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import linear_regression, median
from tempfile import TemporaryDirectory
from typing import Any

from lorabank.bank.answer.modes import N_CANDIDATES
from lorabank.bench.bank_recall import make_drafts, new_bank
from lorabank.bench.pairs import now
from lorabank.bench.routing import make_index
from lorabank.bench.setup import book, empty_caches
from lorabank.engine.backbone.base import Base
from lorabank.engine.inference.embedder import load_embedder
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import PLAIN, TrainSettings
from lorabank.engine.training.train import train
from lorabank.store.records import BaseIdentity, Draft, Key, Source
from lorabank.store.store import Store
from lorabank.tasks.examples import Example

_log = logging.getLogger(__name__)
FEW_EXPOSURES = replace(PLAIN, exposures=2, until_recall=None)
_FACTS_EACH = 4  # in a module that is asked
_NEW_TOKENS = 8  # of a reply: modules taught so little let the bare model answer, at length


@dataclass(frozen=True, slots=True)
class GrowthSizes:
    """The sizes of the bench of growth."""

    facts: tuple[int, ...] = (6, 12, 24, 48)
    ranks: tuple[int, ...] = (1, 4, 16, 64)
    layers: tuple[int, ...] = (1, 4, 15, 30)
    """Numbers of adapted layers, counted from the last."""
    modules: tuple[int, ...] = (1, 4, 16)
    """Modules in a bank that is asked by its router."""
    candidates: tuple[int, ...] = (1, 2, 4, 8)
    """Modules that are read for one question, in the largest of those banks."""
    indexed: tuple[int, ...] = (100, 1000, 10_000)
    """Modules in an index of texts, and in a bank that is opened and added to."""
    questions: int = 4
    """Questions asked one by one at each size."""
    settings: TrainSettings = FEW_EXPOSURES


def bench_growth(base: Base, *, pairs: int = 3, sizes: GrowthSizes | None = None) -> dict[str, Any]:
    """Measure all rows.

    Args:
        pairs: times that each size is measured, training half as often; the median counts.
    """
    sizes = sizes or GrowthSizes()
    return {
        "bench": "growth",
        "rows": [
            *_training(base, sizes, rounds=max(1, pairs // 2)),
            *_asking(base, sizes, rounds=pairs),
            *_finding(sizes, rounds=pairs),
            *_keeping(sizes, rounds=pairs),
        ],
        "exposures": sizes.settings.exposures,
        "questions": sizes.questions,
        "base": {"name": base.info.name, "sha256": base.info.sha256},
    }


def grow(
    what: str, of: str, sizes: Sequence[int], seconds_at: Callable[[int], float], *, rounds: int
) -> dict[str, Any]:
    """Measure one row: the median seconds at each size and the exponent fitted to them.

    The sizes are gone through once in each round, so that a machine's drift falls on all alike.

    Args:
        what: what is done, such as `training`.
        of: what the sizes count, such as `facts`.
    """
    rows = [[seconds_at(size) for size in sizes] for _ in range(rounds)]
    seconds = [median(column) for column in zip(*rows, strict=True)]
    _log.info("%s by %s: %s", what, of, ", ".join(f"{s:.3g} s" for s in seconds))
    return {
        "what": what,
        "of": of,
        "sizes": list(sizes),
        "seconds": seconds,
        "rounds": rounds,
        "exponent": fit_exponent(sizes, seconds) if len(sizes) > 1 else None,
    }


def fit_exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Return the slope of the logarithm of seconds on that of sizes, by least squares."""
    logs = [math.log(size) for size in sizes], [math.log(second) for second in seconds]
    return linear_regression(*logs).slope


def _training(base: Base, sizes: GrowthSizes, *, rounds: int) -> list[dict[str, Any]]:
    """Measure training from empty caches: `exposures` of each fact, whatever is recalled."""
    fewest = min(sizes.facts)

    def train_s(facts: int, settings: TrainSettings) -> float:
        job = plan_job(base, book(facts), settings)
        empty_caches(base)
        started = now()
        train(base, [job])
        return now() - started

    own = sizes.settings
    n_layers = base.model.config.num_hidden_layers
    layers = [n for n in sizes.layers if n <= n_layers]
    rows: list[tuple[str, Sequence[int], Callable[[int], float]]] = [
        ("facts", sizes.facts, lambda n: train_s(n, own)),
        ("rank", sizes.ranks, lambda r: train_s(fewest, replace(own, r=r, alpha=2.0 * r))),
        ("layers", layers, lambda n: train_s(fewest, replace(own, layers=f"last-{n}"))),
    ]
    return [grow("training", of, ns, at, rounds=rounds) for of, ns, at in rows]


def _asking(base: Base, sizes: GrowthSizes, *, rounds: int) -> list[dict[str, Any]]:
    """Measure one question after the other, its prompt not kept, answered by adapters alone.

    The modules are written once, and imported into the banks that have fewer of them.
    """
    largest = max(sizes.modules)
    with TemporaryDirectory(prefix="lorabank-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        drafts = make_drafts(folder / "books", largest, _FACTS_EACH)
        banks = {
            n: stack.enter_context(new_bank(folder / f"bank-{n}", base, embeds=True))
            for n in sorted({*sizes.modules})
        }
        banks[largest].write_all(drafts, settings=sizes.settings)
        for draft in drafts:
            banks[largest].export(draft.name, folder / draft.name)
        for n in sizes.modules:
            for draft in drafts[:n] if n < largest else ():
                banks[n].import_(folder / draft.name)
        questions = [example.question for example in drafts[0].examples]
        questions += [example.question for example in book(sizes.questions, seed=1)]  # strangers

        def ask_s(n: int, n_candidates: int = N_CANDIDATES) -> float:
            seconds = []
            for question in questions[: sizes.questions]:
                empty_caches(base)
                started = now()
                banks[n].ask(question, n_candidates=n_candidates, max_new_tokens=_NEW_TOKENS)
                seconds.append(now() - started)
            return median(seconds)

        for n in sizes.modules:  # index, gate and adapters are read once, untimed
            ask_s(n)
        candidates = [n for n in sizes.candidates if n <= largest]
        return [
            grow("asking", "modules", sizes.modules, ask_s, rounds=rounds),
            grow("asking", "candidates", candidates, lambda k: ask_s(largest, k), rounds=rounds),
        ]


def _finding(sizes: GrowthSizes, *, rounds: int) -> list[dict[str, Any]]:
    """Measure an index of modules known by their facts: making it, and one question."""
    embedder = load_embedder()
    facts = book(max(sizes.indexed))
    keys = [(f"{i:06}", "text", f"{fact.question} {fact.answer}") for i, fact in enumerate(facts)]
    questions = [fact.question for fact in facts[: sizes.questions]]
    indexes = {}

    def make_s(n: int) -> float:
        started = now()
        indexes[n] = make_index(keys[:n], embedder)
        return now() - started

    def find_s(n: int) -> float:
        seconds = []
        for question in questions:
            started = now()
            indexes[n].search(question, embedder.embed([question])[0], k=N_CANDIDATES)
            seconds.append(now() - started)
        return median(seconds)

    made = grow("making the index", "modules", sizes.indexed, make_s, rounds=1)
    return [made, grow("finding a module", "modules", sizes.indexed, find_s, rounds=rounds)]


def _keeping(sizes: GrowthSizes, *, rounds: int) -> list[dict[str, Any]]:
    """Measure a bank on disk whose modules have a few bytes for weights: nothing reads them."""
    facts = book(max(sizes.indexed))
    with TemporaryDirectory(prefix="lorabank-bench-") as name:
        folders = {n: Path(name) / f"bank-{n}" for n in sizes.indexed}
        for n, folder in folders.items():
            base = BaseIdentity("none", "0" * 64)
            with Store.create(folder, base=base) as store, store.writing(what="bench") as tx:
                for i, fact in enumerate(facts[:n]):
                    tx.put(f"{i:06}", _small_draft(f"{i}", fact))

        def open_s(n: int) -> float:
            started = now()
            Store.open(folders[n]).close()
            return now() - started

        def list_s(n: int) -> float:
            with Store.open(folders[n]) as store:
                started = now()
                store.current_versions()
                return now() - started

        def add_s(n: int) -> float:
            with Store.open(folders[n]) as store:
                started = now()
                with store.writing(what="bench") as tx:
                    tx.put("another", _small_draft("another", facts[0]), replace=True)
                return now() - started

        rows = {
            "opening a bank": open_s,
            "listing its modules": list_s,
            "adding a module": add_s,
        }
        return [
            grow(what, "modules", sizes.indexed, at, rounds=rounds) for what, at in rows.items()
        ]


def _small_draft(name: str, fact: Example) -> Draft:
    return Draft(
        files={"weights": name.encode()},
        record={"facts": 1, "recall": 1.0},
        sources=[Source(f"{name}.csv", hashlib.sha256(name.encode()).hexdigest(), 1)],
        keys=[Key("question", fact.question)],
    )
