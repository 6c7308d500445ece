"""Training of parcels in one fleet, measured, and once more for what did not stick.

A further pass trains the whole module anew with the examples of the passages that did not stick
seen twice as often, as an adapter in a fleet starts from nothing. The better of two passes by
recall of what is taught is kept; a module that recalls all of it is not trained again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lorabank.bank.write.drafts import ModuleDraft
from lorabank.bank.write.passages import (
    HeldOutQuestions,
    PassageResult,
    judge_passages,
    mean,
    read_held_out,
    score_written_answers,
)
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import EvaluationPrompt
from lorabank.engine.evaluation.drift import kl_to_base
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.recall import AnswerReading, read_answers, recall_share
from lorabank.engine.learn import plan_job
from lorabank.engine.training.jobs import Job, Outcome
from lorabank.engine.training.train import OnRound, OnStep, train
from lorabank.errors import UsageError

MOST_PASSES = 5


@dataclass(frozen=True, slots=True)
class TrainingPass:
    """One training of a module, as its report has it."""

    recall: float
    exposures_per_fact: float
    not_stuck: int
    """Passages."""
    gain_nats: float | None
    """Per token of the held-out answers, mean over questions."""
    kept: bool = True


@dataclass(slots=True)
class TrainedDraft:
    """A module as it was trained, and what it was found to know."""

    outcome: Outcome
    before: list[AnswerReading]
    """Of its examples by the bare model."""
    after: list[AnswerReading]
    kl_nats: float
    passage_results: list[PassageResult] = field(default_factory=list)
    passes: list[TrainingPass] = field(default_factory=list)
    held_out: dict[str, Any] | None = None

    @property
    def recall(self) -> float:
        return recall_share(self.after)

    @property
    def not_stuck(self) -> list[PassageResult]:
        return [verdict for verdict in self.passage_results if not verdict.has_stuck]


def train_drafts(
    base: Base,
    parcels: Sequence[ModuleDraft],
    jobs: Sequence[Job],
    *,
    passes: int = 1,
    on_step: OnStep | None = None,
    on_round: OnRound | None = None,
) -> list[TrainedDraft]:
    """Every parcel trained and measured, in order.

    Raises:
        UsageError: a number of passes out of range, or training that diverged.
        KeyboardInterrupt: the training was interrupted.
    """
    check_passes(passes)
    exams = read_held_out(base, parcels, activated=jobs[0].settings.activated)
    before = read_answers(base, [probe for job in jobs for probe in job.dataset.prompts])
    found = _fleet(base, parcels, jobs, exams, on_step, on_round)
    sizes = [len(job.dataset.prompts) for job in jobs]
    for trained, part in zip(found, _split(before, sizes), strict=True):
        trained.before = part
    for _ in range(passes - 1):
        weak = [i for i, one in enumerate(found) if one.not_stuck and one.recall < 1]
        if not weak:
            break
        again = _fleet(
            base,
            [parcels[i] for i in weak],
            [_stressed(base, parcels[i], jobs[i], found[i]) for i in weak],
            [exams[i] for i in weak],
            on_step,
            on_round,
        )
        for i, other in zip(weak, again, strict=True):
            found[i] = _better(found[i], other)
    _answer(base, found, exams)
    return found


def check_passes(passes: int) -> None:
    """Refuse a number of passes that is out of range."""
    if not 1 <= passes <= MOST_PASSES:
        raise UsageError(f"--passes must be 1..{MOST_PASSES}, got {passes}")


def _fleet(
    base: Base,
    parcels: Sequence[ModuleDraft],
    jobs: Sequence[Job],
    exams: Sequence[HeldOutQuestions],
    on_step: OnStep | None,
    on_round: OnRound | None,
) -> list[TrainedDraft]:
    """One pass over all jobs."""
    outcomes = train(base, jobs, on_step=on_step, on_round=on_round)
    for outcome in outcomes:
        if outcome.stopped == "diverged":
            raise UsageError(
                f"training of {outcome.job.name!r} diverged after {outcome.exposures:.1f} "
                f"exposures at --lr {outcome.job.settings.lr:g}; try a third of it. "
                "Nothing was written"
            )
    if len(outcomes) < len(jobs) or any(o.stopped == "interrupted" for o in outcomes):
        raise KeyboardInterrupt
    with _seated(base, outcomes) as fleet:
        taught = [
            job.dataset.prompts[: len(parcel.examples)]
            for job, parcel in zip(jobs, parcels, strict=True)
        ]
        after = _read(base, fleet, taught)
        asked = _read(base, fleet, [exam.prompts for exam in exams])
        harms = kl_to_base(base, fleet, range(len(jobs)))
    found = [TrainedDraft(outcome, [], after[i], harms[i]) for i, outcome in enumerate(outcomes)]
    for trained, parcel, exam, readings in zip(found, parcels, exams, asked, strict=True):
        _judge(trained, parcel, exam, readings)
    return found


@contextmanager
def _seated(base: Base, outcomes: Sequence[Outcome]) -> Iterator[Fleet]:
    """A fleet around the base with every outcome in its slot."""
    jobs = [outcome.job for outcome in outcomes]
    paths = list(dict.fromkeys(path for job in jobs for path in job.paths))
    r = max(job.saved_r for job in jobs)
    with Fleet(base, paths=paths, r=r, width=len(jobs)) as fleet:
        for slot, outcome in enumerate(outcomes):
            job, is_on = outcome.job, outcome.job.settings.activated
            fleet.load(slot, outcome.weights, alpha=job.saved_alpha, activated=is_on)
        yield fleet


def _read(
    base: Base, fleet: Fleet, probes: Sequence[Sequence[EvaluationPrompt]]
) -> list[list[AnswerReading]]:
    """The probes of each slot by its module, all in shared batches."""
    every = [probe for some in probes for probe in some]
    slots = [slot for slot, some in enumerate(probes) for _ in some]
    return _split(
        read_answers(base, every, fleet=fleet, slots=slots), [len(some) for some in probes]
    )


def _judge(
    trained: TrainedDraft,
    parcel: ModuleDraft,
    exam: HeldOutQuestions,
    asked: Sequence[AnswerReading],
) -> None:
    if not parcel.passages:
        return
    gains = exam.gains(asked)
    trained.passage_results = judge_passages(parcel, trained.after, gains)
    gain = mean(gains)
    exposures = trained.outcome.exposures
    trained.passes = [TrainingPass(trained.recall, exposures, len(trained.not_stuck), gain)]
    trained.held_out = {"questions": len(gains), "gain_nats": gain} if gains else None


def _stressed(base: Base, parcel: ModuleDraft, job: Job, trained: TrainedDraft) -> Job:
    """The job with the examples of passages that did not stick twice in it."""
    examples = parcel.examples
    weak = [
        examples[i]
        for passage, verdict in zip(parcel.passages, trained.passage_results, strict=True)
        if not verdict.has_stuck
        for i in passage.examples
    ]
    bare = replace(job.settings, protect_share=0.0)  # guards are as they were
    lessons = plan_job(base, [*examples, *weak], bare).dataset
    return replace(job, dataset=replace(lessons, regularisation=job.dataset.regularisation))


def _better(first: TrainedDraft, other: TrainedDraft) -> TrainedDraft:
    """The one that recalls more, the first of two alike; it is told of both."""
    other.before = first.before
    wins = other.recall > first.recall
    told = [TrainingPass(**{**asdict(one), "kept": one.kept and not wins}) for one in first.passes]
    told += [TrainingPass(**{**asdict(one), "kept": wins}) for one in other.passes]
    kept = other if wins else first
    kept.passes = told
    return kept


def _answer(base: Base, found: Sequence[TrainedDraft], exams: Sequence[HeldOutQuestions]) -> None:
    """Have held-out questions answered in words, by what is kept."""
    if not any(exam.prompts for exam in exams):
        return
    with _seated(base, [one.outcome for one in found]) as fleet:
        scores = score_written_answers(base, fleet, exams)
    for one, (bare, own) in zip(found, scores, strict=True):
        if one.held_out is not None:
            f1 = {"written": len(own), "token_f1_bare": mean(bare), "token_f1": mean(own)}
            one.held_out.update(f1)


def _split(readings: Sequence[AnswerReading], sizes: Sequence[int]) -> list[list[AnswerReading]]:
    rest = iter(readings)
    return [[next(rest) for _ in range(size)] for size in sizes]
