"""Learn: examples into one adapter, with proof of what stuck and what it cost.

Plan (render, choose layers, check), train, verify by asking, measure harm, write. Everything
that can be refused is refused before the first step, the output folder included.
"""

import hashlib
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from lorabank import __version__
from lorabank.engine.adapters.adapter import check_out, save_adapter
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import encode_dataset
from lorabank.engine.evaluation.drift import drift_between, measure_drift, observe_behaviour
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.recall import AnswerReading, read_answers, score_replies
from lorabank.engine.peft_backend.tuner import Tuned, applied, save_tuned, train_with_peft
from lorabank.engine.peft_backend.wrapped import peft_config
from lorabank.engine.training.jobs import Job, Outcome
from lorabank.engine.training.settings import SOUND, TrainSettings
from lorabank.engine.training.train import OnStep, train
from lorabank.errors import UsageError
from lorabank.lora import variants
from lorabank.lora.shapes import choose, count_parameters
from lorabank.tasks.examples import Example
from lorabank.tasks.scoring.exact_match import is_right_as_published
from lorabank.tasks.synthetic import phonebook


@dataclass(frozen=True, slots=True)
class LearnReport:
    """What a write did, as measured."""

    facts: int
    recall_before: float
    """Of the bare model."""
    recall_after: float
    """Of the adapter that was saved, verified after training."""
    missing: tuple[str, ...]
    """Questions whose answers did not stick."""
    stopped: str
    """`recalled`, `budget`, `interrupted`."""
    exposures_per_fact: float
    seconds: float
    """Of training, checks of recall on the way included."""
    train_tokens_per_s: float
    """Tokens of the examples, over `seconds`; an activated adapter's prompts are among them,
    though they are read once and kept."""
    trainable_parameters: int
    adapter_bytes: int
    bits_stored: float
    """By likelihood: per fact, what the answer's probability rose by; a phone number at most
    its 33.2 bits."""
    bits_per_parameter: float
    kl_to_base_nats: float
    known_before: tuple[str, ...]
    known_after: tuple[str, ...]
    adapter: str
    base: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def plan_job(
    base: Base,
    examples: Sequence[Example],
    settings: TrainSettings,
    *,
    name: str = "adapter",
    contexts: Sequence[str] = (),
    regularisation: Sequence[Example] = (),
) -> Job:
    """Render the examples and settle the layers, refusing what cannot be trained.

    Args:
        contexts: for the objective `distil`, the document each example is about.
        guards: for a `protect_share`, ordinary prompts and replies.

    Raises:
        UsageError: nothing to learn, a target, layer or rank that does not fit this base, contexts
            or guards that the settings need and lack, or have and do not use.
        DataError: an example longer than the context.
    """
    if not examples:
        raise UsageError("there is nothing to learn: give at least one example")
    if bool(contexts) != (settings.objective == "distil"):
        raise UsageError(
            "objective distil takes a context for each example and no other objective does; got "
            f"objective {settings.objective}, {len(contexts):,} contexts"
        )
    if bool(regularisation) != (settings.protect_share > 0):
        raise UsageError(
            "a protect_share above 0 takes ordinary examples and 0 takes none; got protect_share "
            f"{settings.protect_share:g}, {len(regularisation):,} ordinary examples"
        )
    paths = choose(base.linears, settings.target_modules, settings.layers)
    if settings.through_peft:
        if base.quantized:
            raise UsageError(
                f"--variant {settings.variant} goes through PEFT, on whole weights only; "
                "leave --quantize out, or take lora, rslora, pissa, orthogonal or frozen-a"
            )
        peft_config(base, paths, settings)
    else:
        variant = variants.parse(settings.variant)
        for path in paths:
            variants.check_rank(variant, r=settings.r, path=path, shape=base.linears[path])
    lessons = encode_dataset(
        base.chat,
        examples,
        recipe=settings.recipe,
        max_tokens=base.max_tokens,
        activated=settings.activated,
        contexts=contexts,
        regularisation=regularisation,
    )
    return Job(name, lessons, settings, tuple(paths))


def learn(
    base: Base,
    examples: Sequence[Example],
    *,
    out: Path,
    settings: TrainSettings = SOUND,
    on_step: OnStep | None = None,
    contexts: Sequence[str] = (),
    regularisation: Sequence[Example] = (),
) -> LearnReport:
    """Write the examples into an adapter in the folder `out`, and measure; the rest as `plan_job`.

    Ctrl-C during training keeps the best adapter so far and reports it as `interrupted`.

    Raises:
        UsageError: a request that does not fit this base, or training that diverged.
        StorageError: `out` cannot be written.
    """
    check_out(out)
    job = plan_job(
        base, examples, settings, name=out.name, contexts=contexts, regularisation=regularisation
    )
    before = read_answers(base, job.dataset.prompts)
    started = time.perf_counter()
    if settings.through_peft:
        outcome: Outcome = train_with_peft(base, job, on_step=on_step)
    else:
        outcome = train(base, [job], on_step=on_step)[0]
    seconds = time.perf_counter() - started
    if outcome.stopped == "diverged":
        raise UsageError(
            f"training diverged after {outcome.exposures:.1f} exposures (loss is not a number) "
            f"at --lr {settings.lr:g}; try a third of it. Nothing was written"
        )
    if outcome.steps == 0:  # interrupted before there was anything to keep
        raise KeyboardInterrupt
    return _measured(base, examples, out, outcome, before, seconds)


def _measured(
    base: Base,
    examples: Sequence[Example],
    out: Path,
    outcome: Outcome,
    before: list[AnswerReading],
    seconds: float,
) -> LearnReport:
    job, s = outcome.job, outcome.job.settings
    before_verdicts = _verdicts(base, job, before)
    if isinstance(outcome, Tuned):
        parameters, bare = outcome.n_parameters, observe_behaviour(base)
        with applied(base, outcome):
            after = read_answers(base, job.dataset.prompts)
            verdicts = _verdicts(base, job, after)
            harm = drift_between(bare, observe_behaviour(base))
    else:
        parameters = trainable_parameters(base, job)
        with Fleet(base, paths=job.paths, r=job.saved_r) as fleet:
            fleet.load(0, outcome.weights, alpha=job.saved_alpha, activated=s.activated)
            slots = [0] * len(examples)
            after = read_answers(base, job.dataset.prompts, fleet=fleet, slots=slots)
            verdicts = _verdicts(base, job, after, fleet=fleet, slots=slots)
            harm = measure_drift(base, fleet, 0)
    bits = sum(map(_stored, examples, before, after))
    report = LearnReport(
        facts=len(examples),
        recall_before=sum(before_verdicts) / len(examples),
        recall_after=sum(verdicts) / len(examples),
        missing=tuple(e.question for e, ok in zip(examples, verdicts, strict=True) if not ok),
        stopped=outcome.stopped,
        exposures_per_fact=outcome.exposures,
        seconds=seconds,
        train_tokens_per_s=outcome.trained_tokens / seconds,
        trainable_parameters=parameters,
        adapter_bytes=0,  # known once it is written
        bits_stored=bits,
        bits_per_parameter=bits / parameters,
        kl_to_base_nats=harm.kl_to_base_nats,
        known_before=harm.known_before,
        known_after=harm.known_after,
        adapter=str(out),
        base=base.info.name,
    )
    record = {
        "format": 1,
        "base": {"name": base.info.name, "sha256": base.info.sha256, "source": base.info.source},
        "settings": s.as_json(),
        "report": {
            key: value
            for key, value in report.as_json().items()
            if key not in ("adapter", "adapter_bytes")  # of the folder, which may move
        },
        "curve": [asdict(epoch) for epoch in outcome.curve],
        "facts_sha256": facts_hash(examples),
        "versions": versions(base),
    }
    if isinstance(outcome, Tuned):
        written = save_tuned(out, base, outcome, record=record)
    else:
        written = save_adapter(
            out,
            outcome.weights,
            base=base,
            r=job.saved_r,
            alpha=job.saved_alpha,
            dropout=s.dropout,
            activated=s.activated,
            record=record,
        )
    return replace(report, adapter_bytes=written)


def _verdicts(
    base: Base,
    job: Job,
    readings: Sequence[AnswerReading],
    *,
    fleet: Fleet | None = None,
    slots: Sequence[int] | None = None,
) -> list[bool]:
    """Which answers count as recalled; the paper's adapters never learn to stop, so by text."""
    if job.settings.recipe != "paper":
        return [reading.recalled for reading in readings]
    probes, score = job.dataset.prompts, is_right_as_published
    return score_replies(base, probes, score, fleet=fleet, slots=slots, readings=readings)


def trainable_parameters(base: Base, job: Job) -> int:
    """How many numbers of the adapter train."""
    shapes = [base.linears[path] for path in job.paths]
    if job.settings.variant == "frozen-a":
        return sum(out * job.settings.r for out, _ in shapes)
    return count_parameters(shapes, job.settings.r)


def facts_hash(examples: Sequence[Example]) -> str:
    text = json.dumps([asdict(example) for example in examples], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _stored(example: Example, before: AnswerReading, after: AnswerReading) -> float:
    """Bits of one answer that are in the adapter and not in the base."""
    entropy = phonebook.bits(example.answer)
    prior = before.bits if entropy is None else min(before.bits, entropy)
    return max(0.0, prior - after.bits)


def versions(base: Base) -> dict[str, str]:
    """Of all that shows in the numbers, dtype and device among it."""
    return {
        "lorabank": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "python": platform.python_version(),
        "dtype": base.precision,
        "device": base.device.type,
    }
