"""Training at the rank that facts need: grown while facts miss, then shrunk as recall allows.

A job whose settings say `auto_r` starts at their rank. Where its loss stands still, or its budget
is spent, before all is recalled, the adapter is grown to twice the rank (`lora/growth.py`) and
trained on. What recalls is shrunk (`engine/shrink.py`), all answers and the margin kept.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from lorabank.engine.backbone.base import Base
from lorabank.engine.settings import TrainSettings, lr_for, seed_for
from lorabank.engine.shrink import ShrinkSettings, forms_to_keep, shrink
from lorabank.engine.training.jobs import Job, Outcome
from lorabank.engine.training.train import OnRound, OnStep, train
from lorabank.errors import UsageError
from lorabank.lora.growth import grown
from lorabank.tasks.examples import Example

MOST_R = 64


def train_and_fit(
    base: Base,
    jobs: Sequence[Job],
    examples: Sequence[Sequence[Example]],
    *,
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
    on_round: OnRound | None = None,
) -> list[Outcome]:
    """Train every job as `train` does, and fit the rank of those whose settings say so.

    Args:
        examples: what each job was encoded from, by which its recall is proved.
        checkpoint: folder to save to on the way, as for `train`; what is grown is not saved.

    Raises:
        TrainingPaused, UsageError, StorageError: as `train`.
    """
    outcomes = train(base, jobs, checkpoint=checkpoint, on_step=on_step, on_round=on_round)
    while True:
        short = [i for i, outcome in enumerate(outcomes) if _may_grow(base, outcome)]
        if not short:
            break
        again = [grow(base, outcomes[i]) for i in short]
        trained = train(base, again, on_step=on_step, on_round=on_round)
        for i, outcome in zip(short, trained, strict=False):
            outcomes[i] = _joined(outcomes[i], outcome)
        if len(trained) < len(again):
            break  # interrupted before all of them started
    return [
        _fitted(base, outcome, of_job) for outcome, of_job in zip(outcomes, examples, strict=False)
    ]


def grow(base: Base, outcome: Outcome) -> Job:
    """Return a job that goes on from an outcome at twice its rank, or at the most there is."""
    job, settings = outcome.job, outcome.job.settings
    r = min(2 * settings.r, _most_r(base, job))
    changed = replace(settings, r=r, alpha=settings.alpha / settings.r * r, lr=_lr(settings, r))
    generator = torch.Generator().manual_seed(seed_for(settings.seed, f"grown to {r}"))
    weights = {path: grown(a, b, r, generator) for path, (a, b) in outcome.weights.items()}
    return replace(job, settings=changed, start=weights)


def _lr(settings: TrainSettings, r: int) -> float:
    """Return the learning rate at a rank, in the settings' proportion to our recipe's."""
    return settings.lr * lr_for(r) / lr_for(settings.r)


def _most_r(base: Base, job: Job) -> int:
    return min(MOST_R, *(min(base.linears[path]) for path in job.paths))


def _may_grow(base: Base, outcome: Outcome) -> bool:
    job = outcome.job
    is_short = outcome.stopped in ("stalled", "budget")
    is_short = is_short and outcome.recall < (job.settings.until_recall or 0)
    return job.settings.auto_r and is_short and job.settings.r < _most_r(base, job)


def _joined(first: Outcome, second: Outcome) -> Outcome:
    """Return the outcome of the second stage with what both cost; the first if it recalls more."""
    better = first if first.recall > second.recall else second
    return replace(
        better,
        job=replace(better.job, start=None),
        stopped=second.stopped,
        steps=first.steps + second.steps,
        exposures=first.exposures + second.exposures,
        trained_tokens=first.trained_tokens + second.trained_tokens,
        curve=(*first.curve, *second.curve),
    )


def _fitted(base: Base, outcome: Outcome, examples: Sequence[Example]) -> Outcome:
    """Return an outcome in the smallest form that keeps all that it recalls."""
    settings = outcome.job.settings
    if not settings.auto_r or outcome.stopped in ("diverged", "interrupted"):
        return outcome
    forms = forms_to_keep(base, examples, settings.recipe, activated=settings.activated)
    keeping = ShrinkSettings(keep_recall=1.0, margin=settings.margin)
    try:
        shrunk = shrink(base, outcome.adapter, forms, keeping)
    except UsageError:  # nothing was learnt, or rounding alone loses an answer
        return outcome
    return replace(outcome, weights=shrunk.adapter.weights, packed=shrunk.packed)
