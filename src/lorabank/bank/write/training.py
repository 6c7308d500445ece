"""Training of module drafts in one fleet, measured, and repeated where passages did not stick.

A further pass trains the whole module again from the start, since an adapter in a fleet starts from
nothing, with the examples of the passages that did not stick seen twice as often. Of two passes the
one with the higher recall of what is taught is kept; a module that recalls everything is not
trained again.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from lorabank.bank.drafts import ModuleDraft
from lorabank.bank.write.passages import (
    PassageResult,
    judge_passages,
    mean,
    read_held_out,
    score_written_answers,
)
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import RenderedForm
from lorabank.engine.evaluation.evaluate import (
    Evaluation,
    QuestionSet,
    evaluate_fleet,
    join_questions,
    prepare_questions,
)
from lorabank.engine.fit_rank import train_and_fit
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import AnswerReading
from lorabank.engine.inference.recall_check import (
    encode_forms,
    held_out_form,
    read_forms,
)
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import SOUND, TrainSettings
from lorabank.engine.training.jobs import Job, Outcome
from lorabank.engine.training.train import OnRound, OnStep
from lorabank.errors import UsageError

MOST_PASSES = 5


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """The choices of a write: how drafts are trained and put into the bank.

    Raises:
        UsageError: a number of passes out of range.
    """

    settings: TrainSettings = SOUND
    replace: bool = False
    """Whether a new version of a module that exists may be written."""
    one_seed: bool = False
    """Whether all modules have the seed of the settings, and so the same initial A, instead of a
    seed each by their name."""
    passes: int = 1
    """Most trainings of a module; it is trained again where passages did not stick."""
    on_step: OnStep | None = None
    """Called after each step of a job."""
    on_round: OnRound | None = None
    """Called after each step of the fleet."""
    checkpoint: Path | None = None
    """Folder from which the first training resumes if it was paused; None to begin anew."""

    def __post_init__(self) -> None:
        """Check the number of passes."""
        check_passes(self.passes)


@dataclass(frozen=True, slots=True)
class TrainingPass:
    """One training of a module, as its report shows it."""

    recall: float
    exposures_per_fact: float
    not_stuck: int
    """Number of passages that did not stick."""
    gain_nats: float | None
    """Nats per token that the held-out answers gained on the bare model, mean over questions."""
    is_kept: bool = True
    """Whether the module was written as this pass trained it."""

    def as_json(self) -> dict[str, Any]:
        """Return the fields, under the names that module records use."""
        values = asdict(self)
        values["kept"] = values.pop("is_kept")
        return values


@dataclass(slots=True)
class TrainedDraft:
    """A module as it was trained and measured."""

    outcome: Outcome
    evaluation: Evaluation
    """Evaluation of the module on its examples, with its drift."""
    other_renderings: dict[str, Sequence[AnswerReading]] = field(default_factory=dict)
    """Readings of its examples under other renderings and of held-out wordings, by their names."""
    passage_results: list[PassageResult] = field(default_factory=list)
    passes: list[TrainingPass] = field(default_factory=list)
    held_out: dict[str, Any] | None = None
    """Scores of the held-out questions, as `WriteReport.held_out` shows them."""

    @property
    def recall(self) -> float:
        return self.evaluation.recall

    @property
    def not_stuck(self) -> list[PassageResult]:
        """Return the passages that did not stick."""
        return [result for result in self.passage_results if not result.has_stuck]


@dataclass(frozen=True, slots=True)
class _PlannedDraft:
    """A draft with its job and the questions it is measured by, as the bare base reads them."""

    draft: ModuleDraft
    job: Job
    taught: QuestionSet
    held_out: QuestionSet


def check_passes(passes: int) -> None:
    """Refuse a number of passes that is out of range.

    Raises:
        UsageError: states the range.
    """
    if not 1 <= passes <= MOST_PASSES:
        raise UsageError(f"--passes must be 1..{MOST_PASSES}, got {passes}")


def train_drafts(
    base: Base, drafts: Sequence[ModuleDraft], jobs: Sequence[Job], options: WriteSettings
) -> list[TrainedDraft]:
    """Train and measure every draft, and return them in order.

    Args:
        jobs: one for each draft, as `plan_jobs` returns them.

    Raises:
        UsageError: training diverged.
        KeyboardInterrupt: training was interrupted.
        TrainingPaused: `options.on_round` raised it.
    """
    held_out = read_held_out(base, drafts, activated=jobs[0].settings.activated)
    taught = _read_taught(base, drafts, jobs)
    planned = [_PlannedDraft(*parts) for parts in zip(drafts, jobs, taught, held_out, strict=True)]
    trained = _train_pass(base, planned, options, checkpoint=options.checkpoint)
    for _ in range(options.passes - 1):
        weak = [i for i, module in enumerate(trained) if module.not_stuck and module.recall < 1]
        if not weak:
            break
        again = [
            replace(planned[i], job=_stress_weak_passages(base, planned[i], trained[i]))
            for i in weak
        ]
        for i, module in zip(weak, _train_pass(base, again, options), strict=True):
            trained[i] = _keep_better(trained[i], module)
    _score_held_out(base, trained, held_out)
    return trained


def _read_taught(
    base: Base, drafts: Sequence[ModuleDraft], jobs: Sequence[Job]
) -> list[QuestionSet]:
    """Let the bare base read the examples of all drafts together."""
    questions = prepare_questions(
        base,
        [example for draft in drafts for example in draft.examples],
        prompts=[prompt for job in jobs for prompt in job.dataset.prompts],
    )
    ends = list(accumulate((len(draft.examples) for draft in drafts), initial=0))
    return [questions.select(range(start, end)) for start, end in pairwise(ends)]


def _train_pass(
    base: Base,
    planned: Sequence[_PlannedDraft],
    options: WriteSettings,
    *,
    checkpoint: Path | None = None,
) -> list[TrainedDraft]:
    """Train all drafts once and measure them."""
    jobs = [plan.job for plan in planned]
    outcomes = train_and_fit(
        base,
        jobs,
        [plan.draft.examples for plan in planned],
        checkpoint=checkpoint,
        on_step=options.on_step,
        on_round=options.on_round,
    )
    for outcome in outcomes:
        if outcome.stopped == "diverged":
            raise UsageError(
                f"training of {outcome.job.name!r} diverged after {outcome.exposures:.1f} "
                f"exposures at --lr {outcome.job.settings.lr:g}; try a third of it. "
                "Nothing was written"
            )
    if len(outcomes) < len(jobs) or any(o.stopped == "interrupted" for o in outcomes):
        raise KeyboardInterrupt
    with loaded_fleet(base, [outcome.adapter for outcome in outcomes]) as fleet:
        of_taught = _evaluate(fleet, [plan.taught for plan in planned], drift=True)
        of_held_out = _evaluate(fleet, [plan.held_out for plan in planned])
        others = [
            read_forms(base, _other_forms(base, plan), fleet=fleet, slot=slot)
            for slot, plan in enumerate(planned)
        ]
    modules = [TrainedDraft(*parts) for parts in zip(outcomes, of_taught, others, strict=True)]
    for module, plan, evaluation in zip(modules, planned, of_held_out, strict=True):
        _judge(module, plan.draft, evaluation)
    return modules


def _other_forms(base: Base, plan: _PlannedDraft) -> Sequence[RenderedForm]:
    """Return the draft's examples as other programs render them, and their held-out wordings."""
    settings, examples = plan.job.settings, plan.draft.examples
    forms = encode_forms(base, examples, settings.recipe, activated=settings.activated)
    held_out = held_out_form(base, examples, settings.recipe, activated=settings.activated)
    return [*forms[1:], held_out]


def _evaluate(
    fleet: Fleet, question_sets: Sequence[QuestionSet], *, drift: bool = False
) -> list[Evaluation]:
    """Evaluate each slot's module on its own questions, all in shared batches."""
    n_slots = len(question_sets)
    slots = [slot for slot, questions in enumerate(question_sets) for _ in range(len(questions))]
    evaluation = evaluate_fleet(fleet, join_questions(question_sets), slots, drift=drift)
    return evaluation.by_slot(n_slots)


def _judge(module: TrainedDraft, draft: ModuleDraft, held_out: Evaluation) -> None:
    """Add the results of the draft's passages, if it has any."""
    if not draft.passages:
        return
    gains = held_out.gains
    module.passage_results = judge_passages(draft, module.evaluation.after, gains)
    gain = mean(gains)
    exposures = module.outcome.exposures
    module.passes = [TrainingPass(module.recall, exposures, len(module.not_stuck), gain)]
    module.held_out = {"questions": len(gains), "gain_nats": gain} if gains else None


def _stress_weak_passages(base: Base, plan: _PlannedDraft, module: TrainedDraft) -> Job:
    """Return the job with the examples of passages that did not stick twice in it."""
    examples, job = plan.draft.examples, plan.job
    weak = [
        examples[i]
        for passage, result in zip(plan.draft.passages, module.passage_results, strict=True)
        if not result.has_stuck
        for i in passage.examples
    ]
    unprotected = replace(job.settings, protect_share=0.0)  # the regularisation examples stay
    dataset = plan_job(base, [*examples, *weak], unprotected).dataset
    return replace(job, dataset=replace(dataset, regularisation=job.dataset.regularisation))


def _keep_better(first: TrainedDraft, second: TrainedDraft) -> TrainedDraft:
    """Return the module that recalls more, the first of equals, with the passes of both."""
    wins = second.recall > first.recall
    passes = [replace(p, is_kept=p.is_kept and not wins) for p in first.passes]
    passes += [replace(p, is_kept=wins) for p in second.passes]
    better = second if wins else first
    better.passes = passes
    return better


def _score_held_out(
    base: Base, modules: Sequence[TrainedDraft], held_out: Sequence[QuestionSet]
) -> None:
    """Let the kept modules write out answers to held-out questions, and add their token F1."""
    if not any(map(len, held_out)):
        return
    with loaded_fleet(base, [module.outcome.adapter for module in modules]) as fleet:
        scores = score_written_answers(base, fleet, held_out)
    for module, (bare, own) in zip(modules, scores, strict=True):
        if module.held_out is not None:
            module.held_out.update(
                {"written": len(own), "token_f1_bare": mean(bare), "token_f1": mean(own)}
            )
