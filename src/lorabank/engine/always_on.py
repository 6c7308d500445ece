"""Activated adapters made always-on, for runtimes that know no activation.

An activated adapter has only ever seen what follows the assistant's header; on every token it
changes how the question is read, too. So it is trained on for a short while as an always-on one,
from its own weights and on its own examples, until it recalls them as `learn` asks. What the
adapter recalls when it is simply run on every token is measured before that, with the same reading.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lorabank.engine.adapters.adapter import Adapter
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import RenderedForm
from lorabank.engine.evaluation.drift import Drift, measure_drift
from lorabank.engine.inference.answer_readings import AnswerReading
from lorabank.engine.inference.recall_check import (
    REWORDED,
    read_forms,
    recall_by_rendering,
    smallest_leads,
)
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import TrainSettings
from lorabank.engine.shrink import forms_to_keep
from lorabank.engine.training.train import OnStep, train
from lorabank.errors import UsageError
from lorabank.tasks.examples import Example


@dataclass(frozen=True, slots=True)
class Conversion:
    """A conversion as it was measured.

    Recall is by rendering, the chat template's own first; held-out wordings are among them.
    """

    facts: int
    recall_activated: Mapping[str, float]
    """Recall of the activated adapter, from the assistant's header."""
    recall_unconverted: Mapping[str, float]
    """Recall of the same adapter simply run on every token."""
    recall: Mapping[str, float]
    """Recall of the converted adapter."""
    smallest_lead: float
    """Nats by which the converted adapter's answers lead, of the one that leads least."""
    missing: tuple[str, ...]
    """Questions whose answers the converted adapter does not give."""
    stopped: str
    """Why training ended, as in `Outcome`."""
    exposures_per_fact: float
    seconds: float
    """Training time."""
    kl_to_base_nats: float
    """Divergence of the converted adapter from the bare base on ordinary text."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def convert_to_always_on(
    base: Base,
    adapter: Adapter,
    examples: Sequence[Example],
    settings: TrainSettings,
    *,
    on_step: OnStep | None = None,
) -> tuple[Adapter, Conversion]:
    """Return an always-on adapter that recalls what an activated one was taught, with the proof.

    Args:
        examples: what the adapter was taught.
        settings: those it was trained with.

    Raises:
        UsageError: the adapter is always on already, or training diverged.
    """
    if not adapter.activated:
        raise UsageError("the adapter is on at every token already; leave --always-on out")
    settings = replace(
        settings,
        activated=False,
        variant="lora",
        auto_r=False,
        r=adapter.r,
        alpha=adapter.alpha,
    )
    job = plan_job(base, examples, settings, name="always-on")
    job = replace(job, paths=tuple(adapter.weights), start=adapter.weights)
    forms = {
        on: forms_to_keep(base, examples, settings.recipe, activated=on) for on in (True, False)
    }
    activated, _ = _read(base, adapter, forms[True])
    always_on = replace(adapter, activated=False)
    unconverted, _ = _read(base, always_on, forms[False])
    started = time.perf_counter()
    outcome = train(base, [job], on_step=on_step)[0]
    seconds = time.perf_counter() - started
    if outcome.stopped == "interrupted":
        raise KeyboardInterrupt
    if outcome.stopped == "diverged":
        raise UsageError("the conversion diverged; train the facts anew with learn --always-on")
    converted = outcome.adapter
    readings, drift = _read(base, converted, forms[False])
    own = readings[forms[False][0].name]
    taught = [of_form for name, of_form in readings.items() if name != REWORDED]
    return converted, Conversion(
        facts=len(examples),
        recall_activated=recall_by_rendering(activated),
        recall_unconverted=recall_by_rendering(unconverted),
        recall=recall_by_rendering(readings),
        smallest_lead=min(smallest_leads(taught)),
        missing=tuple(
            example.question
            for example, reading in zip(examples, own, strict=True)
            if not reading.recalled
        ),
        stopped=outcome.stopped,
        exposures_per_fact=outcome.exposures,
        seconds=seconds,
        kl_to_base_nats=drift.kl_to_base_nats,
    )


def _read(
    base: Base, adapter: Adapter, forms: Sequence[RenderedForm]
) -> tuple[dict[str, Sequence[AnswerReading]], Drift]:
    """Return an adapter's readings of its examples in each form, and its drift."""
    with loaded_fleet(base, [adapter]) as fleet:
        (drift,) = measure_drift(fleet, [0])
        return read_forms(base, forms, fleet=fleet), drift
