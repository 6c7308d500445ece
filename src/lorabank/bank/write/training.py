"""Training of parcels in one fleet, measured, and once more for what did not stick.

A further pass trains the whole module anew with the examples of the passages that did not stick
seen twice as often, as an adapter in a fleet starts from nothing. The better of two passes by
recall of what is taught is kept; a module that recalls all of it is not trained again.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any

from lorabank.bank.write.drafts import ModuleDraft
from lorabank.bank.write.passages import (
    PassageResult,
    judge_passages,
    mean,
    read_held_out,
    score_written_answers,
)
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.evaluation.evaluate import (
    Evaluation,
    QuestionSet,
    evaluate_fleet,
    join_questions,
    prepare_questions,
)
from lorabank.engine.fleet.fleet import Fleet
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
    evaluation: Evaluation
    """Of its examples, with its drift."""
    passage_results: list[PassageResult] = field(default_factory=list)
    passes: list[TrainingPass] = field(default_factory=list)
    held_out: dict[str, Any] | None = None

    @property
    def recall(self) -> float:
        return self.evaluation.recall

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
    held_out = read_held_out(base, parcels, activated=jobs[0].settings.activated)
    taught = _taught_questions(base, parcels, jobs)
    found = _fleet(base, parcels, jobs, taught, held_out, on_step, on_round)
    for _ in range(passes - 1):
        weak = [i for i, one in enumerate(found) if one.not_stuck and one.recall < 1]
        if not weak:
            break
        again = _fleet(
            base,
            [parcels[i] for i in weak],
            [_stressed(base, parcels[i], jobs[i], found[i]) for i in weak],
            [taught[i] for i in weak],
            [held_out[i] for i in weak],
            on_step,
            on_round,
        )
        for i, other in zip(weak, again, strict=True):
            found[i] = _better(found[i], other)
    _answer(base, found, held_out)
    return found


def _taught_questions(
    base: Base, parcels: Sequence[ModuleDraft], jobs: Sequence[Job]
) -> list[QuestionSet]:
    """Have the bare base read the examples of all parcels together."""
    questions = prepare_questions(
        base,
        [example for parcel in parcels for example in parcel.examples],
        prompts=[prompt for job in jobs for prompt in job.dataset.prompts],
    )
    ends = list(accumulate((len(parcel.examples) for parcel in parcels), initial=0))
    return [questions.select(range(start, end)) for start, end in pairwise(ends)]


def check_passes(passes: int) -> None:
    """Refuse a number of passes that is out of range."""
    if not 1 <= passes <= MOST_PASSES:
        raise UsageError(f"--passes must be 1..{MOST_PASSES}, got {passes}")


def _fleet(
    base: Base,
    parcels: Sequence[ModuleDraft],
    jobs: Sequence[Job],
    taught: Sequence[QuestionSet],
    held_out: Sequence[QuestionSet],
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
    adapters = [outcome.adapter for outcome in outcomes]
    with loaded_fleet(base, adapters) as fleet:
        of_taught = _evaluate(fleet, taught, drift=True)
        of_held_out = _evaluate(fleet, held_out)
    found = [TrainedDraft(o, evaluation) for o, evaluation in zip(outcomes, of_taught, strict=True)]
    for trained, parcel, evaluation in zip(found, parcels, of_held_out, strict=True):
        _judge(trained, parcel, evaluation)
    return found


def _evaluate(
    fleet: Fleet, sets: Sequence[QuestionSet], *, drift: bool = False
) -> list[Evaluation]:
    """Evaluate each slot's module on its own questions, all in shared batches."""
    slots = [slot for slot, questions in enumerate(sets) for _ in range(len(questions))]
    return evaluate_fleet(fleet, join_questions(sets), slots, drift=drift).by_slot(len(sets))


def _judge(trained: TrainedDraft, parcel: ModuleDraft, held_out: Evaluation) -> None:
    if not parcel.passages:
        return
    gains = held_out.gains
    trained.passage_results = judge_passages(parcel, trained.evaluation.after, gains)
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
    wins = other.recall > first.recall
    told = [TrainingPass(**{**asdict(one), "kept": one.kept and not wins}) for one in first.passes]
    told += [TrainingPass(**{**asdict(one), "kept": wins}) for one in other.passes]
    kept = other if wins else first
    kept.passes = told
    return kept


def _answer(base: Base, found: Sequence[TrainedDraft], held_out: Sequence[QuestionSet]) -> None:
    """Have held-out questions answered in words, by what is kept."""
    if not any(map(len, held_out)):
        return
    with loaded_fleet(base, [one.outcome.adapter for one in found]) as fleet:
        scores = score_written_answers(base, fleet, held_out)
    for one, (bare, own) in zip(found, scores, strict=True):
        if one.held_out is not None:
            f1 = {"written": len(own), "token_f1_bare": mean(bare), "token_f1": mean(own)}
            one.held_out.update(f1)
