"""A fleet: many LoRA adapters around one frozen base, used in the same forward pass.

Every adapted linear layer multiplies its frozen weight once for all rows of the batch and adds
each row's own B(A x) * alpha / r by batched products. All adapters are stored in one float32 matrix
with a row per slot. The A and B of every layer are views into it, and their gradients are views
into a second matrix. Gradient clipping, the optimiser, snapshots and refilling a slot are therefore
operations on rows.

Smaller ranks and layers without an adapter are padded with zeros. Where both A and B are zero, the
gradients are exactly zero, so padding stays zero. Formula: arXiv:2106.09685, eq. 3.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.caches import REUSE_ALL, Reuse
from lorabank.engine.backbone.layer_access import read_layer_input, starting_at_layer
from lorabank.engine.backbone.prefill import (
    KeyValues,
    Tokens,
    inputs_after_prefixes,
    prefill_prompts,
)
from lorabank.engine.encoding.batches import Batch, batches_by_length, training_batch
from lorabank.engine.encoding.dataset import EncodedExample
from lorabank.engine.fleet.dropout import Dropout, DropoutMasks, dropout_masks, layer_key
from lorabank.engine.fleet.fused_projections import fuse_projections
from lorabank.engine.fleet.layer import FleetLinear, RowAssignment
from lorabank.engine.fleet.slot_layout import adapter_views, lay_out
from lorabank.engine.settings import TrainSettings
from lorabank.lora.shapes import layer_of
from lorabank.lora.variants import Layer, initial, parse, scale

Weights = dict[str, tuple[Tensor, Tensor]]
"""Weights of an adapter: path of a linear layer -> A (r, in), B (out, r), float32."""
_PREFILL_TOKENS = 4096  # in one forward pass


class _WrappedLayer(NamedTuple):
    """A linear layer of the base and the layer with adapters that takes its place."""

    path: str
    siblings: dict[str, nn.Module | None]
    """Modules by name in the layer's parent. The dictionary is changed directly, since assigning
    attributes of 200 modules takes milliseconds."""
    name: str
    """Name in `siblings`."""
    layer: FleetLinear


class Fleet:
    """A set of `width` slots for adapters of rank up to `r` on the linear layers `paths` of a base.

    Used as a context manager, it puts its layers in the place of the base's and takes them out
    again. Within the block, rows are given slots by `assigned` or by the methods that take slots.
    """

    def __init__(
        self,
        base: Base,
        *,
        paths: Sequence[str],
        r: int,
        width: int = 1,
        reuse: Reuse = REUSE_ALL,
    ):
        self.base = base
        self.reuse = base.abilities.allow(reuse)
        self.lowest_adapted_layer = min((layer_of(path) or 0 for path in paths), default=0)
        self.activated = [False] * width
        self.needs_float32 = [False] * width
        """Whether a slot's products need float32: pissa subtracts two large ones."""
        self.trainable_masks: dict[int, Tensor] = {}
        """Masks (P,) of slots that train in part: 1 where a number trains, else 0."""
        self.r = r
        self.width = width
        self.regions = lay_out(base.linears, paths, r)
        size = max((region.end(r) for region in self.regions.values()), default=0)
        self.theta = torch.zeros(width, size, device=base.device)  # (E, P)
        self.grad = torch.zeros_like(self.theta)
        self.scale = torch.zeros(width, device=base.device)
        self.assignment = RowAssignment()
        self._dropouts: Mapping[int, Dropout] = {}
        self.layers: dict[str, FleetLinear] = {}
        """Layers with adapters by path; empty outside of the block."""
        self._wrapped: list[_WrappedLayer] = []
        """Layers, made when the fleet is entered for the first time."""

    def __enter__(self) -> "Fleet":
        """Put the adapters around the base's layers. A fleet can be entered again."""
        if not all(w.siblings[w.name] is w.layer.linear for w in self._wrapped):
            self._wrapped = []  # another fleet has wrapped the base's layers meanwhile
        if not self._wrapped:
            self._wrapped = [self._wrap(path) for path in self.regions]
            fuse_projections({wrapped.path: wrapped.layer for wrapped in self._wrapped})
        for wrapped in self._wrapped:
            wrapped.siblings[wrapped.name] = wrapped.layer
            self.layers[wrapped.path] = wrapped.layer
        self.assign(self.assignment)
        self.base.entered.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        """Put the base's own layers back."""
        self.base.entered.remove(self)
        for wrapped in self._wrapped:
            wrapped.siblings[wrapped.name] = wrapped.layer.linear
        self.layers.clear()

    def _wrap(self, path: str) -> _WrappedLayer:
        region, (parent, _, name) = self.regions[path], path.rpartition(".")
        weights = adapter_views(self.theta, region, self.r)
        for weight in weights:
            weight.requires_grad_()
        siblings = self.base.model.get_submodule(parent)._modules
        linear = self.base.model.get_submodule(path)
        grads = adapter_views(self.grad, region, self.r)
        layer = FleetLinear(linear, weights, grads, key=layer_key(path))
        return _WrappedLayer(path, siblings, name, layer)

    @contextmanager
    def assigned(
        self,
        slots: Sequence[int] | None,
        *,
        adapter_scales: Sequence[float] | None = None,
        adapter_mask: Tensor | None = None,
        dropout: DropoutMasks | None = None,
    ) -> Iterator[None]:
        """Let the rows of batches in the block use the adapters of these slots.

        Args:
            slots: one for each row, or for each group of rows of the same size; None for the bare
                model.
            adapter_scales: factors on the slots' own scales, one for each of `slots`.
            adapter_mask: (R, T, 1) bool, where adapters are active; None for everywhere.
        """
        former = self.assignment
        assignment = RowAssignment(adapter_mask=adapter_mask, dropout=dropout)
        if slots is not None:
            slots, adapter_scales = _merge_neighbours(slots, adapter_scales)
            assignment.slots = torch.tensor(slots, device=self.theta.device)
            assignment.scale = self.scale[assignment.slots]
            if adapter_scales is not None:
                assignment.scale = assignment.scale * torch.tensor(
                    adapter_scales, device=self.theta.device
                )
            assignment.needs_float32 = any(self.needs_float32[slot] for slot in slots)
            assignment.is_whole_fleet = list(slots) == list(range(self.width))
            assignment.identity = (tuple(slots), tuple(assignment.scale.tolist()))
        self.assign(assignment)
        try:
            yield
        finally:
            self.assign(former)

    def assign(self, assignment: RowAssignment) -> None:
        """Let rows use the adapters of an assignment until the next call."""
        self.assignment = assignment
        for layer in self.layers.values():
            vars(layer)["assignment"] = assignment  # faster than nn.Module.__setattr__

    def logits_at(
        self, batch: Batch, slots: Sequence[int], *, adapter_scales: Sequence[float] | None = None
    ) -> Tensor:
        """Return (N, vocabulary) logits at a batch's positions under the rows' adapters."""
        with self.batch_inputs(batch, slots, adapter_scales=adapter_scales) as inputs:
            return self.base.logits_at(batch.rows, batch.columns, **inputs)

    def token_nll(self, batch: Batch, slots: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return (N,) nats of a batch's targets, and (N,) nats by which each leads other tokens."""
        with self.batch_inputs(batch, slots) as inputs:
            return self.base.token_nll(batch.rows, batch.columns, batch.targets, **inputs)

    @contextmanager
    def batch_inputs(
        self,
        batch: Batch,
        slots: Sequence[int],
        *,
        adapter_scales: Sequence[float] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield the model's inputs for a batch whose rows use the adapters of `slots` in the block.

        What does not depend on adapters is taken from the base's caches if `reuse` allows it.
        """
        inputs: dict[str, Any] = {"input_ids": batch.input_ids, "use_cache": False}
        first_layer = self.lowest_adapted_layer if self.reuse.layers else 0
        entries = self.prompt_key_values(batch.prefixes)
        if entries:
            width = batch.input_ids.shape[1]
            inputs |= inputs_after_prefixes(entries, width, from_layer=first_layer)
        skipping_layers = (
            starting_at_layer(
                self.base.model, first_layer, self._layer_input(batch, entries, first_layer)
            )
            if first_layer
            else nullcontext()
        )
        per_group = len(batch.token_ids) // len(slots)
        masks = dropout_masks(
            batch, [self._dropouts.get(slot) for slot in slots for _ in range(per_group)]
        )
        assigned = self.assigned(
            slots, adapter_scales=adapter_scales, adapter_mask=batch.adapter_mask, dropout=masks
        )
        with skipping_layers, assigned:
            yield inputs

    @contextmanager
    def dropout_applied(self, dropouts: Mapping[int, Dropout]) -> Iterator[None]:
        """Apply dropout to the adapter inputs of these slots in the block."""
        self._dropouts = dropouts
        try:
            yield
        finally:
            self._dropouts = {}

    @property
    def has_dropout(self) -> bool:
        """Return whether dropout is applied to any slot now."""
        return any(dropout.rate > 0 for dropout in self._dropouts.values())

    def prefill(self, examples: Sequence[EncodedExample]) -> None:
        """Compute what the base's caches store of these examples.

        In bfloat16 the last bits of a row depend on the other rows of its batch. After this call,
        what a job finds in the caches depends on its own examples and not on when it needs them.
        """
        first_layer = self.lowest_adapted_layer if self.reuse.layers else 0
        if not (first_layer or self.reuse.prompts):
            return
        lengths = [len(row.token_ids) for row in examples]
        for indices in batches_by_length(lengths, max_tokens=_PREFILL_TOKENS):
            rows = [examples[i] for i in indices]
            batch = training_batch(rows, device=self.base.device, omit_prefixes=self.reuse.prompts)
            entries = self.prompt_key_values(batch.prefixes)
            if first_layer:
                self._layer_input(batch, entries, first_layer)

    def prompt_key_values(self, prefixes: Sequence[Tokens]) -> list[KeyValues]:
        """Return keys and values of prefixes under the bare base; nothing if all are empty."""
        non_empty = [prefix for prefix in prefixes if prefix]
        if not non_empty:
            return []

        def compute(missing: list[int]) -> list[KeyValues]:
            with self.assigned(None):
                return prefill_prompts(self.base.model, [non_empty[i] for i in missing])

        cached = self.base.prompt_cache.get(non_empty, compute)
        empty = tuple((k[:, :0], v[:, :0]) for k, v in cached[0])
        remaining = iter(cached)
        return [next(remaining) if prefix else empty for prefix in prefixes]

    def _layer_input(self, batch: Batch, entries: list[KeyValues], layer: int) -> Tensor:
        """Return the (R, T, d) hidden states that enter a layer, padded on the right."""

        def compute(missing: list[int]) -> list[Tensor]:
            inputs: dict[str, Any] = {"input_ids": batch.input_ids[missing], "use_cache": False}
            if entries:
                width = batch.input_ids.shape[1]
                inputs |= inputs_after_prefixes([entries[i] for i in missing], width)
            with self.assigned(None):
                hidden = read_layer_input(self.base.model, layer, **inputs)
            return [hidden[j, : len(batch.token_ids[i])].clone() for j, i in enumerate(missing)]

        keys = [(layer, p, t) for p, t in zip(batch.prefixes, batch.token_ids, strict=True)]
        states = self.base.layer_input_cache.get(keys, compute)
        return nn.utils.rnn.pad_sequence(list(states), batch_first=True)

    def initialise(self, slot: int, settings: TrainSettings, paths: Sequence[str]) -> None:
        """Give a slot a new adapter, initialised as its variant prescribes."""
        variant = parse(settings.variant)
        rng = torch.Generator().manual_seed(settings.seed)
        self._clear(slot, activated=settings.activated)
        self.scale[slot] = scale(variant, settings.alpha, settings.r)
        self.needs_float32[slot] = variant == "pissa"
        for path in paths:
            weight = self.base.weight(path) if variant == "pissa" else None
            layer = Layer(path, self.base.linears[path], weight)
            init = initial(variant, layer, r=settings.r, alpha=settings.alpha, generator=rng)
            a, b = self.weights_at(slot, path, init.a.shape[0])
            a.copy_(init.a)
            b.copy_(init.b)
            if not (init.trainable_a.all() and init.trainable_b.all()):
                mask_a, mask_b = self._pair(self._trainable_mask(slot), path, init.a.shape[0])
                mask_a.copy_(init.trainable_a[:, None].expand_as(mask_a))
                mask_b.copy_(init.trainable_b[None, :].expand_as(mask_b))

    def load(self, slot: int, weights: Weights, *, alpha: float, activated: bool) -> None:
        """Copy an adapter into a slot.

        Args:
            activated: whether the adapter is active from the assistant's header only.
        """
        self._clear(slot, activated=activated)
        for path, (a, b) in weights.items():
            self.scale[slot] = alpha / a.shape[0]
            slot_a, slot_b = self.weights_at(slot, path, a.shape[0])
            slot_a.copy_(a)
            slot_b.copy_(b)

    def _clear(self, slot: int, *, activated: bool) -> None:
        self.theta[slot].zero_()
        self.activated[slot] = activated
        self.needs_float32[slot] = False
        self.trainable_masks.pop(slot, None)

    def _trainable_mask(self, slot: int) -> Tensor:
        """Return a slot's mask in `trainable_masks` as (1, P), made on first use."""
        if slot not in self.trainable_masks:
            self.trainable_masks[slot] = torch.ones_like(self.theta[slot])
        return self.trainable_masks[slot][None]

    def extract(self, slot: int, *, r: int, paths: Sequence[str]) -> Weights:
        """Return copies of a slot's A and B without padding."""
        return {
            path: (a.clone().contiguous(), b.clone().contiguous())
            for path in paths
            for a, b in [self.weights_at(slot, path, r)]
        }

    def weights_at(self, slot: int, path: str, r: int) -> tuple[Tensor, Tensor]:
        """Return views of A (r, in) and B (out, r) of a slot's adapter in a layer."""
        return self._pair(self.theta[slot : slot + 1], path, r)

    def _pair(self, row: Tensor, path: str, r: int) -> tuple[Tensor, Tensor]:
        a, b = adapter_views(row, self.regions[path], self.r)
        return a[0, :r], b[0, :, :r]


def _merge_neighbours(
    slots: Sequence[int], adapter_scales: Sequence[float] | None
) -> tuple[Sequence[int], Sequence[float] | None]:
    """Make one group of neighbouring rows with the same slot, if all groups then have one size."""
    groups = [
        (key, len(list(rows)))
        for key, rows in groupby(zip(slots, adapter_scales or [1.0] * len(slots), strict=True))
    ]
    if len({n for _, n in groups}) != 1:
        return slots, adapter_scales
    merged_slots = [slot for (slot, _), _ in groups]
    return merged_slots, adapter_scales and [factor for (_, factor), _ in groups]
