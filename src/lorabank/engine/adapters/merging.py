"""Whole adapters merged into one, which is then an adapter like any other.

The rules are lora/merge.py's, layer by layer; a layer's parts come in with alpha / r as their
scale and what comes out has alpha = r, so a scale of 1, in fleets and in PEFT's files alike. Parts
must belong together: a merge across bases, layers or ways of coming on means nothing.
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
    """What a merge needs besides adapters, rule and weights."""

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
        UsageError: an unknown rule, or weights, density or ranks that it cannot take.
        AdapterError: the adapters differ in base model, adapted layers or activation.
    """
    merge = rule_named(rule)
    _check_alike(adapters)
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
    how = {"rule": rule, "weights": list(weights), **asdict(settings)}
    return Adapter(
        weights={path: _widened(layer, r) for path, layer in zip(layers, merged, strict=True)},
        r=r,
        alpha=float(r),
        activated=adapters[0].activated,
        record=_record(adapters, how),
    )


def _check_alike(adapters: Sequence[Adapter]) -> None:
    if not adapters:
        raise UsageError("there is nothing to merge: give at least one adapter")
    bases = {base["sha256"]: base for a in adapters if (base := a.record.get("base"))}
    if len(bases) > 1:
        shown = ", ".join(f"{base.get('name')} ({sha[:12]})" for sha, base in bases.items())
        raise AdapterError(f"adapters to merge must belong to one base model, got {shown}")
    if len({adapter.activated for adapter in adapters}) > 1:
        n = sum(adapter.activated for adapter in adapters)
        raise AdapterError(
            f"adapters to merge must come on alike, got {n} activated and {len(adapters) - n} "
            "always on; write them anew with the same choice, or mix their output probabilities"
        )
    first = adapters[0].weights
    for number, adapter in enumerate(adapters[1:], 2):
        if differing := sorted(first.keys() ^ adapter.weights.keys()):
            raise AdapterError(
                f"adapters to merge must adapt the same layers: {differing[0]} is in only one of "
                f"the first and number {number} ({len(differing)} such layers); write them with "
                "the same --target-modules and --layers"
            )


def _part(adapter: Adapter, path: str) -> Factors:
    a, b = adapter.weights[path]
    return Factors(a, b, adapter.alpha / len(a))


def _widened(layer: Factors, r: int) -> tuple[Tensor, Tensor]:
    """A (r, n) and B (o, r) with the scale in B; one file has one rank, so zeros fill up."""
    spare = r - layer.r
    return F.pad(layer.a, (0, 0, 0, spare)), F.pad(layer.b * layer.scale, (0, spare))


def _generator(seed: int, path: str) -> torch.Generator:
    digest = hashlib.sha256(f"lorabank/merge/{seed}/{path}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _record(adapters: Sequence[Adapter], how: dict[str, Any]) -> dict[str, Any]:
    """What `lorabank.json` will say; base and facts as far as the parts knew them."""
    base = next((a.record["base"] for a in adapters if a.record.get("base")), None)
    facts = [adapter.record.get("facts_sha256") for adapter in adapters]
    known = {} if base is None else {"base": base}
    return {"format": 1, **known, "merge": {**how, "parts_facts_sha256": facts}}
