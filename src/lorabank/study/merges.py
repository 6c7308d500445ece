"""Merges as studies make them: a rule at its published weights, at its own norm or a module's."""

from collections.abc import Sequence
from typing import Protocol

from lorabank.engine.adapters.adapter import Adapter
from lorabank.engine.adapters.merging import MergeSettings, merge_adapters
from lorabank.lora.factors import Factors, norm

_MEANS = {"linear", "dare-linear", "magnitude-prune", "svd"}
"""Rules whose modules weigh 1/n in the PaperQA code of arXiv:2603.01097 or, where it has no such
rule, so that the result is a mean; the others weigh 1 there, or divide by themselves."""


class MergeAxes(Protocol):
    """The axes of a cell that say how adapters are merged."""

    @property
    def rule(self) -> str | None:
        """Return the name of the merge rule."""

    @property
    def norm(self) -> str | None:
        """Return `matched` for the parts' mean norm, `published` for the rule's own."""

    @property
    def seed(self) -> int:
        """Return the seed of rules that drop values at random."""


def merge_parts(parts: Sequence[Adapter], axes: MergeAxes) -> Adapter:
    """Return one adapter of several, by the rule, norm and seed of a cell."""
    n_parts = len(parts)
    return merge_adapters(
        parts,
        rule=str(axes.rule),
        weights=[1 / n_parts if axes.rule in _MEANS else 1.0] * n_parts,
        settings=MergeSettings(seed=axes.seed, matched_norm=axes.norm == "matched"),
    )


def adapter_norm(adapter: Adapter) -> float:
    """Return the Frobenius norm of all that an adapter adds to the base's weights."""
    return norm(Factors(a, b, adapter.alpha / len(a)) for a, b in adapter.weights.values())
