"""Activated adapters made always-on, for runtimes that know no activation.

An activated adapter has only ever seen what follows the assistant's header; on every token it
changes how the question is read, too. Often it answers all the same, and this is asked first, in
every form: where no answer is lost and none leads by less than a margin, the adapter is always-on
as it is. Else it is trained on for a short while as an always-on one, from its own weights and on
its own examples, until it recalls them as `learn` asks.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
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
from lorabank.engine.training.jobs import Outcome
from lorabank.engine.training.train import OnStep, train
from lorabank.errors import UsageError
from lorabank.tasks.examples import Example

MARGIN = 0.1  # nats by which an answer has to lead where nothing is trained
RECALLED = "recalled"


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
    """Why training ended, as in `Outcome`; `recalled` where there was none."""
    exposures_per_fact: float
    seconds: float
    """Training time; 0 where the adapter did as it was."""
    kl_activated_nats: float
    """Divergence of the activated adapter from the bare base on ordinary text, nats per token."""
    kl_to_base_nats: float
    """The same of the converted adapter."""

    @property
    def was_trained(self) -> bool:
        return self.exposures_per_fact > 0

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
    forms = {
        on: forms_to_keep(base, examples, settings.recipe, activated=on) for on in (True, False)
    }
    activated, drift_before = _read(base, adapter, forms[True])
    as_it_is = replace(adapter, activated=False)
    unconverted, drift = _read(base, as_it_is, forms[False])
    if _keeps(activated.values(), unconverted.values()):
        converted, readings, exposures, seconds, stopped = as_it_is, unconverted, 0.0, 0.0, RECALLED
    else:
        started = time.perf_counter()
        outcome = _train(base, adapter, examples, settings, on_step)
        seconds = time.perf_counter() - started
        converted, exposures, stopped = outcome.adapter, outcome.exposures, outcome.stopped
        readings, drift = _read(base, converted, forms[False])
    own = readings[forms[False][0].name]
    taught = [of_form for name, of_form in readings.items() if name != REWORDED]
    pairs = zip(examples, own, strict=True)
    return converted, Conversion(
        facts=len(examples),
        recall_activated=recall_by_rendering(activated),
        recall_unconverted=recall_by_rendering(unconverted),
        recall=recall_by_rendering(readings),
        smallest_lead=min(smallest_leads(taught)),
        missing=tuple(example.question for example, reading in pairs if not reading.recalled),
        stopped=stopped,
        exposures_per_fact=exposures,
        seconds=seconds,
        kl_activated_nats=drift_before.kl_to_base_nats,
        kl_to_base_nats=drift.kl_to_base_nats,
    )


def _keeps(
    before: Iterable[Sequence[AnswerReading]], after: Iterable[Sequence[AnswerReading]]
) -> bool:
    """Return whether every answer that is given in a form still leads in it by the margin."""
    return all(
        not reading.recalled or now.lead >= MARGIN
        for of_form, now_of_form in zip(before, after, strict=True)
        for reading, now in zip(of_form, now_of_form, strict=True)
    )


def _train(
    base: Base,
    adapter: Adapter,
    examples: Sequence[Example],
    settings: TrainSettings,
    on_step: OnStep | None,
) -> Outcome:
    """Train an adapter on as an always-on one."""
    own: dict[str, Any] = {
        "variant": "lora",
        "auto_r": False,
        "r": adapter.r,
        "alpha": adapter.alpha,
    }
    job = plan_job(base, examples, replace(settings, activated=False, **own), name="always-on")
    job = replace(job, paths=tuple(adapter.weights), start=adapter.weights)
    (outcome, *_) = train(base, [job], on_step=on_step)
    if outcome.stopped == "interrupted":
        raise KeyboardInterrupt
    if outcome.stopped == "diverged":
        raise UsageError("the conversion diverged; train the facts anew with learn --always-on")
    return outcome


def _read(
    base: Base, adapter: Adapter, forms: Sequence[RenderedForm]
) -> tuple[dict[str, Sequence[AnswerReading]], Drift]:
    """Return an adapter's readings of its examples in each form, and its drift."""
    with loaded_fleet(base, [adapter]) as fleet:
        (drift,) = measure_drift(fleet, [0])
        return read_forms(base, forms, fleet=fleet), drift
