"""How many adapters fit: the memory a seat takes against the memory that is free.

A seat holds its adapter five times over in float32 (weights, gradient, two moments, the best state
so far) and what its rows leave behind for the backward pass. The latter is measured, not guessed:
the longest row of all jobs goes through the fleet once. On a GPU that is a whole step's peak; on a
CPU, whose allocator keeps no such record, the bytes autograd holds on to.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.caches import Reuse, new_layer_input_cache, new_prompt_cache
from lorabank.engine.backbone.layer_access import decoder_layers
from lorabank.engine.encoding.batches import training_batch
from lorabank.engine.encoding.dataset import EncodedExample
from lorabank.engine.fleet.dropout import Dropout
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.training.jobs import Job
from lorabank.engine.training.recompute import recomputing
from lorabank.errors import UsageError

_log = logging.getLogger(__name__)
_COPIES = 5  # of an adapter: weights, gradient, two moments, best state
_SHARE = 0.7  # of what is free; the rest for recall, shelves and whatever else runs
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """What a fleet takes."""

    seat_bytes: int
    """For each adapter that trains."""
    done_bytes: int
    """For all finished adapters together, which are held to the end."""

    def bytes_at(self, width: int) -> int:
        return self.done_bytes + width * self.seat_bytes

    def seats_in(self, free_bytes: int) -> int:
        return max(0, (int(free_bytes * _SHARE) - self.done_bytes) // self.seat_bytes)


def choose_width(need: MemoryNeed, *, free_bytes: int, n_jobs: int, requested: int | None) -> int:
    """How many adapters train at once: as many as asked for, or as fit.

    Raises:
        UsageError: `requested` is below 1, or the fleet does not fit into memory; the message
            says what would fit.
    """
    if requested is not None and requested < 1:
        raise UsageError(f"--width must be at least 1, got {requested}")
    fits, width = need.seats_in(free_bytes), min(n_jobs, requested or n_jobs)
    takes = f"{need.bytes_at(width) / _GIB:.1f} GiB"
    free = f"{free_bytes / _GIB:.1f} GiB is free, of which {_SHARE:.0%} may be used"
    if not fits:
        raise UsageError(
            f"not even one adapter fits: it takes {need.bytes_at(1) / _GIB:.1f} GiB, {free}; "
            "lower --batch-size or --r, or turn gradient checkpointing on"
        )
    if requested is not None and width > fits:
        raise UsageError(f"a fleet of {width} takes {takes}, {free}; --width {fits} would fit")
    return min(width, fits)


def measure_memory(base: Base, jobs: Sequence[Job], *, reuse: Reuse, recompute: bool) -> MemoryNeed:
    """What a fleet for these jobs takes, as if each had the longest row and the largest batch."""
    paths = list(dict.fromkeys(path for job in jobs for path in job.paths))
    rows = max(job.rows_per_step for job in jobs)
    lessons = [row for job in jobs for row in job.dataset.training_rows]
    longest = max(lessons, key=lambda row: (_n_run(row, reuse), len(row.token_ids)))
    r = max(job.saved_r for job in jobs)
    with _own_shelves(base), Fleet(base, paths=paths, r=r, reuse=reuse) as fleet:
        fleet.needs_float32[0] = any(job.settings.variant == "pissa" for job in jobs)
        rate = max(job.settings.dropout for job in jobs)
        adapter = fleet.theta.nbytes
        if base.device.type == "cuda":
            row = _peak_bytes(fleet, longest, rate, recompute=recompute)
        else:
            row = _held_bytes(fleet, longest, rate)
            if recompute:  # one block at a time, and what enters each of them
                n = len(decoder_layers(base.model)) - fleet.lowest_adapted_layer
                entering = base.model.get_input_embeddings().weight[0].nbytes
                row = row // n + n * _n_run(longest, reuse) * entering
    need = MemoryNeed(_COPIES * adapter + rows * row, len(jobs) * adapter)
    _log.info(
        "a seat takes %.1f MB, %.1f of it for its rows", need.seat_bytes / 1e6, rows * row / 1e6
    )
    return need


def _n_run(row: EncodedExample, reuse: Reuse) -> int:
    return len(row.token_ids) - (row.adapter_start if reuse.prompts else 0)


@contextmanager
def _own_shelves(base: Base) -> Iterator[None]:
    """What is computed inside is not kept: training fills the shelves in its own order."""
    kept = base.prompt_cache, base.layer_input_cache
    base.prompt_cache, base.layer_input_cache = new_prompt_cache(), new_layer_input_cache()
    try:
        yield
    finally:
        base.prompt_cache, base.layer_input_cache = kept


def _held_bytes(fleet: Fleet, row: EncodedExample, rate: float) -> int:
    """What autograd keeps of one row for the backward pass, the base's own weights aside."""
    known = {p.untyped_storage().data_ptr() for p in fleet.base.model.parameters()}
    held: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        nats = _forward(fleet, row, rate)
    total = sum(t.untyped_storage().nbytes() for ptr, t in held.items() if ptr not in known)
    return total + nats.nbytes


def _peak_bytes(fleet: Fleet, row: EncodedExample, rate: float, *, recompute: bool) -> int:
    device = fleet.base.device
    with recomputing(fleet, is_on=recompute):
        _forward(
            fleet, row, rate
        )  # what stays for good (the libraries' workspaces) is not the row's
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        _forward(fleet, row, rate).sum().backward()  # type: ignore[no-untyped-call]
    return torch.cuda.max_memory_allocated(device) - before


def _forward(fleet: Fleet, row: EncodedExample, rate: float) -> Tensor:
    batch = training_batch([row], device=fleet.base.device, omit_prefixes=fleet.reuse.prompts)
    with fleet.dropout_applied({0: Dropout(rate, seed=0, step=0)}):
        return fleet.token_nll(batch, [0])[0]
