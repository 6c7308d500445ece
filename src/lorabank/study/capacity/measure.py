"""What a trained cell stores and what it cost: the numbers of its JSON.

Bits are counted twice: exactly recalled facts times their entropy, and by likelihood, what is left
of the entropy after the adapter has had its say (`sum max(0, H - (-log2 p))`, after
arXiv:2404.05405). For a phone number H is 33.2; an edit has no known distribution, so there H is
the bare model's surprise.
"""

import hashlib
import math
import resource
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lorabank
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import EvaluationPrompt
from lorabank.engine.evaluation.edits import score_edits
from lorabank.engine.evaluation.evaluate import (
    Evaluation,
    QuestionSet,
    evaluate_fleet,
    join_questions,
    prepare_questions,
)
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import AnswerReading, score_replies
from lorabank.engine.learn import count_trainable, hash_examples, software_versions
from lorabank.engine.training.jobs import Epoch, Outcome
from lorabank.lora.shapes import layer_of
from lorabank.study.capacity.prepare import PreparedCell
from lorabank.study.folder import FORMAT
from lorabank.tasks.scoring.exact_match import is_right_as_published
from lorabank.tasks.synthetic import phonebook

MILESTONES = (0.5, 0.75, 0.9, 0.98)  # of recall seen in training


def measure(
    base: Base,
    study: str,
    lots: Sequence[PreparedCell],
    outcomes: Sequence[Outcome],
    *,
    costs: Sequence[Mapping[str, float]],
) -> list[dict[str, Any]]:
    """A JSON object for each cell, read in a fleet of its own."""
    questions = [questions_of(base, lot) for lot in lots]
    slots = [slot for slot, lot in enumerate(lots) for _ in lot.examples]
    with loaded_fleet(base, [outcome.adapter for outcome in outcomes]) as fleet:
        together = evaluate_fleet(fleet, join_questions(questions), slots, drift=True)
        evaluations = together.by_slot(len(lots))
        cells = []
        for slot, (lot, one) in enumerate(zip(lots, outcomes, strict=True)):
            readings = evaluations[slot].after
            seat = [slot] * len(readings)
            cells.append(
                describe(
                    base,
                    study,
                    lot,
                    one,
                    evaluations[slot],
                    published=_published(base, lot, readings, fleet, seat),
                    edits=_edits(base, lot, fleet, slot),
                    parameters=count_trainable(base, one.job),
                    adapter=[tensor for pair in one.weights.values() for tensor in pair],
                    cost=costs[slot],
                )
            )
    return cells


def questions_of(base: Base, lot: PreparedCell) -> QuestionSet:
    """Have the bare base read the answers of a cell's examples."""
    return prepare_questions(base, lot.examples, prompts=lot.job.dataset.prompts)


def describe(
    base: Base,
    study: str,
    lot: PreparedCell,
    outcome: Outcome,
    evaluation: Evaluation,
    *,
    published: float,
    edits: dict[str, Any],
    parameters: int,
    adapter: Iterable[Tensor],
    cost: Mapping[str, float],
) -> dict[str, Any]:
    """The JSON object of one cell, from what was read before and after."""
    values, job = lot.cell.values, outcome.job
    before, after = evaluation.before, evaluation.after
    entropy = [
        phonebook.entropy_bits(example.answer) or reading.bits
        for example, reading in zip(lot.examples, before, strict=True)
    ]
    left = [max(0.0, h - reading.bits) for h, reading in zip(entropy, after, strict=True)]
    n_tokens = sum(len(probe.answer_ids) for probe in job.dataset.prompts)
    n_bytes = 4 * sum(tensor.numel() for tensor in adapter)
    bits = sum(left)
    return {
        "format": FORMAT,
        "study": study,
        "name": lot.cell.name,
        "spec": {**values, "base": base.info.name},
        **{key: values[key] for key in ("task", "r", "facts", "seed", "recipe", "variant")},
        "exposures": values["exposures"],
        "activated": values["activated"],
        "placement": placement(job.paths, str(values["target_modules"]), str(values["layers"])),
        "exposures_per_fact": outcome.exposures,
        "steps": outcome.steps,
        "stopped": outcome.stopped,
        "recall": evaluation.recall,
        "recall_before": evaluation.recall_before,
        "recall_published": published,
        **edits,
        "bits_stored": sum(evaluation.bits),
        "bits_exact": sum(h for h, r in zip(entropy, after, strict=True) if r.recalled),
        "bits_likelihood": bits,
        "bits_demanded": sum(entropy),
        "bits_per_parameter": bits / parameters,
        "bits_per_byte": bits / n_bytes,
        "tokens": n_tokens,
        "tokens_per_parameter": n_tokens / parameters,
        "tokens_per_byte": n_tokens / n_bytes,
        "loss": _loss(after, n_tokens),
        "loss_drop": _loss(before, n_tokens) - _loss(after, n_tokens),
        "trainable_parameters": parameters,
        "adapter_bytes": n_bytes,
        "kl_to_base_nats": evaluation.drift[0].kl_to_base_nats,
        "exposures_to_recall": _milestones(outcome.curve),
        "per_fact": {
            "recalled": [int(reading.recalled) for reading in after],
            "bits": [round(stored, 4) for stored in left],
        },
        "curve": [
            [round(e.exposures, 2), round(e.loss, 5), round(e.seen_recall, 4)]
            for e in _thinned(outcome.curve)
        ],
        "hashes": {
            "model": base.info.sha256,
            "data": hash_examples(lot.examples),
            "code": code_hash(),
        },
        "versions": software_versions(base),
        "cost": dict(cost),
    }


def cost_of(base: Base, seconds: float) -> dict[str, float]:
    """Seconds, and the most memory this process has held: of the GPU where there is one."""
    if base.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(base.device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": round(seconds, 3), "peak_bytes": peak}


def placement(paths: Sequence[str], targets: str, layers: str) -> str:
    """Which blocks and which layers of them, in words: `all-linear in blocks 26-29`."""
    blocks = sorted({block for path in paths if (block := layer_of(path)) is not None})
    if layers == "all" or not blocks:
        return f"{targets} in all blocks"
    if len(blocks) == 1:
        return f"{targets} in block {blocks[0]}"
    if blocks == list(range(blocks[0], blocks[-1] + 1)):
        return f"{targets} in blocks {blocks[0]}-{blocks[-1]}"
    return f"{targets} in blocks {','.join(map(str, blocks))}"


@cache
def code_hash() -> str:
    """Of this package's source."""
    root = Path(lorabank.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _published(
    base: Base,
    lot: PreparedCell,
    readings: Sequence[AnswerReading],
    fleet: Fleet | None,
    slots: list[int] | None,
) -> float:
    """Share that the reference evaluator's digits-only match counts (arXiv:2603.01097).

    What is recalled token by token counts. Of the rest, under the sound recipe, only answers are
    generated whose first wrong token is no digit: after a wrong digit the number is another.
    """
    probes, right = lot.job.dataset.prompts, [reading.recalled for reading in readings]
    open_ = [
        i
        for i, (probe, reading) in enumerate(zip(probes, readings, strict=True))
        if not reading.recalled and _may_count(base, probe, reading, lot)
    ]
    if open_:
        verdicts = score_replies(
            base,
            [probes[i] for i in open_],
            is_right_as_published,
            fleet=fleet,
            slots=None if slots is None else [slots[i] for i in open_],
            readings=[readings[i] for i in open_],
        )
        for i, verdict in zip(open_, verdicts, strict=True):
            right[i] = verdict
    return sum(right) / len(right)


def _may_count(
    base: Base, probe: EvaluationPrompt, reading: AnswerReading, lot: PreparedCell
) -> bool:
    if lot.cell.values["recipe"] == "paper":
        return True
    assert reading.first_wrong is not None
    wrong = base.chat.tokenizer.decode([probe.answer_ids[reading.first_wrong]])
    return not any(character.isalnum() for character in wrong)


def _edits(base: Base, lot: PreparedCell, fleet: Fleet | None, slot: int | None) -> dict[str, Any]:
    if not lot.edits:
        return {}
    s = lot.job.settings
    scores = score_edits(
        base, lot.edits, recipe=s.recipe, activated=s.activated, fleet=fleet, slot=slot
    )
    return {
        "efficacy": scores.efficacy,
        "efficacy_published": scores.efficacy_published,
        "paraphrase": scores.paraphrase,
        "neighbourhood": scores.neighbourhood,
    }


def _loss(readings: Sequence[AnswerReading], n_tokens: int) -> float:
    """Nats per answer token."""
    return math.log(2) * sum(reading.bits for reading in readings) / n_tokens


def _milestones(curve: Sequence[Epoch]) -> dict[str, float | None]:
    """Exposures at the end of the first epoch in which that share was right when it came up."""
    return {
        str(goal): next((e.exposures for e in curve if e.seen_recall >= goal), None)
        for goal in MILESTONES
    }


def _thinned(curve: Sequence[Epoch]) -> list[Epoch]:
    """Some forty of them, the last among them."""
    step = max(1, len(curve) // 40)
    return [*curve[:-1:step], *curve[-1:]]
