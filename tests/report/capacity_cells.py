"""Cells of an invented capacity study: recall falls with the load and rises with exposures."""

from typing import Any

from lorabank.study.cells import Cell
from lorabank.study.migration import read_cell

PARAMETERS = 1000


def cell(
    *, r: int = 1, facts: int = 10, seed: int = 0, exposures: int | str = 100, **more: Any
) -> dict[str, Any]:
    """A cell whose recall falls with bits demanded per parameter and rises with exposures."""
    recipe, n = more.pop("recipe", "sound"), r * PARAMETERS
    seen = 12_000 / facts if exposures == "paper" else float(exposures)
    load = facts * 33.2 / n
    share = 1 / (1 + (load / 0.5) ** 4) * min(1.0, seen / 100)
    hits = min(facts, round(facts * share) + (seed == 2))
    spec = {
        "task": "phonebook",
        "source": "built",
        "most_exposures": None,
        "batch_size": 8,
        "facts": facts,
        "r": r,
        "layers": "last-1",
        "target_modules": "all-linear",
        "activated": True,
        "variant": "lora",
        "objective": "ce",
        "recipe": recipe,
        "exposures": exposures,
        "alpha": 2.0 * r,
        "lr": 0.01,
        "seed": seed,
        **more,
    }
    name = "-".join(f"{spec[k]}" for k in ("recipe", "r", "facts", "exposures", "variant", "seed"))
    return {
        "name": name,
        "spec": spec,
        "r": r,
        "facts": facts,
        "seed": seed,
        "recipe": recipe,
        "variant": spec["variant"],
        "placement": "all-linear in block 29",
        "exposures": exposures,
        "exposures_per_fact": seen,
        "recall": hits / facts,
        "bits_per_parameter": hits * 33.2 / n,
        "bits_demanded": facts * 33.2,
        "tokens": facts * 14,
        "trainable_parameters": n,
        "adapter_bytes": 4 * n,
        "loss_drop": 1.0,
        "kl_to_base_nats": 0.5,
        "per_fact": {
            "recalled": [int(i < hits) for i in range(facts)],
            "bits": [33.2 * (i < hits) for i in range(facts)],
        },
        "versions": {"torch": "2.13.0"},
        "hashes": {"model": "abc"},
        "cost": {"seconds": 2.0, "peak_bytes": 1 << 30},
    }


def study(seeds: int = 3, **more: Any) -> list[dict[str, Any]]:
    return [
        cell(r=r, facts=facts, seed=seed, exposures=exposures, **more)
        for r in (1, 2)
        for facts in (5, 10, 20, 40)
        for seed in range(seeds)
        for exposures in (30, 100, "paper")
    ]


def typed(cells: list[dict[str, Any]]) -> list[Cell]:
    """Return cells as the files of a study give them, with what no figure shows filled in."""
    absent = ("recall_before", "recall_published", "bits_exact", "bits_likelihood")
    absent += ("bits_per_byte", "tokens_per_parameter", "tokens_per_byte", "loss")
    rest: dict[str, Any] = dict.fromkeys(absent, 0.0)
    rest |= {"format": 1, "study": "capacity", "steps": 1, "stopped": "budget", "curve": []}
    rest |= {"exposures_to_recall": {}}
    hashes = {"model": "abc", "data": "def", "code": "ghi"}
    return [
        read_cell(
            {**rest, **cell, "hashes": hashes, "spec": {**cell["spec"], "base": "b"}},
            kind="capacity",
        )
        for cell in cells
    ]
