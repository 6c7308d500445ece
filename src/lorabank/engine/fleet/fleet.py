"""A fleet: many LoRA adapters around one frozen base, in one forward pass.

Every adapted linear layer multiplies its frozen weight once for all rows of the batch and adds,
by batched products, each row's own B(A x) * alpha / r. All adapters live in one float32 matrix
with a row per slot; the A and B of every layer are views into it, and so are their gradients.
Clipping, the optimiser, snapshots and refilling a slot are then operations on rows.

Smaller ranks and unadapted layers are zero padding: where both A and B are zero their gradients
are exactly zero, so padding stays padding. Formula: arXiv:2106.09685, eq. 3.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.caches import REUSE_ALL, Reuse
from lorabank.engine.backbone.layer_access import read_layer_input, starting_at_layer
from lorabank.engine.backbone.prefill import KeyValues, Tokens, padded_cache, prefill_prompts
from lorabank.engine.encoding.batches import Batch, batches_by_length, training_batch
from lorabank.engine.encoding.dataset import EncodedExample
from lorabank.engine.fleet.dropout import Dropout, DropoutMasks, dropout_masks, layer_key
from lorabank.engine.fleet.fused_projections import fuse_projections
from lorabank.engine.fleet.layer import FleetLinear, RowAssignment
from lorabank.engine.training.settings import TrainSettings
from lorabank.lora.shapes import layer_of
from lorabank.lora.variants import Layer, initial, parse, scale

Weights = dict[str, tuple[Tensor, Tensor]]
"""An adapter: path of a linear layer -> A (r, in), B (out, r), float32."""
_WARM_TOKENS = 4096  # in one forward pass


@dataclass(frozen=True, slots=True)
class Region:
    """Where one layer's A and B lie in a slot's row."""

    start: int
    out: int
    inner: int

    def end(self, r: int) -> int:
        return self.start + r * (self.out + self.inner)


_Home = dict[str, nn.Module | None]
"""The modules in a module, written to directly: torch's way takes milliseconds for 200 of them."""


class Fleet:
    """`width` slots for adapters of rank up to `r` on the linear layers `paths` of `base`."""

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
        self.reuse = reuse
        self.lowest_adapted_layer = min((layer_of(path) or 0 for path in paths), default=0)
        self.activated = [False] * width
        self.needs_float32 = [False] * width
        """Slots whose products need float32: pissa subtracts two large ones."""
        self.trainable_masks: dict[int, Tensor] = {}
        """(P,) for slots of which some numbers never train: 1 where they do, else 0."""
        self.r = r
        self.width = width
        self.regions = _lay_out(base, paths, r)
        size = max((region.end(r) for region in self.regions.values()), default=0)
        self.theta = torch.zeros(width, size, device=base.device)  # (E, P)
        self.grad = torch.zeros_like(self.theta)
        self.scale = torch.zeros(width, device=base.device)
        self.assignment = RowAssignment()
        self._drops: Mapping[int, Dropout] = {}
        self.layers: dict[str, FleetLinear] = {}
        """Where the adapters work; empty outside of the block."""
        self._built: list[tuple[str, _Home, str, FleetLinear]] = []
        """Path, what it is in and its name there; made when first entered."""

    def __enter__(self) -> "Fleet":
        """Put the adapters around the base's layers; a fleet may be entered again."""
        if not all(home[name] is layer.linear for _, home, name, layer in self._built):
            self._built = []  # others stand around the base's layers now
        if not self._built:
            self._built = [self._build(path) for path in self.regions]
            fuse_projections({path: layer for path, _, _, layer in self._built})
        for at, home, name, layer in self._built:
            home[name] = layer
            self.layers[at] = layer
        self.assign(self.assignment)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the base its own layers back."""
        for _at, home, name, layer in self._built:
            home[name] = layer.linear
        self.layers.clear()

    def _build(self, path: str) -> tuple[str, _Home, str, FleetLinear]:
        region, (above, _, name) = self.regions[path], path.rpartition(".")
        weights = _views(self.theta, region, self.r)
        for leaf in weights:
            leaf.requires_grad_()
        home: _Home = self.base.model.get_submodule(above)._modules
        linear = self.base.model.get_submodule(path)
        grads = _views(self.grad, region, self.r)
        return path, home, name, FleetLinear(linear, weights, grads, key=layer_key(path))

    @contextmanager
    def assigned(
        self,
        slots: Sequence[int] | None,
        *,
        adapter_scales: Sequence[float] | None = None,
        adapter_mask: Tensor | None = None,
        dropout: DropoutMasks | None = None,
    ) -> Iterator[None]:
        """Rows of the batches inside meet these slots, one for each; None: the bare model."""
        before, seating = self.assignment, RowAssignment(adapter_mask=adapter_mask, dropout=dropout)
        if slots is not None:
            slots, adapter_scales = _runs(slots, adapter_scales)
            seating.slots = torch.tensor(slots, device=self.theta.device)
            seating.scale = self.scale[seating.slots]
            if adapter_scales is not None:
                seating.scale = seating.scale * torch.tensor(
                    adapter_scales, device=self.theta.device
                )
            seating.needs_float32 = any(self.needs_float32[slot] for slot in slots)
            seating.is_whole_fleet = list(slots) == list(range(self.width))
            seating.identity = (tuple(slots), tuple(seating.scale.tolist()))
        self.assign(seating)
        try:
            yield
        finally:
            self.assign(before)

    def assign(self, assignment: RowAssignment) -> None:
        """As `seated`, until the next call."""
        self.assignment = assignment
        for layer in self.layers.values():
            vars(layer)["assignment"] = assignment  # as above: past torch's way

    def logits_at(
        self, batch: Batch, slots: Sequence[int], *, adapter_scales: Sequence[float] | None = None
    ) -> Tensor:
        """(N, vocabulary) logits at a batch's positions, each row with its slot's adapter."""
        with self.batch_inputs(batch, slots, adapter_scales=adapter_scales) as inputs:
            return self.base.logits_at(batch.rows, batch.columns, **inputs)

    def token_nll(self, batch: Batch, slots: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(N,) surprise of a batch's targets in nats, and (N,) whether each was most likely."""
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
        """The model's inputs for a batch, its rows seated.

        What no adapter touches comes from the base's shelves where `reuse` allows.
        """
        inputs: dict[str, Any] = {"input_ids": batch.input_ids, "use_cache": False}
        entry = self.lowest_adapted_layer if self.reuse.layers else 0
        entries = self.prompt_key_values(batch.prefixes)
        if entries:
            inputs |= _after(entries, batch, from_layer=entry)
        entering = (
            starting_at_layer(self.base.model, entry, self._hidden(batch, entries, entry))
            if entry
            else nullcontext()
        )
        per_group = len(batch.token_ids) // len(slots)
        drops = dropout_masks(
            batch, [self._drops.get(slot) for slot in slots for _ in range(per_group)]
        )
        assigned = self.assigned(
            slots, adapter_scales=adapter_scales, adapter_mask=batch.adapter_mask, dropout=drops
        )
        with entering, assigned:
            yield inputs

    @contextmanager
    def dropout_applied(self, drops: Mapping[int, Dropout]) -> Iterator[None]:
        """Batches inside drop some of these slots' inputs."""
        self._drops = drops
        try:
            yield
        finally:
            self._drops = {}

    @property
    def has_dropout(self) -> bool:
        """Whether any slot's inputs are dropped now."""
        return any(one.rate > 0 for one in self._drops.values())

    def prefill(self, examples: Sequence[EncodedExample]) -> None:
        """Put on the base's shelves what they keep of these lessons.

        In bfloat16 what a batch is made of shows in the last bits of its rows. Computed here, a
        job's share depends on its lessons and not on when it came across them.
        """
        entry = self.lowest_adapted_layer if self.reuse.layers else 0
        if not (entry or self.reuse.prompts):
            return
        lengths = [len(row.token_ids) for row in examples]
        for some in batches_by_length(lengths, max_tokens=_WARM_TOKENS):
            rows = [examples[i] for i in some]
            batch = training_batch(rows, device=self.base.device, omit_prefixes=self.reuse.prompts)
            entries = self.prompt_key_values(batch.prefixes)
            if entry:
                self._hidden(batch, entries, entry)

    def prompt_key_values(self, prefixes: Sequence[Tokens]) -> list[KeyValues]:
        """Keys and values of prefixes as the bare base reads them; none if all are empty."""
        there = [prefix for prefix in prefixes if prefix]
        if not there:
            return []

        def compute(missing: list[int]) -> list[KeyValues]:
            with self.assigned(None):
                return prefill_prompts(self.base.model, [there[i] for i in missing])

        found = iter(self.base.prompt_cache.get(there, compute))
        read = [next(found) if prefix else None for prefix in prefixes]
        some = next(entry for entry in read if entry is not None)
        empty = tuple((k[:, :0], v[:, :0]) for k, v in some)
        return [empty if entry is None else entry for entry in read]

    def _hidden(self, batch: Batch, entries: list[KeyValues], entry: int) -> Tensor:
        """(R, T, d) what enters layer `entry`, padded on the right."""

        def compute(missing: list[int]) -> list[Tensor]:
            inputs: dict[str, Any] = {"input_ids": batch.input_ids[missing], "use_cache": False}
            if entries:
                inputs |= _after(
                    [entries[i] for i in missing], batch.select_rows(missing), from_layer=0
                )
            with self.assigned(None):
                hidden = read_layer_input(self.base.model, entry, **inputs)
            return [hidden[j, : len(batch.token_ids[i])].clone() for j, i in enumerate(missing)]

        keys = [(entry, p, t) for p, t in zip(batch.prefixes, batch.token_ids, strict=True)]
        parts = self.base.layer_input_cache.get(keys, compute)
        return nn.utils.rnn.pad_sequence(list(parts), batch_first=True)

    def initialise(self, slot: int, settings: TrainSettings, paths: Sequence[str]) -> None:
        """Give a slot a fresh adapter, as its variant draws it; the base is what it was."""
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
                moves_a, moves_b = self._parts(self._moves(slot), path, init.a.shape[0])
                moves_a.copy_(init.trainable_a[:, None].expand_as(moves_a))
                moves_b.copy_(init.trainable_b[None, :].expand_as(moves_b))

    def load(self, slot: int, weights: Weights, *, alpha: float, activated: bool) -> None:
        """Fill a slot with an adapter that exists."""
        self._clear(slot, activated=activated)
        for path, (a, b) in weights.items():
            self.scale[slot] = alpha / a.shape[0]
            mine = self.weights_at(slot, path, a.shape[0])
            mine[0].copy_(a)
            mine[1].copy_(b)

    def _clear(self, slot: int, *, activated: bool) -> None:
        self.theta[slot].zero_()
        self.activated[slot] = activated
        self.needs_float32[slot] = False
        self.trainable_masks.pop(slot, None)

    def _moves(self, slot: int) -> Tensor:
        """(1, P) 1 where a slot's numbers train, made on first use; see `moves`."""
        if slot not in self.trainable_masks:
            self.trainable_masks[slot] = torch.ones_like(self.theta[slot])
        return self.trainable_masks[slot][None]

    def extract(self, slot: int, *, r: int, paths: Sequence[str]) -> Weights:
        """Copies of a slot's A and B, without padding."""
        return {
            path: (a.clone().contiguous(), b.clone().contiguous())
            for path in paths
            for a, b in [self.weights_at(slot, path, r)]
        }

    def weights_at(self, slot: int, path: str, r: int) -> tuple[Tensor, Tensor]:
        """Views of one adapter's A (r, in) and B (out, r) in a layer."""
        return self._parts(self.theta[slot : slot + 1], path, r)

    def _parts(self, row: Tensor, path: str, r: int) -> tuple[Tensor, Tensor]:
        a, b = _views(row, self.regions[path], self.r)
        return a[0, :r], b[0, :, :r]


def _after(entries: list[KeyValues], batch: Batch, *, from_layer: int) -> dict[str, Any]:
    """Inputs that let a batch's rows follow on prompts already read."""
    cache, lengths = padded_cache(entries, from_layer=from_layer)
    device, width = batch.input_ids.device, batch.input_ids.shape[1]
    ends, longest = torch.tensor(lengths, device=device)[:, None], max(lengths)
    mask = torch.arange(longest + width, device=device) >= longest - ends  # (R, P + T)
    return {
        "past_key_values": cache,
        "use_cache": True,
        "position_ids": ends + torch.arange(width, device=device),
        "attention_mask": mask.long(),
    }


def _runs(
    slots: Sequence[int], strength: Sequence[float] | None
) -> tuple[Sequence[int], Sequence[float] | None]:
    """Neighbouring rows of one slot as one group, where all groups are then of one size."""
    runs = [
        (key, len(list(rows)))
        for key, rows in groupby(zip(slots, strength or [1.0] * len(slots), strict=True))
    ]
    if len({n for _, n in runs}) != 1:
        return slots, strength
    return [slot for (slot, _), _ in runs], strength and [factor for (_, factor), _ in runs]


def _lay_out(base: Base, paths: Sequence[str], r: int) -> dict[str, Region]:
    regions: dict[str, Region] = {}
    start = 0
    for path in paths:
        out, inner = base.linears[path]
        regions[path] = Region(start, out, inner)
        start = regions[path].end(r)
    return regions


def _views(matrix: Tensor, region: Region, r: int) -> tuple[Tensor, Tensor]:
    """A (E, r, in) and B (E, out, r) of a layer, sharing the storage of `matrix` (E, P)."""
    width, middle = len(matrix), region.start + r * region.inner
    a = matrix[:, region.start : middle].view(width, r, region.inner)
    b = matrix[:, middle : region.end(r)].view(width, region.out, r)
    return a, b
