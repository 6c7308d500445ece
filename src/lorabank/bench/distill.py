"""Bench of distillation: teacher targets computed once and cached, or anew at every step.

The peer is our own engine without the cache of teacher targets: the bare base then reads document,
question and answer anew for each row of each batch, as the released trainers of deep context
distillation do (arXiv:2503.08727). The cache is empty when a run starts, so a run pays for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

from lorabank.bench.caching import loss_gap, steady_ratio, training
from lorabank.bench.pairs import largest_gap, report, run_pairs
from lorabank.bench.setup import empty_caches
from lorabank.engine.backbone.base import Base, load_info
from lorabank.engine.backbone.caches import REUSE_ALL, Reuse
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import PLAIN, TrainSettings
from lorabank.engine.training.jobs import Job
from lorabank.engine.training.train import FleetSettings, train
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.synthetic import phonebook

SETTINGS = replace(PLAIN, objective="distil", until_recall=None)
_PER_DOCUMENT = 16  # examples on one document, as the paper draws for each of its chunks
_ASKED = 4  # entries an example asks for: some 90 tokens of answer
_SAME_LOSS = 1e-3  # nats, in float32
_EXACT = (2, 2)  # examples and exposures of the check in float32
_WITHOUT = Reuse(teachers=False)


@dataclass(frozen=True, slots=True)
class DistillationSet:
    """Examples and the document of each."""

    examples: list[Example]
    contexts: list[str]

    def job(self, base: Base, settings: TrainSettings) -> Job:
        return plan_job(base, self.examples, settings, contexts=self.contexts)

    def first(self, n: int) -> "DistillationSet":
        return DistillationSet(self.examples[:n], self.contexts[:n])


@dataclass(frozen=True, slots=True)
class DistillSizes:
    """The sizes of the bench of distillation."""

    facts: int = 16
    """Number of examples, 16 to a document."""
    exposures: int = 4
    context_tokens: int = 2048
    settings: TrainSettings = SETTINGS


def bench_distill(
    base: Base, *, pairs: int = 3, sizes: DistillSizes | None = None
) -> dict[str, Any]:
    """Time distilling answers from documents, with teacher targets cached and without."""
    sizes = sizes or DistillSizes()
    facts, exposures = sizes.facts, sizes.exposures
    settings = replace(sizes.settings, exposures=exposures)
    examples_set = draw(base, facts, context_tokens=sizes.context_tokens)
    job = examples_set.job(base, settings)
    ran = run_pairs(training(base, job, REUSE_ALL), training(base, job, _WITHOUT), n=pairs)
    exact = _exact_gap(base, examples_set, settings)
    rows = job.dataset.examples
    return report(
        "distill",
        base,
        ran,
        equal=exact <= _SAME_LOSS,
        equal_note=(
            f"losses of {min(_EXACT[0], facts)} examples over {_EXACT[1]} exposures in float32, "
            "untimed; in bfloat16 the shape of a batch shows in the last bits"
        ),
        largest_loss_difference_float32=exact,
        largest_loss_difference=loss_gap(ran),
        steady_ratio=steady_ratio(ran),
        documents=len(set(examples_set.contexts)),
        examples=facts,
        exposures=exposures,
        teacher_prompt_tokens=mean(len(row.teacher_prompt_ids) for row in rows),
        student_prompt_tokens=mean(row.answer_start for row in rows),
        answer_tokens=mean(sum(row.loss_mask) for row in rows),
        settings=settings.as_json(),
        note="seconds are of all steps, the teacher's included; steady_ratio leaves the first out",
    )


def draw(base: Base, n: int, *, context_tokens: int) -> DistillationSet:
    """Draw phone books of so many tokens as documents, and questions for a few entries of each."""
    n_documents = -(-n // _PER_DOCUMENT)
    entries = iter(phonebook.build(n_documents * context_tokens // 8, seed=0))
    examples_set = DistillationSet([], [])
    for first in range(0, n, _PER_DOCUMENT):
        facts = list(_page(base, entries, context_tokens))
        text = "\n".join(map(_line, facts))
        for i in range(min(_PER_DOCUMENT, n - first)):
            entries_of_question = [facts[(i * _ASKED + j) % len(facts)] for j in range(_ASKED)]
            names = ", ".join(fact.name for fact in entries_of_question)
            reply = "\n".join(map(_line, entries_of_question))
            examples_set.examples.append(from_pair(f"Which phone numbers have {names}?", reply))
            examples_set.contexts.append(text)
    return examples_set


def _page(
    base: Base, entries: Iterator[phonebook.PhonebookEntry], n_tokens: int
) -> Iterator[phonebook.PhonebookEntry]:
    """Yield entries until the page is full."""
    for fact in entries:
        n_tokens -= len(base.chat.tokenizer(f"{_line(fact)}\n")["input_ids"])
        if n_tokens < 0:
            return
        yield fact


def _line(fact: phonebook.PhonebookEntry) -> str:
    return f"{fact.name}: {fact.number}"


def _exact_gap(base: Base, examples_set: DistillationSet, settings: TrainSettings) -> float:
    """Return the largest gap of losses of a short float32 run with cached targets and without."""
    exact = load_info(base.info, dtype="float32", device=base.device.type)
    count, exposures = _EXACT
    job = examples_set.first(count).job(exact, replace(settings, exposures=exposures))
    losses = []
    for reuse in (REUSE_ALL, _WITHOUT):
        empty_caches(exact)
        outcome = train(exact, [job], fleet_settings=FleetSettings(reuse=reuse))[0]
        losses.append([epoch.loss for epoch in outcome.curve])
    return largest_gap(*losses)
