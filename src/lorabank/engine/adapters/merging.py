"""Merging of several adapters into one, which is then an adapter like any other.

The rules are those of lora/merge.py, applied layer by layer. Adapters go in with the scale
alpha / r. The result has alpha = r and hence the scale 1, in fleets as in PEFT's files. Adapters
can be merged only if they have the same base, the same layers and the same activation.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lorabank.engine.adapters.adapter import Adapter
from lorabank.errors import AdapterError, UsageError
from lorabank.lora import factors
from lorabank.lora.factors import Factors
from lorabank.lora.merge import Options, rule_named


@dataclass(frozen=True, slots=True)
class MergeSettings:
    """The settings of a merge besides rule and weights."""

    density: float = 0.5
    """Share of entries that the pruning rules keep."""
    rank: int | None = None
    """Rank of the result of the rule svd; None for the largest rank among the adapters."""
    seed: int = 0
    """Seed of what the DARE rules drop; each layer draws its own, whatever the order of layers."""
    matched_norm: bool = False
    """Whether the result is scaled to the mean norm of the adapters, all layers by one factor."""


@torch.no_grad()
def merge_adapters(
    adapters: Sequence[Adapter],
    *,
    rule: str,
    weights: Sequence[float],
    settings: MergeSettings = MergeSettings(),
) -> Adapter:
    """Return one adapter made of several.

    Args:
        rule: a name from `lora.merge.RULES`.
        weights: one for each adapter. The rules mean and cat-1/n divide them, the others use them
            as they are.

    Raises:
        UsageError: the rule is unknown, or cannot take these weights, density or rank.
        AdapterError: the adapters differ in base model, adapted layers or activation.
    """
    merge = rule_named(rule)
    _check_same_kind(adapters)
    layers = {path: [_part(adapter, path) for adapter in adapters] for path in adapters[0].weights}
    merged = [
        merge(
            parts,
            weights,
            Options(_generator(settings.seed, path), settings.density, settings.rank),
        )
        for path, parts in layers.items()
    ]
    if settings.matched_norm:
        merged = factors.matched_norm(merged, list(zip(*layers.values(), strict=True)))
    r = max(layer.r for layer in merged)
    merge_record = {"rule": rule, "weights": list(weights), **asdict(settings)}
    return Adapter(
        weights={path: _widened(layer, r) for path, layer in zip(layers, merged, strict=True)},
        r=r,
        alpha=float(r),
        activated=adapters[0].activated,
        record=_record(adapters, merge_record),
    )


def _check_same_kind(adapters: Sequence[Adapter]) -> None:
    if not adapters:
        raise UsageError("there is nothing to merge: give at least one adapter")
    bases = {base["sha256"]: base for a in adapters if (base := a.record.get("base"))}
    if len(bases) > 1:
        shown = ", ".join(f"{base.get('name')} ({sha[:12]})" for sha, base in bases.items())
        raise AdapterError(f"adapters to merge must belong to one base model, got {shown}")
    if len({adapter.activated for adapter in adapters}) > 1:
        n = sum(adapter.activated for adapter in adapters)
        raise AdapterError(
            "adapters to merge must all be activated or all be always on, got "
            f"{n} activated and {len(adapters) - n} always on; train them again with one choice"
        )
    first = adapters[0].weights
    for number, adapter in enumerate(adapters[1:], 2):
        if differing := sorted(first.keys() ^ adapter.weights.keys()):
            raise AdapterError(
                f"adapters to merge must adapt the same layers, but {differing[0]} is in only one "
                f"of adapters 1 and {number} ({len(differing)} such layers); train them with the "
                "same --target-modules and --layers"
            )


def _part(adapter: Adapter, path: str) -> Factors:
    a, b = adapter.weights[path]
    return Factors(a, b, adapter.alpha / len(a))


def _widened(layer: Factors, r: int) -> tuple[Tensor, Tensor]:
    """Return A (r, n) and B (o, r) with the scale in B, padded with zeros to one rank for all."""
    n_missing = r - layer.r
    return F.pad(layer.a, (0, 0, 0, n_missing)), F.pad(layer.b * layer.scale, (0, n_missing))


def _generator(seed: int, path: str) -> torch.Generator:
    digest = hashlib.sha256(f"lorabank/merge/{seed}/{path}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _record(adapters: Sequence[Adapter], merge_record: dict[str, Any]) -> dict[str, Any]:
    """Return the content of `lorabank.json`; base and facts if the merged adapters name them."""
    base = next((a.record["base"] for a in adapters if a.record.get("base")), None)
    facts = [adapter.record.get("facts_sha256") for adapter in adapters]
    base_record = {} if base is None else {"base": base}
    return {"format": 1, **base_record, "merge": {**merge_record, "parts_facts_sha256": facts}}
