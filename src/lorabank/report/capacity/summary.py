"""The table: a row for each rank, load, budget and method, with its results and costs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lorabank.lora.intervals import bootstrap_mean
from lorabank.report.capacity.groups import Group, method_name
from lorabank.report.estimates import Estimate, mean
from lorabank.report.plot import rounded
from lorabank.report.wording import number, quantity
from lorabank.study.capacity.cells import CapacityCell


def rows(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return a row for each group; seconds and bytes are per adapter."""
    return [
        {
            "recipe": g.axes.recipe,
            "exposures": g.axes.exposures,
            "budget": g.budget,
            "method": method_name(g),
            "placement": g.first.placement,
            "lr": g.axes.lr,
            "r": g.r,
            "trainable_parameters": g.parameters,
            "facts": g.facts,
            "n_seeds": g.n_seeds,
            "recall": _estimate(g.recall),
            "bits_per_parameter": _estimate(g.bits_per_parameter),
            "exposures_per_fact": _over_seeds([c.exposures_per_fact for c in g.cells]),
            "exposures_to_recall": _reached(g, lambda seen, cell: seen),
            "seconds_to_recall": _reached(g, _seconds_until),
            "kl_to_base_nats": _over_seeds([c.kl_to_base_nats for c in g.cells]),
            "seconds": _over_seeds([cell.cost.seconds for cell in g.cells]),
            "adapter_bytes": _over_seeds([cell.adapter_bytes for cell in g.cells]),
            "cells": g.names,
        }
        for g in groups
    ]


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    low, high = estimate.interval or (None, None)
    return {
        "mean": rounded(estimate.mean),
        "low": None if low is None else rounded(low),
        "high": None if high is None else rounded(high),
    }


def _over_seeds(values: Sequence[float | None]) -> dict[str, float | None] | None:
    """Return the mean of a number per cell, with an interval from three seeds on."""
    known = [float(value) for value in values if value is not None]
    if len(known) < len(values):
        return None
    interval = bootstrap_mean([[value] for value in known])
    ends = None if interval is None else (interval.low, interval.high)
    return _estimate(Estimate(mean(known), ends))


def _reached(g: Group, measure: Callable[[float, CapacityCell], float]) -> dict[str, Any]:
    """Return a number for each threshold of recall, None where a seed never reached it."""
    milestones = [cell.exposures_to_recall for cell in g.cells]
    return {
        threshold: _over_seeds(
            [
                None if (seen := reached.get(threshold)) is None else measure(seen, cell)
                for reached, cell in zip(milestones, g.cells, strict=True)
            ]
        )
        for threshold in milestones[0]
    }


def _seconds_until(seen: float, cell: CapacityCell) -> float:
    """Return the cell's seconds in proportion to the exposures until then."""
    return cell.cost.seconds * min(1.0, seen / cell.exposures_per_fact)


def table(summary: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the rows as texts, for the page."""
    heads = ["rank", "facts", "budget", "method", "placement", "lr", "parameters", "seeds"]
    heads += ["recall", "bits / parameter", "exposures", "to 90 %", "s / adapter", "s to 90 %"]
    heads += ["KL to base", "cells"]
    body = [
        [
            f"r={row['r']}",
            number(row["facts"]),
            row["budget"],
            row["method"],
            row["placement"],
            f"{row['lr']:g}" if isinstance(row["lr"], float) else str(row["lr"]),
            number(row["trainable_parameters"]),
            str(row["n_seeds"]),
            _text(row["recall"], "share"),
            _text(row["bits_per_parameter"]),
            _text(row["exposures_per_fact"]),
            _text(row["exposures_to_recall"].get("0.9")),
            _text(row["seconds"]),
            _text(row["seconds_to_recall"].get("0.9")),
            _text(row["kl_to_base_nats"]),
            ", ".join(row["cells"]),
        ]
        for row in summary
    ]
    return {"heads": heads, "rows": body}


def _text(value: Mapping[str, float | None] | None, unit: str = "number") -> str:
    if value is None or value["mean"] is None:
        return ""
    text = quantity(value["mean"], unit)
    if value["low"] is None or value["high"] is None:
        return text
    return f"{text} ({quantity(value['low'], unit)}–{quantity(value['high'], unit)})"
