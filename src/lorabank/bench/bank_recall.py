"""Bench of the bank from end to end: phone books in modules, asked without naming a module.

Every fact is asked as a user would, then with an oracle in place of routing and gate; names that
are in no book are asked too. The pairs time one fleet write of all modules against the same modules
written one after the other.
"""

import csv
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any

from lorabank.bank.answer.answers import Answer
from lorabank.bank.bank import Bank
from lorabank.bank.drafts import ModuleDraft, draft_from_files
from lorabank.bank.opening import identify_base
from lorabank.bank.route.routers import Oracle
from lorabank.bank.write.training import WriteSettings
from lorabank.bank.write.write import WriteReport, plan_jobs
from lorabank.bench.pairs import Pairs, Side, Timed, report, run_pairs, timed
from lorabank.bench.setup import book, empty_caches, start_weights
from lorabank.bench.writing import SAME_MOVE, gaps
from lorabank.engine.backbone.base import Base
from lorabank.engine.fleet.fleet import Weights
from lorabank.engine.settings import SOUND, TrainSettings
from lorabank.engine.training.progress import FleetProgress, render
from lorabank.store.store import Store
from lorabank.tasks.examples import Example
from lorabank.tasks.synthetic import phonebook

_log = logging.getLogger(__name__)
_EVERY_S = 30.0  # between two lines about a long write


@dataclass(frozen=True, slots=True)
class BankSizes:
    """The sizes of the bench of the bank."""

    modules: int = 16
    facts: int = 48
    """Number of facts in each module."""
    unknown: int = 96
    """Number of questions about names that no module was taught."""
    alone: int = 24
    """Number of questions that are timed one by one."""
    timed_facts: int = 12
    """Number of facts in each module of the timed writes, which happen twice for each pair."""
    timed_exposures: int = 3
    """Number of exposures in the timed writes, fixed so that both sides take the same steps."""
    settings: TrainSettings = SOUND
    embeds: bool = True
    """Whether questions are routed by embeddings too, not by words alone."""


def bench_bank(base: Base, *, pairs: int = 3, sizes: BankSizes | None = None) -> dict[str, Any]:
    """Measure recall with and without an oracle, unknown names, and how fast a write is."""
    sizes = sizes or BankSizes()
    modules, facts, settings = sizes.modules, sizes.facts, sizes.settings
    with TemporaryDirectory(prefix="lorabank-bench-") as folder:
        drafts = make_drafts(Path(folder) / "books", modules, facts)
        with new_bank(Path(folder) / "bank", base, embeds=sizes.embeds) as bank:
            _log.info("writing %d modules of %d facts", modules, facts)
            write = timed(lambda: bank.write_all(drafts, settings=settings, on_round=_Ticker()))()
            answers = ask_everything(bank, drafts, unknown=sizes.unknown, alone=sizes.alone)
    quick = replace(settings, exposures=sizes.timed_exposures, until_recall=None)
    ran, difference = time_writes(base, modules, sizes.timed_facts, settings=quick, n=pairs)
    return report(
        "bank",
        base,
        ran,
        equal=difference <= SAME_MOVE,
        equal_note=f"the same weights within {SAME_MOVE:.0%} of the way they have gone",
        fleet_write_ratio=ran.ratio,
        fleet_write_note=(
            f"{modules} modules of {sizes.timed_facts} facts, {sizes.timed_exposures} exposures "
            "each whatever is recalled, measured and committed: seconds one after the other over "
            "one fleet's"
        ),
        mean_weight_difference_of_movement=difference,
        modules=modules,
        facts_each=facts,
        **answers,
        **_write_summary(write),
        settings=settings.as_json(),
    )


def make_drafts(folder: Path, modules: int, facts: int) -> list[ModuleDraft]:
    """Write one phone book into a file for each module, and return the modules' drafts."""
    folder.mkdir(parents=True, exist_ok=True)
    examples, drafts = book(modules * facts), []
    for i in range(modules):
        path = folder / f"book-{i:02}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("prompt", "answer"))
            rows.writerows((e.question, e.answer) for e in examples[i * facts : (i + 1) * facts])
        drafts.append(draft_from_files(path.stem, [path]))
    return drafts


def new_bank(path: Path, base: Base, *, embeds: bool) -> Bank:
    bank = Bank(Store.create(path, base=identify_base(base.info)), base, embeds=embeds)
    bank.looks_up = False  # what is measured are weights
    return bank


class _Ticker:
    """A progress callback that logs a line now and then."""

    def __init__(self) -> None:
        self.due = time.monotonic() + _EVERY_S

    def __call__(self, progress: FleetProgress) -> None:
        if time.monotonic() >= self.due:
            self.due = time.monotonic() + _EVERY_S
            most = max(job.exposures for job in progress.jobs)
            _log.info("%s, %.1f exposures", render(progress)[0], most)


def ask_everything(
    bank: Bank, drafts: Sequence[ModuleDraft], *, unknown: int, alone: int
) -> dict[str, Any]:
    """Ask a written bank for everything; return recall, the causes of misses, and seconds."""
    taught = [(draft.name, example) for draft in drafts for example in draft.examples]
    module_of = {example.question: name for name, example in taught}
    questions = list(module_of)
    # Names are drawn without repeats, so at most every known one is among these once.
    drawn = [example.question for example in book(len(questions) + unknown, seed=1)]
    strangers = [question for question in drawn if question not in module_of][:unknown]
    index = timed(lambda: bank.texts.search(questions[:1], k=1))()
    _log.info("calibrating the gate")
    gate = timed(bank.gate)()
    _log.info("asking for %d facts", len(questions))
    empty_caches(bank.base)
    routed = timed(lambda: bank.ask_all(questions))()
    _log.info("asking about %d unknown names", unknown)
    empty_caches(bank.base)
    foreign = timed(lambda: bank.ask_all(strangers))()
    _log.info("asking again with an oracle")
    empty_caches(bank.base)
    oracle = Oracle(module_of, bank.texts)
    by_oracle = timed(lambda: bank.ask_all(questions, router=oracle, gated=False, n_candidates=1))()
    _log.info("asking %d one by one", alone)
    sampled = questions[:: max(1, len(questions) // alone)][:alone]
    alone_s = [_ask_alone(bank, question) for question in sampled]
    bank.looks_up = True
    stored_s = [_ask_alone(bank, question) for question in (sampled[0], *sampled)][1:]
    bank.looks_up = False
    kinds = Counter(answer.kind for answer in foreign.result)
    return {
        "recall_routed": _recall(taught, routed.result),
        "recall_oracle": _recall(taught, by_oracle.result),
        "unknown_handled": 1 - kinds["module"] / unknown,
        "misses": count_misses(taught, routed.result),
        "misses_of_oracle": count_misses(taught, by_oracle.result),
        "unknown": {kind: kinds[kind] for kind in ("abstained", "bare", "module")},
        "router": {f"top{k}": _router_hits(taught, routed.result, k) for k in (1, 3)},
        "gate": {
            "false_activations": gate.result.false_activations if gate.result else None,
            "misses": gate.result.misses if gate.result else None,
            "questions": gate.result.questions if gate.result else 0,
        },
        "ask_ms": {
            "in_a_batch": 1000 * routed.seconds / len(questions),
            "alone": 1000 * median(alone_s),
            "alone_looked_up": 1000 * median(stored_s),
        },
        "seconds": {
            "index": index.seconds,
            "calibrate": gate.seconds,
            "ask_routed": routed.seconds,
            "ask_unknown": foreign.seconds,
            "ask_oracle": by_oracle.seconds,
        },
    }


def _ask_alone(bank: Bank, question: str) -> float:
    """Return the seconds of one question whose prompt is not cached; the adapters are in memory."""
    empty_caches(bank.base)
    return timed(lambda: bank.ask(question))().seconds


def _recall(taught: Sequence[tuple[str, Example]], answers: Sequence[Answer]) -> float:
    return fmean(
        phonebook.is_recalled(example.answer, answer.text)
        for (_, example), answer in zip(taught, answers, strict=True)
    )


def _router_hits(taught: Sequence[tuple[str, Example]], answers: Sequence[Answer], k: int) -> float:
    """Return how often the right module is among the first `k` candidates."""
    return fmean(
        name in [scored.candidate.module for scored in answer.candidates[:k]]
        for (name, _), answer in zip(taught, answers, strict=True)
    )


def count_misses(
    taught: Sequence[tuple[str, Example]], answers: Sequence[Answer]
) -> dict[str, int]:
    """Count the facts that were not recalled, by the stage where they were lost."""
    counts = dict.fromkeys(("wrong_module", "gate_closed", "read_wrong"), 0)
    for (name, example), answer in zip(taught, answers, strict=True):
        if not phonebook.is_recalled(example.answer, answer.text):
            counts[_lost(name, answer)] += 1
    return counts


def _lost(module: str, answer: Answer) -> str:
    if answer.kind == "module":
        return "read_wrong" if answer.module == module else "wrong_module"
    candidates = [scored.candidate.module for scored in answer.candidates]
    return "gate_closed" if module in candidates else "wrong_module"


def _write_summary(write: Timed[list[WriteReport]]) -> dict[str, Any]:
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
    """Time `Bank.write_all` against a `Bank.write` for each module, each time into a new bank.

    Returns: the pairs, and how far apart the weights end as a share of how far they moved.
    """
    with TemporaryDirectory(prefix="lorabank-bench-") as folder:
        drafts = make_drafts(Path(folder), modules, facts)
        files = {draft.name: Path(folder) / draft.sources[0].name for draft in drafts}

        def together(bank: Bank) -> None:
            drafts = [draft_from_files(name, [file]) for name, file in files.items()]
            bank.write_all(drafts, settings=settings)

        def one_by_one(bank: Bank) -> None:
            for name, file in files.items():
                bank.write(name, [file], settings=settings)

        ran = run_pairs(_into_new_bank(base, together), _into_new_bank(base, one_by_one), n=n)
    starts = [
        {path: (a.cpu(), b.cpu()) for path, (a, b) in start_weights(base, job).items()}
        for job in plan_jobs(base, drafts, WriteSettings(settings))
    ]
    ours, alone = ran.ours[-1].result, ran.theirs[-1].result
    apart = fmean(float(gaps(a, b).mean()) for a, b in zip(ours, alone, strict=True))
    moved = fmean(float(gaps(a, b).mean()) for a, b in zip(alone, starts, strict=True))
    return ran, apart / moved


def _into_new_bank(base: Base, write: Callable[[Bank], None]) -> Side[list[Weights]]:
    """Return a side that writes a bank and gives its adapters by the names of their modules."""

    def run() -> Timed[list[Weights]]:
        empty_caches(base)
        with (
            TemporaryDirectory(prefix="lorabank-bench-") as folder,
            new_bank(Path(folder) / "bank", base, embeds=False) as bank,
        ):
            seconds = timed(lambda: write(bank))().seconds
            return Timed(seconds, [a.weights for a in bank.reader.load_adapters(bank.modules())])

    return run
