"""The number of adapters that train at once, by the memory that each takes and that is free.

A slot holds its adapter five times in float32 (weights, gradient, two moments, the best state so
far) and the activations of its rows for the backward pass. The latter are measured: the longest
row of all jobs goes through the fleet once. On a GPU the peak of a whole step is measured; on a
CPU, whose allocator has no record of peaks, the bytes that autograd saves.
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
from lorabank.engine.training.jobs import Job, adapted_paths
from lorabank.engine.training.recompute import recomputing
from lorabank.errors import UsageError

_log = logging.getLogger(__name__)
_ADAPTER_COPIES = 5  # weights, gradient, two moments, best state
_USABLE_SHARE = 0.7  # of what is free; the rest is for recall, caches and other processes
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """The memory that a fleet needs."""

    slot_bytes: int
    """Bytes for each adapter that trains."""
    done_bytes: int
    """Bytes for all finished adapters together, which are held to the end."""

    def bytes_at(self, width: int) -> int:
        return self.done_bytes + width * self.slot_bytes

    def slots_in(self, free_bytes: int) -> int:
        return max(0, (int(free_bytes * _USABLE_SHARE) - self.done_bytes) // self.slot_bytes)


def choose_width(need: MemoryNeed, *, free_bytes: int, n_jobs: int, requested: int | None) -> int:
    """Return how many adapters train at once: the requested number, or as many as fit.

    Raises:
        UsageError: `requested` is below 1, or the fleet does not fit into memory; the message
            says what would fit.
    """
    if requested is not None and requested < 1:
        raise UsageError(f"--width must be at least 1, got {requested}")
    fits, width = need.slots_in(free_bytes), min(n_jobs, requested or n_jobs)
    needed = f"{need.bytes_at(width) / _GIB:.1f} GiB"
    free = f"{free_bytes / _GIB:.1f} GiB is free, of which {_USABLE_SHARE:.0%} may be used"
    if not fits:
        raise UsageError(
            f"no adapter fits: one takes {need.bytes_at(1) / _GIB:.1f} GiB, {free}; "
            "lower --batch-size or --r, or turn gradient checkpointing on"
        )
    if requested is not None and width > fits:
        raise UsageError(f"--width {width} takes {needed}, {free}; --width {fits} would fit")
    return min(width, fits)


def measure_memory(base: Base, jobs: Sequence[Job], *, reuse: Reuse, recompute: bool) -> MemoryNeed:
    """Return what these jobs take if each has the longest row and the largest batch of all."""
    paths = adapted_paths(jobs)
    rows = max(job.rows_per_step for job in jobs)
    all_rows = [row for job in jobs for row in job.dataset.training_rows]
    longest = max(all_rows, key=lambda row: (_n_run_tokens(row, reuse), len(row.token_ids)))
    r = max(job.saved_r for job in jobs)
    with _separate_caches(base), Fleet(base, paths=paths, r=r, reuse=reuse) as fleet:
        fleet.needs_float32[0] = any(job.settings.variant == "pissa" for job in jobs)
        rate = max(job.settings.dropout for job in jobs)
        adapter = fleet.theta.nbytes
        if base.device.type == "cuda":
            row = _peak_bytes(fleet, longest, rate, recompute=recompute)
        else:
            row = _saved_bytes(fleet, longest, rate)
            if recompute:  # one layer at a time, and what enters each of them
                n = len(decoder_layers(base.model)) - fleet.lowest_adapted_layer
                entering = base.model.get_input_embeddings().weight[0].nbytes
                row = row // n + n * _n_run_tokens(longest, reuse) * entering
    need = MemoryNeed(_ADAPTER_COPIES * adapter + rows * row, len(jobs) * adapter)
    _log.info(
        "a slot takes %.1f MB, %.1f of it for its rows",
        need.slot_bytes / 1e6,
        rows * row / 1e6,
    )
    return need


def _n_run_tokens(row: EncodedExample, reuse: Reuse) -> int:
    return len(row.token_ids) - (row.adapter_start if reuse.prompts else 0)


@contextmanager
def _separate_caches(base: Base) -> Iterator[None]:
    """Give the base new caches inside; training has to fill its own in its own order."""
    caches = base.prompt_cache, base.layer_input_cache
    base.prompt_cache, base.layer_input_cache = new_prompt_cache(), new_layer_input_cache()
    try:
        yield
    finally:
        base.prompt_cache, base.layer_input_cache = caches


def _saved_bytes(fleet: Fleet, row: EncodedExample, rate: float) -> int:
    """Return the bytes autograd saves for the backward pass of a row, the base's weights aside."""
    weights = {p.untyped_storage().data_ptr() for p in fleet.base.model.parameters()}
    saved: dict[int, Tensor] = {}

    def save(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(save, lambda tensor: tensor):
        nll = _forward(fleet, row, rate)
    total = sum(t.untyped_storage().nbytes() for ptr, t in saved.items() if ptr not in weights)
    return total + nll.nbytes


def _peak_bytes(fleet: Fleet, row: EncodedExample, rate: float, *, recompute: bool) -> int:
    device = fleet.base.device
    with recomputing(fleet, is_on=recompute):
        _forward(fleet, row, rate)  # a first pass, as libraries allocate workspaces that stay
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        _forward(fleet, row, rate).sum().backward()  # type: ignore[no-untyped-call]
    return torch.cuda.max_memory_allocated(device) - before


def _forward(fleet: Fleet, row: EncodedExample, rate: float) -> Tensor:
    batch = training_batch([row], device=fleet.base.device, omit_prefixes=fleet.reuse.prompts)
    with fleet.dropout_applied({0: Dropout(rate, seed=0, step=0)}):
        return fleet.token_nll(batch, [0])[0]
