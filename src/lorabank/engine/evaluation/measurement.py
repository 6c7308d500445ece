"""Measurements of an adapter, under the same names wherever they are reported."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from lorabank.engine.backbone.base import Base
from lorabank.engine.evaluation.evaluate import Evaluation
from lorabank.engine.inference.answer_readings import AnswerReading, recall_share
from lorabank.engine.inference.recall_check import REWORDED, recall_by_rendering, smallest_leads
from lorabank.engine.training.jobs import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """An adapter as it was trained and evaluated."""

    facts: int
    """Number of examples it was taught."""
    recall_before: float
    """Share of their answers that the bare base gives."""
    recall: float
    """Share of their answers that the finished adapter gives."""
    recall_by_rendering: dict[str, float]
    """Share of their answers that it gives by each rendering of the prompts; empty where replies
    are scored as text."""
    reworded: int = 0
    """Number of held-out wordings: other questions for the same facts, never trained on."""
    recall_reworded: float | None = None
    """Share of them whose answers it gives; None where there are none."""
    recall_reversed: float | None = None
    """Share of the reversed questions it was taught whose answers it gives; None without any."""
    smallest_lead: float
    """Nats by which the answers' tokens lead every other token, of the one that leads least under
    any rendering."""
    margin: float
    """Nats that training asked them to lead by."""
    below_margin: int
    """Number of answers that lead by less, or are not given, under any rendering."""
    missing: tuple[str, ...]
    """Questions whose answers the adapter does not give."""
    stopped: str
    """Why training ended: `recalled`, `converged`, `budget` or `interrupted`."""
    exposures_per_fact: float
    """Mean number of times each example was trained on."""
    seconds: float
    """Training time; the report that holds this says what else it includes."""
    trainable_parameters: int
    bits_stored: float
    """Sum over the examples of the bits that are in the adapter and not in the base."""
    bits_per_parameter: float
    """`bits_stored` over `trainable_parameters`."""
    adaptable_share: float
    """Share of the weights of the base's decoder layers that an adapter can go around; the others
    are mostly experts fused into one tensor."""
    kl_to_base_nats: float
    """Divergence from the bare base on ordinary text, nats per token."""
    adapter_bytes: int = 0
    """Size of the weights file; 0 until it is written."""
    known_before: tuple[str, ...] | None = None
    """Simple answers the bare base gives (drift.py); None where this was not asked."""
    known_after: tuple[str, ...] | None = None
    """Answers among `known_before` that the adapter still gives."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_adapter(
    evaluation: Evaluation,
    others: Mapping[str, Sequence[AnswerReading]],
    outcome: Outcome,
    *,
    base: Base,
    trainable_parameters: int,
    seconds: float,
) -> Measurement:
    """Return the measurement of one trained adapter.

    Args:
        evaluation: of the taught examples, by this adapter alone, with its drift.
        others: its readings of the same examples under other renderings, by their names, and of
            their held-out wordings.
        base: the base it was trained on.
    """
    questions, margin = evaluation.questions, outcome.job.settings.margin
    readings = {outcome.job.dataset.forms[0].name: evaluation.after, **others}
    reworded = readings.pop(REWORDED, ())
    leads = smallest_leads(readings.values())
    (drift,) = evaluation.drift
    bits = sum(evaluation.bits)
    pairs = zip(questions.examples, evaluation.recalled, strict=True)
    of_reversed = [is_given for example, is_given in pairs if example.is_reversed]
    return Measurement(
        facts=len(evaluation.questions),
        recall_before=evaluation.recall_before,
        recall=evaluation.recall,
        recall_by_rendering=recall_by_rendering(readings) if questions.scorer is None else {},
        reworded=len(reworded),
        recall_reworded=recall_share(reworded) if reworded else None,
        recall_reversed=fmean(of_reversed) if of_reversed else None,
        smallest_lead=min(leads),
        margin=margin,
        below_margin=sum(lead < margin for lead in leads),
        missing=evaluation.missing,
        stopped=outcome.stopped,
        exposures_per_fact=outcome.exposures,
        seconds=seconds,
        trainable_parameters=trainable_parameters,
        bits_stored=bits,
        bits_per_parameter=bits / trainable_parameters,
        adaptable_share=base.adaptable_share,
        kl_to_base_nats=drift.kl_to_base_nats,
        known_before=drift.known_before,
        known_after=drift.known_after,
    )
