"""Arms of the wording bench that write what they are asked about, and what wordings cost to write.

bank      a bank as its users ask it: stored examples, then modules behind the gate
adapter   the same modules by their weights alone, behind the gate
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import ModuleDraft, draft_from_examples
from lorabank.bank.opening import identify_base
from lorabank.bench.setup import empty_caches
from lorabank.bench.wording_data import Asked, StoredFact, phone_facts
from lorabank.engine.backbone.base import Base
from lorabank.engine.learn import LearnReport, learn
from lorabank.engine.settings import TrainSettings
from lorabank.store.store import Store
from lorabank.tasks.examples import from_pair

_log = logging.getLogger(__name__)
_NEW_TOKENS = 24
_FROM_MEMORY = ("example", "module")  # the bare model's own answers are nobody's memory


@dataclass(frozen=True, slots=True)
class Told:
    """An arm's answer to a question."""

    answer: str | None
    """Answer that is given; None for no answer."""
    p: float | None = None
    """Probability that it is right; None for an arm that does not say."""


Arm = Callable[[Sequence[Asked]], list[Told]]


@contextmanager
def written_arms(
    base: Base,
    facts: Sequence[StoredFact],
    settings: TrainSettings,
    *,
    facts_each: int,
    embeds: bool,
) -> Iterator[dict[str, Arm]]:
    """Write facts into modules of `facts_each`, and yield the arms that ask them."""
    drafts = _drafts(facts, facts_each)
    with TemporaryDirectory(prefix="lorabank-bench-") as folder:
        store = Store.create(Path(folder) / "bank", base=identify_base(base.info))
        with Bank(store, base, embeds=embeds) as bank:
            _log.info("writing %d facts into %d modules", len(facts), len(drafts))
            bank.write_all(drafts, settings=settings)
            bank.gate()
            yield {
                "bank": _asking(bank, looks_up=True),
                "adapter": _asking(bank, looks_up=False),
            }


def _drafts(facts: Sequence[StoredFact], facts_each: int) -> list[ModuleDraft]:
    """Return the drafts of modules; of facts with the same question only the first is taught."""
    taught: dict[str, str] = {}
    for fact in facts:
        taught.setdefault(fact.question, fact.answer)
    examples = [from_pair(question, answer) for question, answer in taught.items()]
    return [
        draft_from_examples(
            f"part-{start // facts_each:02}",
            examples[start : start + facts_each],
            source=f"{start}",
        )
        for start in range(0, len(examples), facts_each)
    ]


def _asking(bank: Bank, *, looks_up: bool) -> Arm:
    def tell(questions: Sequence[Asked]) -> list[Told]:
        bank.looks_up = looks_up
        answers = bank.ask_all([q.question for q in questions], max_new_tokens=_NEW_TOKENS)
        return [Told(a.text if a.kind in _FROM_MEMORY else None, a.p) for a in answers]

    return tell


def measure_writing(base: Base, settings: TrainSettings, *, facts: int) -> dict[str, float | None]:
    """Return what several wordings and the reverse cost and give, on one phone book.

    Returns:
        `write_ratio`, the seconds of a write with four wordings over those with one, both to the
        same recall, and `reversed`, the recall of questions the other way round where facts are
        taught so; None where they did not come to the same recall.
    """
    single = _learn(base, replace(settings, wordings=0), facts)
    four = _learn(base, replace(settings, wordings=4), facts)
    both_ways = _learn(base, replace(settings, wordings=4, reverse=True), facts)
    return {
        "write_ratio": round(four.seconds / single.seconds, 3)
        if four.recall == single.recall
        else None,
        "reversed": both_ways.recall_reversed,
    }


def _learn(base: Base, settings: TrainSettings, n: int) -> LearnReport:
    empty_caches(base)
    started = perf_counter()
    examples = [from_pair(f.question, f.answer) for f in phone_facts(n, seed=1000 + settings.seed)]
    with TemporaryDirectory(prefix="lorabank-bench-") as folder:
        report = learn(base, examples, out=Path(folder) / "adapter", settings=settings)
    _log.info(
        "wordings %d, reverse %s: recall %.3f in %.0f s of %.0f s",
        settings.wordings,
        settings.reverse,
        report.recall,
        report.seconds,
        perf_counter() - started,
    )
    return report
