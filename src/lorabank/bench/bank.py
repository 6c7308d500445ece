"""Bench of the bank from end to end: phone books in modules, and nobody says which one to ask.

Every fact is asked as a user would, then with an oracle in place of routing and gate; names that
are in no book are asked too. What is timed in pairs is one fleet write of all modules against the
same modules written one after the other.
"""

import csv
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any

from lorabank.bank.answer.answers import Answer
from lorabank.bank.bank import Bank, identify_base
from lorabank.bank.route.routers import Oracle
from lorabank.bank.write.drafts import ModuleDraft, draft_from_files
from lorabank.bank.write.write import WriteReport, plan_jobs
from lorabank.bench.pairs import Pairs, Side, Timed, report, run_pairs, timed
from lorabank.bench.setup import book, empty_shelves, start_weights
from lorabank.bench.writing import SAME_MOVE, gaps
from lorabank.engine.backbone.base import Base
from lorabank.engine.fleet.fleet import Weights
from lorabank.engine.training.progress import FleetProgress, render
from lorabank.engine.training.settings import SOUND, TrainSettings
from lorabank.store.store import Store
from lorabank.tasks.examples import Example
from lorabank.tasks.synthetic import phonebook

_log = logging.getLogger(__name__)
_EVERY_S = 30.0  # between two lines about a long write


def bench_bank(
    base: Base,
    *,
    pairs: int = 3,
    modules: int = 16,
    facts: int = 48,
    unknown: int = 96,
    alone: int = 24,
    timed_facts: int = 12,
    timed_exposures: int = 3,
    settings: TrainSettings = SOUND,
    embeds: bool = True,
) -> dict[str, Any]:
    """Recall with and without an oracle, what becomes of unknown names, and how fast a write is.

    Args:
        facts: of each module that is asked.
        unknown: questions about names nobody was taught.
        alone: questions timed one by one.
        timed_facts: of each module in the timed writes, which are smaller: each is done
            2 * `pairs` times.
        timed_exposures: of each fact in those, fixed, so that both sides do the same steps.
        embeds: False routes by words alone.
    """
    with TemporaryDirectory(prefix="lorabank-bench-") as folder:
        parcels = make_parcels(Path(folder) / "books", modules, facts)
        with new_bank(Path(folder) / "bank", base, embeds=embeds) as bank:
            _log.info("writing %d modules of %d facts", modules, facts)
            write = timed(lambda: bank.write_all(parcels, settings=settings, on_round=_Ticker()))()
            asked = ask_everything(bank, parcels, unknown=unknown, alone=alone)
    quick = replace(settings, exposures=timed_exposures, until_recall=None)
    ran, difference = time_writes(base, modules, timed_facts, settings=quick, n=pairs)
    return report(
        "bank",
        base,
        ran,
        equal=difference <= SAME_MOVE,
        equal_note=f"the same weights within {SAME_MOVE:.0%} of the way they have gone",
        fleet_write_ratio=ran.ratio,
        fleet_write_note=(
            f"{modules} modules of {timed_facts} facts, {timed_exposures} exposures each whatever "
            "is recalled, measured and committed: seconds one after the other over one fleet's"
        ),
        mean_weight_difference_of_movement=difference,
        modules=modules,
        facts_each=facts,
        **asked,
        **_as_written(write),
        settings=settings.as_json(),
    )


def make_parcels(folder: Path, modules: int, facts: int) -> list[ModuleDraft]:
    """One phone book, cut into a file for each module."""
    folder.mkdir(parents=True, exist_ok=True)
    examples, parcels = book(modules * facts), []
    for i in range(modules):
        path = folder / f"book-{i:02}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("prompt", "answer"))
            rows.writerows((e.question, e.answer) for e in examples[i * facts : (i + 1) * facts])
        parcels.append(draft_from_files(path.stem, [path]))
    return parcels


def new_bank(path: Path, base: Base, *, embeds: bool) -> Bank:
    return Bank(Store.create(path, base=identify_base(base.info)), base, embeds=embeds)


class _Ticker:
    """Says now and then how far a write is."""

    def __init__(self) -> None:
        self.due = time.monotonic() + _EVERY_S

    def __call__(self, progress: FleetProgress) -> None:
        if time.monotonic() >= self.due:
            self.due = time.monotonic() + _EVERY_S
            most = max(job.exposures for job in progress.jobs)
            _log.info("%s, %.1f exposures", render(progress)[0], most)


def ask_everything(
    bank: Bank, parcels: Sequence[ModuleDraft], *, unknown: int, alone: int
) -> dict[str, Any]:
    """What a written bank answers, by what goes wrong, and how long it takes."""
    taught = [(parcel.name, example) for parcel in parcels for example in parcel.examples]
    module_of = {example.question: name for name, example in taught}
    questions = list(module_of)
    # Names are drawn without repeats, so at most every known one is among these once.
    drawn = [example.question for example in book(len(questions) + unknown, seed=1)]
    strangers = [question for question in drawn if question not in module_of][:unknown]
    index = timed(lambda: bank.texts.search(questions[:1], k=1))()
    _log.info("calibrating the gate")
    gate = timed(bank.gate)()
    _log.info("asking for %d facts", len(questions))
    empty_shelves(bank.base)
    routed = timed(lambda: bank.ask_all(questions))()
    _log.info("asking about %d unknown names", unknown)
    empty_shelves(bank.base)
    foreign = timed(lambda: bank.ask_all(strangers))()
    _log.info("asking again with an oracle")
    empty_shelves(bank.base)
    oracle = Oracle(module_of, bank.texts)
    told = timed(lambda: bank.ask_all(questions, router=oracle, gated=False, n_candidates=1))()
    _log.info("asking %d one by one", alone)
    few = questions[:: max(1, len(questions) // alone)][:alone]
    alone_s = [_ask_alone(bank, question) for question in few]
    kinds = Counter(answer.kind for answer in foreign.result)
    return {
        "recall_routed": _recall(taught, routed.result),
        "recall_oracle": _recall(taught, told.result),
        "unknown_handled": 1 - kinds["module"] / unknown,
        "misses": count_misses(taught, routed.result),
        "misses_of_oracle": count_misses(taught, told.result),
        "unknown": {kind: kinds[kind] for kind in ("abstained", "bare", "module")},
        "router": {f"top{k}": _found(taught, routed.result, k) for k in (1, 3)},
        "gate": {
            "false_activations": gate.result.false_activations if gate.result else None,
            "misses": gate.result.misses if gate.result else None,
            "questions": gate.result.questions if gate.result else 0,
        },
        "ask_ms": {
            "in_a_batch": 1000 * routed.seconds / len(questions),
            "alone": 1000 * median(alone_s),
        },
        "seconds": {
            "index": index.seconds,
            "calibrate": gate.seconds,
            "ask_routed": routed.seconds,
            "ask_unknown": foreign.seconds,
            "ask_oracle": told.seconds,
        },
    }


def _ask_alone(bank: Bank, question: str) -> float:
    """Seconds; its prompt is read anew, the adapters are in memory already."""
    empty_shelves(bank.base)
    return timed(lambda: bank.ask(question))().seconds


def _recall(taught: Sequence[tuple[str, Example]], answers: Sequence[Answer]) -> float:
    return fmean(
        phonebook.is_recalled(example.answer, answer.text)
        for (_, example), answer in zip(taught, answers, strict=True)
    )


def _found(taught: Sequence[tuple[str, Example]], answers: Sequence[Answer], k: int) -> float:
    """How often the right module is among the first `k` that were named."""
    return fmean(
        name in [heard.candidate.module for heard in answer.candidates[:k]]
        for (name, _), answer in zip(taught, answers, strict=True)
    )


def count_misses(
    taught: Sequence[tuple[str, Example]], answers: Sequence[Answer]
) -> dict[str, int]:
    """Facts that were not recalled, by where they were lost."""
    counts = dict.fromkeys(("wrong_module", "gate_closed", "read_wrong"), 0)
    for (name, example), answer in zip(taught, answers, strict=True):
        if not phonebook.is_recalled(example.answer, answer.text):
            counts[_lost(name, answer)] += 1
    return counts


def _lost(module: str, answer: Answer) -> str:
    if answer.kind == "module":
        return "read_wrong" if answer.module == module else "wrong_module"
    heard = [heard.candidate.module for heard in answer.candidates]
    return "gate_closed" if module in heard else "wrong_module"


def _as_written(write: Timed[list[WriteReport]]) -> dict[str, Any]:
    reports = write.result
    return {
        "recall_written": fmean(report.recall for report in reports),
        "exposures": [report.exposures_per_fact for report in reports],
        "stopped": dict(Counter(report.stopped for report in reports)),
        "kl_to_base_nats": fmean(report.kl_to_base_nats for report in reports),
        "adapter_bytes": reports[0].adapter_bytes,
        "write_s": write.seconds,
    }


def time_writes(
    base: Base, modules: int, facts: int, *, settings: TrainSettings, n: int
) -> tuple[Pairs[list[Weights], list[Weights]], float]:
    """`Bank.write_all` against a `Bank.write` for each module, every time into a new bank.

    Returns: the pairs; how far apart the weights end, as a share of the way they went.
    """
    with TemporaryDirectory(prefix="lorabank-bench-") as folder:
        parcels = make_parcels(Path(folder), modules, facts)
        files = {parcel.name: Path(folder) / parcel.sources[0].name for parcel in parcels}

        def together(bank: Bank) -> None:
            read = [draft_from_files(name, [file]) for name, file in files.items()]
            bank.write_all(read, settings=settings)

        def one_by_one(bank: Bank) -> None:
            for name, file in files.items():
                bank.write(name, [file], settings=settings)

        ran = run_pairs(_into_new_bank(base, together), _into_new_bank(base, one_by_one), n=n)
    first = start_weights(base, plan_jobs(base, parcels[:1], settings)[0])
    start = {path: (a.cpu(), b.cpu()) for path, (a, b) in first.items()}  # of all, by one seed
    ours, alone = ran.ours[-1].result, ran.theirs[-1].result
    apart = fmean(float(gaps(a, b).mean()) for a, b in zip(ours, alone, strict=True))
    moved = fmean(float(gaps(weights, start).mean()) for weights in alone)
    return ran, apart / moved


def _into_new_bank(base: Base, write: Callable[[Bank], None]) -> Side[list[Weights]]:
    """A side that writes and gives the adapters, by name of their modules."""

    def run() -> Timed[list[Weights]]:
        empty_shelves(base)
        with (
            TemporaryDirectory(prefix="lorabank-bench-") as folder,
            new_bank(Path(folder) / "bank", base, embeds=False) as bank,
        ):
            seconds = timed(lambda: write(bank))().seconds
            return Timed(seconds, [a.weights for a in bank.reader.load_adapters(bank.modules())])

    return run
