"""Measures the trained adapters of a capacity study: recall, stored bits, drift, cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.evaluation.edits import score_edits
from lorabank.engine.evaluation.evaluate import Evaluation, evaluate_fleet, join_questions
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import AnswerReading, score_replies
from lorabank.engine.learn import count_trainable, hash_examples, software_versions
from lorabank.engine.training.jobs import Epoch, Outcome
from lorabank.lora.shapes import layer_of
from lorabank.study.capacity.cells import CapacityCell, EditShares, FactResults
from lorabank.study.capacity.prepare import PreparedCell
from lorabank.study.cells import CellCost, CellHashes
from lorabank.study.code_hash import code_hash
from lorabank.tasks.scoring.exact_match import is_right_as_published

MILESTONES = (0.5, 0.75, 0.9, 0.98)
"""Shares of recall whose first epoch in training is noted."""


@dataclass(frozen=True, slots=True)
class MeasuredCell:
    """A trained cell with all that was read from its adapter."""

    prepared: PreparedCell
    outcome: Outcome
    evaluation: Evaluation
    recall_published: float
    """Recall as the digits-only match of arXiv:2603.01097 counts it."""
    edits: EditShares | None
    n_parameters: int
    """Number of trainable parameters."""
    n_values: int
    """Number of values that the saved adapter has."""
    cost: CellCost


def measure_fleet(
    base: Base,
    prepared: Sequence[PreparedCell],
    outcomes: Sequence[Outcome],
    costs: Sequence[CellCost],
) -> list[MeasuredCell]:
    """Ask all adapters of a fleet for the facts that each was taught."""
    questions = [cell.questions(base) for cell in prepared]
    slots = [slot for slot, cell in enumerate(prepared) for _ in cell.examples]
    with loaded_fleet(base, [outcome.adapter for outcome in outcomes]) as fleet:
        together = evaluate_fleet(fleet, join_questions(questions), slots, drift=True)
        evaluations = together.by_slot(len(prepared))
        return [
            MeasuredCell(
                prepared=cell,
                outcome=outcome,
                evaluation=evaluation,
                recall_published=_recall_published(fleet, slot, cell, evaluation.after),
                edits=_edit_shares(fleet, slot, cell),
                n_parameters=count_trainable(base, outcome.job),
                n_values=sum(value.numel() for pair in outcome.weights.values() for value in pair),
                cost=cost,
            )
            for slot, (cell, outcome, evaluation, cost) in enumerate(
                zip(prepared, outcomes, evaluations, costs, strict=True)
            )
        ]


def describe(base: Base, study: str, measured: MeasuredCell) -> CapacityCell:
    """Return the result of a cell as its file has it."""
    axes, outcome, evaluation = measured.prepared.axes, measured.outcome, measured.evaluation
    examples, job = measured.prepared.examples, outcome.job
    before = [reading.bits for reading in evaluation.before]
    entropy = [
        bits if drawn is None else drawn
        for drawn, bits in zip(measured.prepared.entropy_bits(), before, strict=True)
    ]
    rows = zip(entropy, before, evaluation.after, strict=True)
    new_bits = [max(0.0, min(h, b) - reading.bits) for h, b, reading in rows]
    stored = [max(0.0, h - r.bits) for h, r in zip(entropy, evaluation.after, strict=True)]
    n_tokens = sum(len(prompt.answer_ids) for prompt in job.dataset.prompts)
    n_bytes = 4 * measured.n_values
    bits, loss = sum(stored), _loss(evaluation.after, n_tokens)
    return CapacityCell(
        study=study,
        name=measured.prepared.name,
        base=base.info.name,
        axes=axes,
        placement=placement(job.paths, axes.target_modules, axes.layers),
        exposures_per_fact=outcome.exposures,
        steps=outcome.steps,
        stopped=outcome.stopped,
        recall=evaluation.recall,
        recall_before=evaluation.recall_before,
        recall_published=measured.recall_published,
        edits=measured.edits,
        bits_stored=sum(new_bits),
        bits_exact=sum(h for h, r in zip(entropy, evaluation.after, strict=True) if r.recalled),
        bits_likelihood=bits,
        bits_demanded=sum(entropy),
        bits_per_parameter=bits / measured.n_parameters,
        bits_per_byte=bits / n_bytes,
        tokens=n_tokens,
        tokens_per_parameter=n_tokens / measured.n_parameters,
        tokens_per_byte=n_tokens / n_bytes,
        loss=loss,
        loss_drop=_loss(evaluation.before, n_tokens) - loss,
        trainable_parameters=measured.n_parameters,
        adapter_bytes=n_bytes,
        kl_to_base_nats=evaluation.drift[0].kl_to_base_nats,
        exposures_to_recall=_milestones(outcome.curve),
        per_fact=FactResults(
            recalled=[int(reading.recalled) for reading in evaluation.after],
            bits=[round(value, 4) for value in stored],
        ),
        curve=_thinned(outcome.curve),
        hashes=CellHashes(model=base.info.sha256, data=hash_examples(examples), code=code_hash()),
        versions=software_versions(base),
        cost=measured.cost,
    )


def placement(paths: Sequence[str], targets: str, layers: str) -> str:
    """Return which blocks and which of their layers, in words: `all-linear in blocks 26-29`."""
    blocks = sorted({block for path in paths if (block := layer_of(path)) is not None})
    if layers == "all" or not blocks:
        return f"{targets} in all blocks"
    if len(blocks) == 1:
        return f"{targets} in block {blocks[0]}"
    if blocks == list(range(blocks[0], blocks[-1] + 1)):
        return f"{targets} in blocks {blocks[0]}-{blocks[-1]}"
    return f"{targets} in blocks {','.join(map(str, blocks))}"


def _recall_published(
    fleet: Fleet, slot: int, cell: PreparedCell, readings: Sequence[AnswerReading]
) -> float:
    """Return the share that the reference evaluator's digits-only match counts.

    What is recalled token by token counts. Of the rest, under the sound recipe, only answers are
    generated whose first wrong token has no letter or digit: after a wrong digit the number is
    another.

    Source: arXiv:2603.01097.
    """
    prompts, counted = cell.job.dataset.prompts, [reading.recalled for reading in readings]
    undecided = []
    for i, (prompt, reading) in enumerate(zip(prompts, readings, strict=True)):
        if reading.first_wrong is None:
            continue
        wrong = fleet.base.chat.tokenizer.decode([prompt.answer_ids[reading.first_wrong]])
        if cell.axes.recipe == "paper" or not any(map(str.isalnum, wrong)):
            undecided.append(i)
    if undecided:
        verdicts = score_replies(
            fleet.base,
            [prompts[i] for i in undecided],
            is_right_as_published,
            fleet=fleet,
            slots=[slot] * len(undecided),
            readings=[readings[i] for i in undecided],
        )
        for i, verdict in zip(undecided, verdicts, strict=True):
            counted[i] = verdict
    return sum(counted) / len(counted)


def _edit_shares(fleet: Fleet, slot: int, cell: PreparedCell) -> EditShares | None:
    if not cell.edits:
        return None
    settings = cell.job.settings
    scores = score_edits(
        fleet.base,
        cell.edits,
        recipe=settings.recipe,
        activated=settings.activated,
        fleet=fleet,
        slot=slot,
    )
    return EditShares(
        efficacy=scores.efficacy,
        efficacy_published=scores.efficacy_published,
        paraphrase=scores.paraphrase,
        neighbourhood=scores.neighbourhood,
    )


def _loss(readings: Sequence[AnswerReading], n_tokens: int) -> float:
    """Return nats per answer token."""
    return math.log(2) * sum(reading.bits for reading in readings) / n_tokens


def _milestones(curve: Sequence[Epoch]) -> dict[str, float | None]:
    """Return the exposures at the end of the first epoch with each share of recall."""
    return {
        str(goal): next((e.exposures for e in curve if e.seen_recall >= goal), None)
        for goal in MILESTONES
    }


def _thinned(curve: Sequence[Epoch]) -> list[tuple[float, float, float]]:
    """Return exposures, loss and recall of some forty epochs, the last among them."""
    step = max(1, len(curve) // 40)
    return [
        (round(epoch.exposures, 2), round(epoch.loss, 5), round(epoch.seen_recall, 4))
        for epoch in [*curve[:-1:step], *curve[-1:]]
    ]
