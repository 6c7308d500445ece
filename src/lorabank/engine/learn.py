"""Learning: examples into one adapter, with proof of what was learnt and what it cost.

`learn` plans a job, trains it, evaluates the adapter, measures its drift and saves it. Everything
that can be refused, the output folder included, is refused before the first training step.
"""

import hashlib
import json
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from lorabank import __version__
from lorabank.engine.adapters.adapter import check_output_folder, save_adapter
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.adapters.packed import Packed
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import encode_dataset, encode_regularisation
from lorabank.engine.encoding.mixed_renderings import SYSTEM_TURNS, add_renderings
from lorabank.engine.encoding.mixed_wordings import add_wordings
from lorabank.engine.evaluation.drift import observe_behaviour
from lorabank.engine.evaluation.evaluate import (
    QuestionSet,
    evaluate_fleet,
    evaluate_wrapped,
    prepare_questions,
)
from lorabank.engine.evaluation.measurement import Measurement, measure_adapter
from lorabank.engine.fit_rank import train_and_fit
from lorabank.engine.inference.recall_check import encode_forms, held_out_form, read_forms
from lorabank.engine.peft_backend.tuner import Tuned, applied, save_tuned, train_with_peft
from lorabank.engine.peft_backend.wrapped import peft_config
from lorabank.engine.settings import SOUND, TrainSettings
from lorabank.engine.training.jobs import Job, Outcome
from lorabank.engine.training.train import OnStep
from lorabank.errors import UsageError
from lorabank.lora import variants
from lorabank.lora.shapes import choose, count_parameters, n_layers, parse_layers
from lorabank.tasks.examples import Example, ExampleLike, examples_from, from_pair
from lorabank.tasks.made_wordings import reverse, reword
from lorabank.tasks.ordinary_texts import SHORT
from lorabank.tasks.scoring.exact_match import is_right_as_published

ORDINARY = tuple(from_pair(question, reply) for question, reply in SHORT)
"""Regularisation examples where none are given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnReport(Measurement):
    """An adapter as `learn` wrote and measured it.

    `seconds` are those of training, the recall checks during training included.
    """

    train_tokens_per_s: float
    """Tokens of the examples over `seconds`; the prompts of an activated adapter are counted,
    though they are read once and cached."""
    known_before: tuple[str, ...]
    """Simple answers the bare base gives (drift.py)."""
    known_after: tuple[str, ...]
    """Answers among `known_before` that the adapter still gives."""
    adapter: str
    """Folder of the adapter."""
    base: str
    """Name of the base model."""

    @property
    def recall_after(self) -> float:
        """Former name of `recall`."""
        return self.recall

    def as_json(self) -> dict[str, Any]:
        """Return all fields, `recall` under its former name too."""
        return {**asdict(self), "recall_after": self.recall_after}


def plan_job(
    base: Base,
    examples: Sequence[Example],
    settings: TrainSettings,
    *,
    name: str = "adapter",
    contexts: Sequence[str] = (),
    regularisation: Sequence[Example] = (),
) -> Job:
    """Encode the examples and choose the layers, refusing what cannot be trained.

    Args:
        contexts: for the objective `distil`, the document each example is about.
        regularisation: for a `protect_share`, ordinary prompts and replies, by default those of
            tasks/ordinary_texts.py. The adapter learns what the base predicts after them, which
            need not be the reply.

    Raises:
        UsageError: nothing to learn, a target, layer or rank that does not fit this base, contexts
            that the objective needs and lacks, or contexts or regularisation that it does not use.
        DataError: an example longer than the model's context.
    """
    _check_texts(settings, len(examples), len(contexts), len(regularisation))
    layers = block_numbers(base, settings.layers)
    settings = replace(settings, layers=layers)
    paths = choose(base.linears, settings.target_modules, layers)
    _check_variant(base, paths, settings)
    if settings.protect_share and not regularisation:
        regularisation = ORDINARY
    dataset = encode_dataset(
        base.chat,
        examples,
        recipe=settings.recipe,
        max_tokens=base.max_tokens,
        activated=settings.activated,
        contexts=contexts,
    )
    if settings.recipe == "sound" and settings.renderings == "all":
        dataset = add_renderings(
            dataset,
            base.chat,
            examples,
            max_tokens=base.max_tokens,
            activated=settings.activated,
            system_turns=SYSTEM_TURNS,
        )
    dataset = add_wordings(
        dataset, base.chat, examples, max_tokens=base.max_tokens, activated=settings.activated
    )
    if regularisation:
        encoded = encode_regularisation(
            base.chat, regularisation, max_tokens=base.max_tokens, activated=settings.activated
        )
        dataset = replace(dataset, regularisation=encoded)
    return Job(name, dataset, settings, tuple(paths))


def _check_texts(
    settings: TrainSettings, n_examples: int, n_contexts: int, n_regularisation: int
) -> None:
    if not n_examples:
        raise UsageError("there is nothing to learn: give at least one example")
    if bool(n_contexts) != (settings.objective == "distil"):
        raise UsageError(
            "objective distil takes a context for each example and no other objective does; got "
            f"objective {settings.objective}, {n_contexts:,} contexts"
        )
    if n_regularisation and not settings.protect_share:
        raise UsageError(
            f"regularisation examples need a protect_share above 0; got {n_regularisation:,} "
            "examples and protect_share 0"
        )


def _check_variant(base: Base, paths: Sequence[str], settings: TrainSettings) -> None:
    if not settings.through_peft:
        variant = variants.parse(settings.variant)
        for path in paths:
            variants.check_rank(variant, r=settings.r, path=path, shape=base.linears[path])
        return
    if base.quantized:
        raise UsageError(
            f"--variant {settings.variant} is trained by PEFT, which needs unquantized weights; "
            "leave --quantize out, or take lora, rslora, pissa, orthogonal or frozen-a"
        )
    peft_config(base, paths, settings)


def block_numbers(base: Base, layers: Sequence[int] | str | None) -> tuple[int, ...] | None:
    """Return the blocks of a base that settings name, by number or as text; None for all.

    Raises:
        UsageError: text that names no blocks, or blocks this base lacks.
    """
    if layers is None or layers == "all":
        return None
    if isinstance(layers, str):
        return tuple(parse_layers(layers, n_layers(base.linears)))
    return tuple(layers)


def learn(
    base: Base,
    examples: Iterable[ExampleLike],
    *,
    out: Path | str,
    settings: TrainSettings = SOUND,
    on_step: OnStep | None = None,
    contexts: Sequence[str] = (),
) -> LearnReport:
    """Train an adapter on examples, measure it, and save it in the folder `out`.

    Ctrl-C during training keeps the best adapter so far and reports it as `interrupted`.

    Args:
        examples: `Example`s, (prompt, answer) pairs or dicts.
        out: a new or empty folder.
        on_step: called after every training step.
        contexts: for the objective `distil`, the document each example is about.

    Raises:
        UsageError: settings or examples that do not fit this base (`plan_job`), or training that
            diverged.
        StorageError: `out` cannot be written.
    """
    out, facts = Path(out), _facts_to_teach(list(examples), settings)
    check_output_folder(out)
    job = plan_job(base, facts, settings, name=out.name, contexts=contexts)
    questions = prepare_questions(
        base,
        facts,
        prompts=job.dataset.prompts,
        scorer=is_right_as_published if settings.recipe == "paper" else None,
    )
    started = time.perf_counter()
    if settings.through_peft:
        outcome: Outcome = train_with_peft(base, job, on_step=on_step)
    else:
        outcome = train_and_fit(base, [job], [facts], on_step=on_step)[0]
    seconds = time.perf_counter() - started
    if outcome.stopped == "diverged":
        raise UsageError(
            f"training diverged after {outcome.exposures:.1f} exposures (the loss became NaN or "
            f"infinite) at --lr {settings.lr:g}; try a third of it. Nothing was written"
        )
    if outcome.steps == 0:  # interrupted before there was anything to keep
        raise KeyboardInterrupt
    return _measure_and_save(base, questions, out, outcome, seconds)


def _facts_to_teach(examples: Sequence[ExampleLike], settings: TrainSettings) -> list[Example]:
    """Return examples checked, reworded, and the other way round, as the settings say."""
    if not examples:
        return []
    facts = reword(examples_from(examples, name="the facts"), settings.wordings)
    turned = reverse(facts, settings.wordings) if settings.reverse else []
    return [*facts, *filter(None, turned)]


def _measure_and_save(
    base: Base, questions: QuestionSet, out: Path, outcome: Outcome, seconds: float
) -> LearnReport:
    """Evaluate the trained adapter and save it with its measurement."""
    settings = outcome.job.settings
    examples, recipe, activated = questions.examples, settings.recipe, settings.activated
    other_forms = [
        *encode_forms(base, examples, recipe, activated=activated)[1:],
        held_out_form(base, examples, recipe, activated=activated),
    ]
    if isinstance(outcome, Tuned):
        n_parameters, bare = outcome.n_parameters, observe_behaviour(base)
        with applied(base, outcome):
            evaluation = evaluate_wrapped(base, questions, bare)
            others = read_forms(base, other_forms)
    else:
        n_parameters = count_trainable(base, outcome.job, outcome.packed)
        with loaded_fleet(base, [outcome.adapter]) as fleet:
            slots = [0] * len(questions)
            evaluation = evaluate_fleet(fleet, questions, slots, drift=True, known=True)
            others = read_forms(base, other_forms, fleet=fleet)
    measurement = measure_adapter(
        evaluation,
        others,
        outcome,
        base=base,
        trainable_parameters=n_parameters,
        seconds=seconds,
    )
    report = LearnReport(
        **asdict(measurement),
        train_tokens_per_s=outcome.trained_tokens / seconds,
        adapter=str(out),
        base=base.info.name,
    )
    n_bytes = _save(base, questions.examples, out, outcome, report)
    return replace(report, adapter_bytes=n_bytes)


def _save(
    base: Base, examples: Sequence[Example], out: Path, outcome: Outcome, report: LearnReport
) -> int:
    """Write the adapter folder; return the bytes of its weights."""
    s = outcome.job.settings
    record = {
        "format": 1,
        "base": {**base.identity, "source": base.info.source},
        "settings": s.as_json(),
        "report": {
            key: value
            for key, value in report.as_json().items()
            if key not in ("adapter", "adapter_bytes")  # the folder may be moved
        },
        "curve": [asdict(epoch) for epoch in outcome.curve],
        "facts_sha256": hash_examples(examples),
        "versions": software_versions(base),
    }
    if isinstance(outcome, Tuned):
        return save_tuned(out, base, outcome, record=record)
    adapter = replace(outcome.adapter, record=record)
    return save_adapter(out, adapter, base=base, dropout=s.dropout, packed=outcome.packed)


def count_trainable(base: Base, job: Job, packed: Packed | None = None) -> int:
    """Return how many numbers of the adapter are trained, of those left in a packed one."""
    if packed is not None:
        return sum(tensor.numel() for tensor in packed.tensors.values())
    shapes = [base.linears[path] for path in job.paths]
    if job.settings.variant == "frozen-a":
        return sum(out * job.settings.r for out, _ in shapes)
    return count_parameters(shapes, job.settings.r)


def hash_examples(examples: Sequence[Example]) -> str:
    """Return the SHA-256 of examples, their order included."""
    text = json.dumps([example.as_json() for example in examples], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def software_versions(base: Base) -> dict[str, str]:
    """Return the versions, dtype and device on which measured numbers depend."""
    return {
        "lorabank": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "python": platform.python_version(),
        "dtype": base.precision,
        "device": base.device.type,
    }
