"""The optional loss of rows that have a teacher: divergence from it instead of cross-entropy.

The training loop calls this only for batches in which a row has a teacher. Other rows of such a
batch keep their cross-entropy, so jobs of every objective can share a step; where a job asks for
it, that has a term for the words that are not the answer (other_words.py). A regularisation
example is a row whose teacher read the same prompt: it keeps the adapter where the base is.

    loss of a token = KL(teacher || student) + hidden_weight * relative distance of hidden states
                      (lora/distillation.py, after arXiv:2503.08727)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.head import TokenLoss, cross_entropy, leads, losses_of_hidden
from lorabank.engine.backbone.layer_access import capturing_layer_outputs, decoder_layers
from lorabank.engine.encoding.batches import Batch
from lorabank.engine.encoding.dataset import EncodedExample
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.training.other_words import answer_loss, losses_of_logits
from lorabank.engine.training.teacher_targets import (
    TeacherRequest,
    compute_targets,
    with_own_prompt,
)
from lorabank.lora.distillation import (
    TeacherTargets,
    concatenate_targets,
    kl_divergence,
    kl_gradient,
    relative_l1,
)


def token_losses(
    fleet: Fleet,
    batch: Batch,
    slots: Sequence[int],
    examples: Sequence[EncodedExample],
    requests: Sequence[TeacherRequest],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss of a batch's N positions: the divergence where there is a teacher.

    Args:
        slots: the fleet slot of each row.
        examples: the batch's R rows, one of them with a teacher.
        requests: what each row's job compares with a teacher.

    Returns:
        (N,) nats, differentiable; (N,) nats by which the target leads other tokens; (N,) bool,
        whether the position has a teacher.
    """
    taught, of_others = _taught_positions(fleet, batch, examples, requests)
    with_hidden = [part for part in taught if part.targets.hidden is not None]
    n_layers = len(decoder_layers(fleet.base.model))
    lowest = min((part.request.from_layer for part in with_hidden), default=n_layers)
    layers = range(lowest, n_layers)
    is_taught = torch.zeros_like(batch.rows, dtype=torch.bool)
    for part in taught:
        is_taught[part.positions] = True
    with (
        fleet.batch_inputs(batch, slots) as inputs,
        capturing_layer_outputs(fleet.base.model, layers, batch.rows, batch.columns) as outputs,
    ):
        losses, lead = _divergences(fleet.base, batch, taught, of_others, inputs)
    for part in with_hidden:
        assert part.targets.hidden is not None
        student = torch.stack(
            [outputs[i][part.positions] for i in layers if i >= part.request.from_layer], dim=1
        )  # (n, L, d)
        distance = part.request.hidden_weight * relative_l1(student, part.targets.hidden)
        losses = losses.index_add(0, part.positions, distance)
    return losses, lead, is_taught


@dataclass(frozen=True, slots=True)
class _TaughtPositions:
    """Positions of a batch that have a teacher, under one request, and the teacher's targets."""

    request: TeacherRequest
    positions: Tensor
    """(n,) indices into the batch's N positions."""
    targets: TeacherTargets


def _taught_positions(
    fleet: Fleet,
    batch: Batch,
    examples: Sequence[EncodedExample],
    requests: Sequence[TeacherRequest],
) -> tuple[list[_TaughtPositions], list[_TaughtPositions]]:
    """Return targets for a batch, an entry for each distinct request: teachers', and other words'.

    The second list has the answers of jobs that keep the odds of other words.
    """
    rows_by_request: dict[TeacherRequest, list[int]] = {}
    others_by_request: dict[TeacherRequest, list[int]] = {}
    for row, (example, request) in enumerate(zip(examples, requests, strict=True)):
        if example.teacher_prompt_ids:
            rows_by_request.setdefault(request.for_example(example), []).append(row)
        elif request.others_weight:
            others_by_request.setdefault(request.of_others, []).append(row)
    indices = torch.arange(len(batch.rows), device=batch.rows.device)
    positions = torch.split(indices, batch.positions_per_row)

    def read(request: TeacherRequest, rows: list[int]) -> _TaughtPositions:
        own = [examples[row] for row in rows]
        own = [row if row.teacher_prompt_ids else with_own_prompt(row) for row in own]
        at = torch.cat([positions[row] for row in rows])
        return _TaughtPositions(
            request, at, concatenate_targets(compute_targets(fleet, own, request))
        )

    return (
        [read(request, rows) for request, rows in rows_by_request.items()],
        [read(request, rows) for request, rows in others_by_request.items()],
    )


def _divergences(
    base: Base,
    batch: Batch,
    taught: Sequence[_TaughtPositions],
    of_others: Sequence[_TaughtPositions],
    inputs: dict[str, Any],
) -> tuple[Tensor, Tensor]:
    """Return the losses without hidden states, and leads; logits exist whole only if they must."""
    if not base.has_plain_head:
        logits = base.logits_at(batch.rows, batch.columns, **inputs)  # (N, V)
        losses = F.cross_entropy(logits.float(), batch.targets, reduction="none")
        for part in taught:
            log_q = F.log_softmax(logits[part.positions], dim=-1, dtype=torch.float32)
            losses = losses.index_copy(0, part.positions, kl_divergence(log_q, part.targets))
        for part in of_others:
            at, weight = part.positions, part.request.others_weight
            own = losses_of_logits(logits[at], batch.targets[at], part.targets, weight)
            losses = losses.index_copy(0, at, own)
        log_p = F.log_softmax(logits.detach(), dim=-1, dtype=torch.float32)
        return losses, leads(logits.detach(), log_p, batch.targets[:, None])
    hidden = base.hidden_at(batch.rows, batch.columns, **inputs)  # (N, d)
    head = base.head_weights(hidden)
    losses = hidden.new_zeros(len(hidden), dtype=torch.float32)
    lead = torch.zeros_like(losses)
    is_plain = torch.ones_like(batch.rows, dtype=torch.bool)
    parts = [(part.positions, divergence_from(part.targets)) for part in taught]
    for part in of_others:
        targets, weight = batch.targets[part.positions], part.request.others_weight
        parts.append((part.positions, answer_loss(targets, part.targets, weight)))
    for at, _ in parts:
        is_plain[at] = False
    if bool(is_plain.any()):
        at = is_plain.nonzero()[:, 0]
        parts.append((at, cross_entropy(batch.targets[at])))
    for at, loss in parts:
        own, own_lead = losses_of_hidden(hidden[at], head, batch.targets[at], loss)
        losses, lead = losses.index_copy(0, at, own), lead.index_copy(0, at, own_lead)
    return losses, lead


def divergence_from(teacher: TeacherTargets) -> TokenLoss:
    """Return the divergence from a teacher's targets at N positions as a loss (head.py)."""

    def loss(
        _: Tensor, log_q: Tensor, positions: slice, needs_gradient: bool
    ) -> tuple[Tensor, Tensor | None]:
        part = teacher[positions]
        return kl_divergence(log_q, part), kl_gradient(log_q, part) if needs_gradient else None

    return loss
