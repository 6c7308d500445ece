"""The table of a study about modules: a row for each setting."""

from collections.abc import Sequence
from typing import Any

from lorabank.report.estimates import table_text
from lorabank.report.modules.measures import (
    ModulesSetting,
    budget_name,
    measured,
    router_name,
    routing_share,
    task_name,
)
from lorabank.report.wording import count, optional_number

_HEADS = (
    *("setting", "task", "measure", "modules", "r", "budget", "seeds", "score", "control"),
    *(
        "oracle",
        "taught recalled",
        "gain",
        "top-1",
        "wrong: routing / gate / reading",
        "norm",
        "modules' KL to base",
        "cells",
    ),
)


def table(settings: Sequence[ModulesSetting]) -> dict[str, Any]:
    """Return a row for every setting: what was asked of it and what came out."""
    in_order = sorted(
        settings, key=lambda s: (task_name(s), -(s.average(lambda cell: cell.score) or 0.0))
    )
    note = (
        "Taught recalled: share of what modules were taught that greedy decoding gives, each asked."
    )
    return {"heads": list(_HEADS), "rows": [_row(setting) for setting in in_order], "note": note}


def _row(setting: ModulesSetting) -> list[str]:
    axes = setting.first.axes
    name = {
        "partition": f"{count(axes.modules, 'module')} of r={axes.r}",
        "routing": router_name(setting),
        "merging": f"{axes.rule} of {axes.merged}, {axes.norm}",
    }[axes.measure]
    errors = [
        setting.average(lambda cell: None if cell.errors is None else cell.errors.routing),
        setting.average(lambda cell: None if cell.errors is None else cell.errors.gate),
        setting.average(lambda cell: None if cell.errors is None else cell.errors.reading),
    ]
    return [
        name,
        task_name(setting),
        axes.measure,
        str(axes.modules),
        str(axes.r),
        budget_name(setting),
        str(setting.n_seeds),
        table_text(measured(setting, "score")),
        table_text(measured(setting, "control")),
        optional_number(setting.average(lambda cell: cell.oracle)),
        optional_number(setting.average(lambda cell: cell.taught_recall)),
        table_text(measured(setting, "gain")),
        optional_number(routing_share(setting, "top1")),
        " / ".join(f"{error:.3f}" for error in errors if error is not None),
        optional_number(setting.average(lambda cell: cell.norm_ratio)),
        optional_number(setting.average(lambda cell: cell.kl_to_base_nats)),
        ", ".join(setting.names),
    ]
