"""Ways to keep facts that come in many writes: the arms of the bench of retention, too.

    text      every fact stays pending: stored text, no module
    read      every fact is a line of text; the five that BM25 finds are read by the base
    modules   a module for each write, none merged; the store masks what holds no longer
    bank      facts are consolidated after each write, and asked as users do
    sequence  one adapter, trained on with each write's facts alone
    replay    the same with a tenth of the earlier facts beside them
    replayed  the same with all earlier facts beside them
    merged    an adapter for each write, their updates summed and cut to one adapter (SVD)

The last four are asked by weights alone, without lookup or gate: they know no dates and refuse
nothing. Each fact of a write is trained on for the exposures of the settings; what is replayed or
merged comes on top, and is counted. All that an arm keeps is in its bank, so that a stream can go
on in another process.
"""

import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lorabank.bank.bank import Bank
from lorabank.bank.fact_book import FactBook
from lorabank.bank.write.consolidate import ConsolidateOptions
from lorabank.bank.write.write import with_own_seed
from lorabank.engine.adapters.adapter import Adapter, save_adapter
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.adapters.merging import MergeSettings, merge_adapters
from lorabank.engine.backbone.base import Base
from lorabank.engine.evaluation.drift import measure_drift
from lorabank.engine.inference.document_prefix import prompt_with_document
from lorabank.engine.inference.generate import generate
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import TrainSettings
from lorabank.engine.training.jobs import Outcome
from lorabank.engine.training.train import train
from lorabank.retrieval.bm25 import Bm25
from lorabank.study.continual.stream import Stated, Write
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.made_wordings import reword

N_READ = 5
"""Lines of text that the arm `read` puts before a question."""
MOST_MERGED_R = 64
_MODULE = "all"  # of the arms with one adapter
_REPLIES = 48  # most tokens of a reply about text


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to keep facts."""

    write: Callable[[Bank, Write, Stated], float]
    """Adds a write to the bank and returns how many examples were trained on for it."""
    ask: Callable[[Bank, Sequence[str]], list[str]]
    knows_dates: bool = False
    is_loose: bool = False
    """Whether an answer is a reply in words, right where it contains the value."""


ARMS = ("text", "read", "modules", "bank", "sequence", "replay", "replayed", "merged")


def make_arms(settings: TrainSettings) -> dict[str, Arm]:
    """Return a fresh arm of each kind, by its name."""

    def consolidate(bank: Bank, write: Write, _: Stated, *, merges: bool = True) -> float:
        _remember(bank, write)
        reports = bank.consolidate(ConsolidateOptions(settings=settings, merges=merges))
        return sum(report.exposures_per_fact * report.facts for report in reports)

    def write_on(replayed_share: float) -> Arm:
        write = partial(_write_on, settings=settings, replayed_share=replayed_share)
        return Arm(write, _ask_weights)

    return {
        "text": Arm(lambda bank, write, _: _remember(bank, write), _in_mode("exact"), True),
        "read": Arm(lambda bank, write, _: _remember(bank, write), _read_found, is_loose=True),
        "modules": Arm(
            lambda bank, write, stated: consolidate(bank, write, stated, merges=False),
            _in_mode("adapter"),
            True,
        ),
        "bank": Arm(consolidate, _in_mode("adapter"), True),
        "sequence": write_on(0.0),
        "replay": write_on(0.1),
        "replayed": write_on(1.0),
        "merged": Arm(partial(_write_and_merge, settings=settings), _ask_weights),
    }


def measure_kl(bank: Bank) -> float:
    """Return the largest divergence from the base of any module, nats per token."""
    versions = bank.modules()
    known = [version.record.get("kl_to_base_nats") for version in versions]
    if not versions or all(isinstance(kl, float) for kl in known):
        return max((float(kl) for kl in known if kl is not None), default=0.0)
    drifts = []
    for adapter in bank.reader.load_adapters(versions):
        with loaded_fleet(bank.base, [adapter]) as fleet:
            drifts.append(measure_drift(fleet, [0])[0].kl_to_base_nats)
    return max(drifts)


def _remember(bank: Bank, write: Write) -> float:
    facts = [(fact.question, fact.answer) for fact in write.facts]
    bank.remember(facts, valid_at=write.day.isoformat())
    return 0.0


def _in_mode(mode: str) -> Callable[[Bank, Sequence[str]], list[str]]:
    """Return how a bank is asked in a mode, as users do."""
    return lambda bank, questions: [a.text for a in bank.ask_all(questions, mode=mode)]


def _ask_weights(bank: Bank, questions: Sequence[str]) -> list[str]:
    """Ask the one module, whatever it says."""
    bank.looks_up = False
    return [a.text for a in bank.ask_all(questions, mode="adapter", gated=False)]


def _read_found(bank: Bank, questions: Sequence[str]) -> list[str]:
    """Let the base read what BM25 finds of the facts that hold."""
    lines = [f"{fact.question} {fact.answer}" for fact in FactBook(bank.store.facts()).current]
    index, prompts = Bm25(lines), []
    for question in questions:
        scores = index.scores(question)
        best = sorted(range(len(lines)), key=lambda i: -scores[i])[:N_READ]
        text = "\n".join(lines[i] for i in best if scores[i] > 0)
        prompts.append(prompt_with_document(bank.base, text, question, room=_REPLIES).ids)
    return generate(bank.base, prompts, max_new_tokens=_REPLIES)


def _write_on(
    bank: Bank, write: Write, stated: Stated, *, settings: TrainSettings, replayed_share: float
) -> float:
    """Train the one adapter on with a write's facts and some of the earlier ones."""
    own = {fact.question for fact in write.facts}
    earlier = [from_pair(q, a) for q, a in stated.current.items() if q not in own]
    rng = random.Random(f"replay {stated.n_writes}")
    examples = [*write.facts, *rng.sample(earlier, round(replayed_share * len(earlier)))]
    outcome = _train(bank.base, examples, settings, _last_adapter(bank))
    _put(bank, outcome.adapter, settings)
    return outcome.exposures * len(examples)


def _write_and_merge(bank: Bank, write: Write, stated: Stated, *, settings: TrainSettings) -> float:
    """Train an adapter on a write's facts and add it to the one that sums the earlier writes."""
    settings = with_own_seed(settings, f"write {stated.n_writes}")
    outcome, last = _train(bank.base, write.facts, settings, None), _last_adapter(bank)
    parts = [outcome.adapter] if last is None else [last, outcome.adapter]
    rank = min(MOST_MERGED_R, sum(part.r for part in parts))
    merged = merge_adapters(
        parts, rule="svd", weights=[1.0] * len(parts), settings=MergeSettings(rank=rank)
    )
    _put(bank, merged, settings)
    return outcome.exposures * len(write.facts)


def _train(
    base: Base, facts: Sequence[Example], settings: TrainSettings, last: Adapter | None
) -> Outcome:
    """Train an adapter on facts, from nothing or on from the last one."""
    job = plan_job(base, reword(list(facts), settings.wordings), settings)
    (outcome,) = train(base, [replace(job, start=None if last is None else last.weights)])
    return outcome


def _last_adapter(bank: Bank) -> Adapter | None:
    """Return the one adapter of a bank; None before the first write."""
    return next(iter(bank.reader.load_adapters(bank.modules())), None)


def _put(bank: Bank, adapter: Adapter, settings: TrainSettings) -> None:
    """Make an adapter the only module of a bank."""
    record = {"base": bank.base.identity, "settings": settings.as_json()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter"
        save_adapter(path, replace(adapter, record=record), base=bank.base)
        bank.import_(path, _MODULE, replace=True, texts=["everything"])
    bank.prune()
