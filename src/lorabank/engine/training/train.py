"""The training loop: adapters of many jobs learn at once, each in a slot of a fleet.

`Trainer.step` is one step, in numbered parts: draw a batch for every slot (1), pad the rows into
batches (2), run the base over them with each row's adapter (3), take each adapter's mean
cross-entropy (4, `adapter_losses`), add what a job asks for beyond that (5), go backward (6),
update each adapter by its own gradient (7), count, check recall and finish jobs (8). An adapter
gets the same gradient in company that it would get alone.

Optional terms are in files of their own: `distillation_loss.py` for rows with a teacher, which
regularisation examples are too, and `lora/memft.py` for token weights.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.caches import REUSE_ALL, Reuse
from lorabank.engine.backbone.memory import free_bytes
from lorabank.engine.encoding.batches import passes_by_length, training_batch
from lorabank.engine.encoding.dataset import EncodedExample
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.training import distillation_loss
from lorabank.engine.training.checkpoint import Checkpoint, CheckpointSettings, State
from lorabank.engine.training.job_progress import Progress
from lorabank.engine.training.jobs import Job, Outcome, adapted_paths, check_jobs
from lorabank.engine.training.memory_budget import choose_width, measure_memory
from lorabank.engine.training.progress import FleetProgress, fleet_progress
from lorabank.engine.training.protection import directions_for
from lorabank.engine.training.recompute import recomputing
from lorabank.engine.training.scheduler import SlotScheduler, TrainingSlot
from lorabank.engine.training.teacher_targets import TeacherRequest
from lorabank.errors import UsageError
from lorabank.lora import memft
from lorabank.lora.objectives import Objective, mean_by_adapter


class TrainingPaused(Exception):
    """Raised by `on_round` to end a run that will go on later from its checkpoint."""


OnStep = Callable[[Progress], None]
OnRound = Callable[[FleetProgress], None]


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """Settings of the fleet that jobs share; what they learn does not depend on them."""

    width: int | None = None
    """Number of adapters that train at once; None for as many as memory holds."""
    reuse: Reuse = REUSE_ALL
    """Computations of the base that are cached."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of holding them."""


def train(
    base: Base,
    jobs: Sequence[Job],
    *,
    fleet_settings: FleetSettings = FleetSettings(),
    checkpoint: CheckpointSettings | Path | str | None = None,
    on_step: OnStep | None = None,
    on_round: OnRound | None = None,
) -> list[Outcome]:
    """Train every job and return the outcomes in job order.

    Ctrl-C ends all running jobs with the best state they have; jobs that never started are left
    out. A job whose loss or gradient is not finite ends alone, with its last good state.

    Args:
        checkpoint: the folder to save to on the way, or that with its settings. If it holds a part
            of this very run, training resumes from there, to the same result; one that is
            damaged is started anew, with a warning.
        on_step: called after each step of each job.
        on_round: called after a step of all running jobs.

    Raises:
        TrainingPaused: `on_round` raised it; the checkpoint, if there is one, has been saved.
        UsageError: a job cannot be trained, the fleet does not fit into memory, or the checkpoint
            is of another run.
        StorageError: the checkpoint cannot be written.
    """
    if not jobs:
        return []
    check_jobs(base, jobs)
    if isinstance(checkpoint, Path | str):
        checkpoint = CheckpointSettings(Path(checkpoint))
    folder = Checkpoint(checkpoint, base, jobs) if checkpoint else None
    saved = folder.load() if folder else None
    width, reuse = fleet_settings.width, fleet_settings.reuse
    recompute = fleet_settings.gradient_checkpointing
    width = choose_width(
        measure_memory(base, jobs, reuse=reuse, recompute=recompute),
        free_bytes=free_bytes(base.device),
        n_jobs=len(jobs),
        requested=_saved_width(saved[0], width, len(jobs)) if saved else width,
    )
    directions = directions_for(base, jobs)
    paths = adapted_paths(jobs)
    r = max(job.saved_r for job in jobs)
    with (
        Fleet(base, paths=paths, r=r, width=width, reuse=reuse) as fleet,
        recomputing(fleet, is_on=recompute),
    ):
        scheduler = SlotScheduler(fleet, jobs, directions)
        if saved:
            scheduler.restore(*saved)
        return Trainer(scheduler, on_step=on_step, on_round=on_round).run(folder)


def _saved_width(state: State, requested: int | None, n_jobs: int) -> int:
    """Return the checkpoint's width: which rows share a batch shows in the last bits."""
    width: int = state[0]["width"]
    if requested is not None and min(requested, n_jobs) != width:
        raise UsageError(
            f"--width {requested}: the checkpoint was made with width {width}; "
            f"resume with --width {width}, or leave the option out"
        )
    return width


class Trainer:
    """A run of steps over the slots of a fleet until every job is done."""

    def __init__(
        self, scheduler: SlotScheduler, *, on_step: OnStep | None, on_round: OnRound | None
    ):
        self.scheduler, self.on_step, self.on_round = scheduler, on_step, on_round
        self.n_tokens, self.started_at = 0, time.monotonic()

    def run(self, checkpoint: Checkpoint | None) -> list[Outcome]:
        """Step until no job is left, saving a checkpoint now and then."""
        scheduler, outcomes = self.scheduler, self.scheduler.outcomes
        try:
            scheduler.fill_free_slots()
            while scheduler.running:
                n_finished = len(outcomes)
                self.step(list(scheduler.running.values()))
                if self.on_round:
                    self.on_round(self._progress())
                if checkpoint and checkpoint.is_due(has_finished=len(outcomes) > n_finished):
                    checkpoint.save(scheduler.state(), outcomes)
            if checkpoint:
                checkpoint.close(scheduler.state(), outcomes)
        except TrainingPaused:
            if checkpoint:
                checkpoint.save(scheduler.state(), outcomes)
            raise
        except KeyboardInterrupt:  # the checkpoint stays, so that the same call resumes
            for slot in list(scheduler.running.values()):
                scheduler.finish(slot, "interrupted")
        return [outcomes[index] for index in sorted(outcomes)]

    def step(self, slots: list[TrainingSlot]) -> None:
        """Train every running job on its next batch."""
        fleet = self.scheduler.fleet
        # 1. Draw a batch of examples for each slot, and the regularisation examples due with it.
        batches = [slot.progress.next_batch() for slot in slots]
        rows = [slot.rows(batch) for slot, batch in zip(slots, batches, strict=True)]
        # 2. to 5. Run the base over all rows; a loss for each adapter.
        fleet.grad.zero_()
        with fleet.dropout_applied({slot.index: slot.dropout for slot in slots}):
            result = fleet_loss(
                fleet,
                [slot.index for slot in slots],
                rows,
                objectives=[slot.job.objective for slot in slots],
                margins=[slot.job.settings.margin for slot in slots],
                teacher_requests=[slot.job.teacher_request for slot in slots],
            )
        # 6. Backward. Adapters share no weights, so the sum gives each its own gradient.
        result.losses.sum().backward()  # type: ignore[no-untyped-call]
        losses, hits, secure = result.on_host()
        for i, slot in enumerate(slots):
            n_tokens = sum(len(row.token_ids) for row in rows[i])
            self.n_tokens += n_tokens
            # 7. Clip each adapter's gradient and update it by AdamW.
            if not (math.isfinite(losses[i]) and self.scheduler.update(slot)):
                self.scheduler.finish(slot, "diverged")
                continue
            # 8. Count the step. At the end of an epoch check recall; finish the job if it is done.
            ends_epoch = slot.progress.record(
                examples=len(batches[i]),
                tokens=n_tokens,
                hits=hits[i],
                secure=secure[i],
                loss=losses[i],
            )
            if self.on_step:
                self.on_step(slot.progress)
            if ends_epoch or slot.progress.is_spent:
                self.scheduler.end_epoch(slot)

    def _progress(self) -> FleetProgress:
        return fleet_progress(
            self.scheduler.jobs,
            {slot.job_index: slot.progress for slot in self.scheduler.running.values()},
            self.scheduler.outcomes,
            tokens_per_s=self.n_tokens / (time.monotonic() - self.started_at),
        )


@dataclass(frozen=True, slots=True)
class FleetLoss:
    """Loss and hits of each adapter in one step."""

    losses: Tensor
    """(E,) mean loss of each adapter's own tokens, in nats."""
    hits: Tensor
    """(E,) number of examples, regularisation left out, whose tokens were all most likely."""
    secure: Tensor
    """(E,) number of those whose tokens all led every other one by the adapter's margin."""

    def on_host(self) -> tuple[list[float], list[int], list[int]]:
        """Return all three as lists; a GPU is waited for once, in float64, which holds them all."""
        stacked = torch.stack([self.losses.detach().double(), self.hits, self.secure])
        losses, hits, secure = stacked.tolist()
        return losses, [int(count) for count in hits], [int(count) for count in secure]


def fleet_loss(
    fleet: Fleet,
    slots: Sequence[int],
    rows_by_slot: Sequence[Sequence[EncodedExample]],
    *,
    objectives: Sequence[Objective] | None = None,
    margins: Sequence[float] | None = None,
    teacher_requests: Sequence[TeacherRequest] | None = None,
) -> FleetLoss:
    """Return the loss of each slot's adapter on its own rows: parts 2 to 5 of a step.

    Args:
        slots: E slots of the fleet.
        rows_by_slot: the rows to train on, for each of the E slots.
        objectives: for each slot; None for cross-entropy.
        margins: nats that answers lead by to count as secure, for each slot; None for 0.
        teacher_requests: what to compare with teachers, for each slot; None for the defaults.
    """
    n, device = len(slots), fleet.base.device
    rows = list(chain.from_iterable(rows_by_slot))
    adapters = [i for i, own_rows in enumerate(rows_by_slot) for _ in own_rows]  # of each row
    requests = teacher_requests or [TeacherRequest()] * n
    parts = []
    for indices in _passes(fleet, rows):
        # 2. Pad the rows of a pass into a batch.
        batch_rows = [rows[i] for i in indices]
        batch = training_batch(batch_rows, device=device, omit_prefixes=fleet.reuse.prompts)
        row_slots = [slots[adapters[i]] for i in indices]
        # 3. Run the base with each row's adapter: cross-entropy of every token of the answers.
        # 5. Where a row has a teacher, the divergence from it takes its place.
        is_taught = None
        row_requests = [requests[adapters[i]] for i in indices]
        if any(row.teacher_prompt_ids for row in batch_rows) or any(
            request.others_weight for request in row_requests
        ):
            losses, leads, is_taught = distillation_loss.token_losses(
                fleet, batch, row_slots, batch_rows, row_requests
            )
        else:
            losses, leads = fleet.token_nll(batch, row_slots)
        row_index = torch.tensor(indices, device=device)[batch.rows]
        parts.append(TokenLosses(losses, leads, row_index, batch.weights, is_taught))
    tokens = parts[0] if len(parts) == 1 else _concatenate(parts)
    adapter_of_row = torch.tensor(adapters, device=device)  # (R,)
    adapter = adapter_of_row[tokens.rows]  # (N,)
    losses = adapter_losses(tokens, adapter, objectives or [Objective()] * n)
    counts = torch.tensor([not row.is_regularisation for row in rows], device=device)
    row_leads = tokens.row_leads(len(rows))  # (R,)
    row_margins = torch.tensor(margins or [0.0] * n, device=device)[adapter_of_row]
    right, secure = counts & (row_leads >= 0), counts & (row_leads >= row_margins)
    return FleetLoss(
        losses,
        _count_by_adapter(right, adapter_of_row, n),
        _count_by_adapter(secure, adapter_of_row, n),
    )


def _count_by_adapter(rows: Tensor, adapter_of_row: Tensor, n: int) -> Tensor:
    """Return (n,) how many rows of each adapter are true; a GPU is not waited for."""
    counts = torch.zeros(n, dtype=torch.long, device=rows.device)
    return counts.index_add_(0, adapter_of_row, rows.long())


@dataclass(frozen=True, slots=True)
class TokenLosses:
    """The N answer tokens of a step; those of a row are consecutive and in order."""

    losses: Tensor
    """(N,) nats: cross-entropy, or the divergence from a teacher."""
    leads: Tensor
    """(N,) nats by which the token leads every other one; below 0 where another was likelier."""
    rows: Tensor
    """(N,) index of the row each token is of."""
    weights: Tensor | None = None
    """(N,) weights that the examples bring; None for 1 each."""
    is_taught: Tensor | None = None
    """(N,) bool, whether the loss is the divergence from a teacher; None for no token."""

    def row_leads(self, n_rows: int) -> Tensor:
        """Return (R,) the smallest lead of each row's tokens."""
        smallest = torch.full((n_rows,), math.inf, device=self.rows.device)
        return smallest.scatter_reduce_(0, self.rows, self.leads.float(), "amin")


def adapter_losses(tokens: TokenLosses, adapter: Tensor, objectives: Sequence[Objective]) -> Tensor:
    """Return each adapter's loss: the mean over its tokens, parts 4 and 5 of a step.

    Args:
        adapter: (N,) the adapter each token trains, 0..E-1.
        objectives: for each of E adapters.

    Returns:
        (E,) nats.
    """
    # 4. Cross-entropy: every token counts the same.
    weights = torch.ones_like(tokens.losses)
    # 5. MemFT: tokens count by what is left to learn of them, except where a teacher is followed.
    if any(objective.weighs_tokens for objective in objectives):
        misses = tokens.leads < 0
        weights = memft.fleet_weights(objectives, tokens.losses, misses, tokens.rows, adapter)
        if tokens.is_taught is not None:
            weights = weights.masked_fill(tokens.is_taught, 1.0)
    # 5. Weights of single examples or tokens, where a dataset has them.
    if tokens.weights is not None:
        weights = weights * tokens.weights.float()
    return mean_by_adapter(tokens.losses, weights, adapter, len(objectives))


def _passes(fleet: Fleet, rows: Sequence[EncodedExample]) -> list[list[int]]:
    """Return the indices of rows that are run together: those of similar length."""
    if fleet.has_dropout:  # the masks drawn depend on the batch a row is in
        return [list(range(len(rows)))]
    split = fleet.reuse.prompts
    return passes_by_length(
        [len(row.token_ids) - (row.adapter_start if split else 0) for row in rows]
    )


def _concatenate(parts: Sequence[TokenLosses]) -> TokenLosses:
    weights = is_taught = None
    if any(part.weights is not None for part in parts):
        weights = torch.cat(
            [torch.ones_like(p.losses) if p.weights is None else p.weights for p in parts]
        )
    if any(part.is_taught is not None for part in parts):
        is_taught = torch.cat(
            [
                p.leads.new_zeros(len(p.leads), dtype=torch.bool)
                if p.is_taught is None
                else p.is_taught
                for p in parts
            ]
        )
    return TokenLosses(
        torch.cat([part.losses for part in parts]),
        torch.cat([part.leads for part in parts]),
        torch.cat([part.rows for part in parts]),
        weights,
        is_taught,
    )
