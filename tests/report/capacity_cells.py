"""Cells of an invented capacity study: recall falls with the load and rises with exposures."""

from typing import Any

from lorabank.study.capacity.axes import CapacityAxes
from lorabank.study.capacity.cells import CapacityCell, FactResults
from lorabank.study.cells import CellCost, CellHashes

PARAMETERS = 1000
_NOT_SHOWN: dict[str, Any] = {
    **dict.fromkeys(("recall_before", "recall_published", "bits_exact", "bits_likelihood"), 0.0),
    **dict.fromkeys(("bits_per_byte", "tokens_per_parameter", "tokens_per_byte", "loss"), 0.0),
    **{"steps": 1, "stopped": "budget", "curve": []},
}
"""Fields that no figure shows."""


def cell(
    *, r: int = 1, facts: int = 10, seed: int = 0, exposures: int | str = 100, **more: Any
) -> CapacityCell:
    """A cell whose recall falls with bits demanded per parameter and rises with exposures."""
    n = r * PARAMETERS
    seen = 12_000 / facts if exposures == "paper" else float(exposures)
    load = facts * 33.2 / n
    share = 1 / (1 + (load / 0.5) ** 4) * min(1.0, seen / 100)
    hits = min(facts, round(facts * share) + (seed == 2))
    given = {"r": r, "facts": facts, "seed": seed, "exposures": exposures}
    how = {"layers": "last-1", "activated": True, "alpha": 2.0 * r, "lr": 0.01, **more}
    axes = CapacityAxes.resolve(given | how)
    parts = (axes.recipe, r, facts, exposures, axes.variant, seed)
    return CapacityCell(
        study="capacity",
        name="-".join(map(str, parts)),
        base="b",
        axes=axes,
        placement="all-linear in block 29",
        exposures_per_fact=seen,
        recall=hits / facts,
        bits_per_parameter=hits * 33.2 / n,
        bits_demanded=facts * 33.2,
        tokens=facts * 14,
        trainable_parameters=n,
        adapter_bytes=4 * n,
        loss_drop=1.0,
        kl_to_base_nats=0.5,
        exposures_to_recall={},
        per_fact=FactResults(
            recalled=[int(i < hits) for i in range(facts)],
            bits=[33.2 * (i < hits) for i in range(facts)],
        ),
        versions={"torch": "2.13.0"},
        hashes=CellHashes(model="abc", data="def", code="ghi"),
        cost=CellCost(seconds=2.0, peak_bytes=1 << 30),
        **_NOT_SHOWN,
    )


def study(seeds: int = 3, **more: Any) -> list[CapacityCell]:
    return [
        cell(r=r, facts=facts, seed=seed, exposures=exposures, **more)
        for r in (1, 2)
        for facts in (5, 10, 20, 40)
        for seed in range(seeds)
        for exposures in (30, 100, "paper")
    ]
