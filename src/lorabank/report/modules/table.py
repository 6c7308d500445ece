"""The table of a study about modules: a row for each setting."""

from collections.abc import Sequence
from typing import Any

from lorabank.report.estimates import table_text
from lorabank.report.format_1_grouping import Setting
from lorabank.report.modules.measures import budget_name, measured, router_name, task_name
from lorabank.report.wording import count, optional_number

_HEADS = (
    *("setting", "task", "measure", "modules", "r", "budget", "seeds", "score", "control"),
    *("oracle", "gain", "top-1", "wrong: routing / gate / reading", "norm", "cells"),
)


def table(settings: Sequence[Setting]) -> dict[str, Any]:
    """Return a row for every setting: what was asked of it and what came out."""
    in_order = sorted(settings, key=lambda s: (task_name(s), -(s.average("score") or 0.0)))
    return {"heads": list(_HEADS), "rows": [_row(setting) for setting in in_order]}


def _row(setting: Setting) -> list[str]:
    spec = setting.spec
    name = {
        "partition": f"{count(int(spec['modules']), 'module')} of r={spec['r']}",
        "routing": router_name(setting),
        "merging": f"{spec['rule']} of {spec['merged']}, {spec['norm']}",
    }[spec["measure"]]
    errors = [setting.average("errors", stage) for stage in ("routing", "gate", "reading")]
    return [
        name,
        task_name(setting),
        spec["measure"],
        str(spec["modules"]),
        str(spec["r"]),
        budget_name(setting),
        str(setting.n_seeds),
        table_text(measured(setting, "score")),
        table_text(measured(setting, "control")),
        optional_number(setting.average("oracle")),
        table_text(measured(setting, "gain")),
        optional_number(setting.average("routing", "top1")),
        " / ".join(f"{error:.3f}" for error in errors if error is not None),
        optional_number(setting.average("norm_ratio")),
        ", ".join(setting.names),
    ]
