"""Merges as studies make them: a rule at its published weights, at its own length or a module's."""

from collections.abc import Mapping, Sequence
from typing import Any

from lorabank.engine.adapters.adapter import Adapter
from lorabank.engine.adapters.merging import MergeSettings, merge_adapters
from lorabank.lora.factors import Factors, norm

_BY_N = {"linear", "dare-linear", "magnitude-prune", "svd"}
"""Rules whose modules weigh 1/n in the PaperQA code of arXiv:2603.01097 or, where it has no such
rule, so that the result is a mean; the others weigh 1 there, or divide by themselves."""


def merged(parts: Sequence[Adapter], values: Mapping[str, Any]) -> Adapter:
    """One adapter of several, by a cell's `rule`, `norm` and `seed`."""
    rule, n = str(values["rule"]), len(parts)
    return merge_adapters(
        parts,
        rule=rule,
        weights=[1 / n if rule in _BY_N else 1.0] * n,
        settings=MergeSettings(seed=int(values["seed"]), matched_norm=values["norm"] == "matched"),
    )


def length(adapter: Adapter) -> float:
    """Frobenius norm of all that an adapter adds to the base's weights."""
    return norm(Factors(a, b, adapter.alpha / len(a)) for a, b in adapter.weights.values())
