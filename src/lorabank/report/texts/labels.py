"""Names of the settings of a study about training texts: what the study varied, in words."""

import re
from collections.abc import Sequence

from lorabank.report.texts.chosen import TaughtSetting, axis_value, varied_axes
from lorabank.report.wording import base_name, objective_name

_FORMATS = {
    "original": ("the text itself", "the text itself, {} times"),
    "qa": ("1 question", "{} questions"),
    "rewrite": ("1 rewrite", "{} rewrites"),
    "summary": ("1 summary", "{} summaries"),
    "implications": ("implications", "{} sets of implications"),
}


def setting_names(settings: Sequence[TaughtSetting]) -> dict[int, str]:
    """Return what sets each setting apart, by identity of the setting."""
    if not settings:
        return {}
    axes = varied_axes(settings) or ["formats"]
    return {id(s): ", ".join(value_name(axis, s) for axis in axes) for s in settings}


def value_name(axis: str, setting: TaughtSetting) -> str:
    """Return an axis's value in words."""
    value = axis_value(setting, axis)
    if axis == "formats":
        return " + ".join(map(_format_name, str(value).split(",")))
    if axis == "protect_share":
        return f"{value:.0%} regularisation".replace("%", " %")
    if axis == "generator":
        source = str(value).rpartition("/")[2].removesuffix(".jsonl")
        return (
            "texts by the base itself"
            if source == "local"
            else re.sub(r"^(\w+?_)?", "texts by ", source)
        )
    if axis == "base":
        return base_name(str(value))
    if axis == "objective":
        return objective_name(str(value))
    return f"{axis} {value}"


def _format_name(text: str) -> str:
    name, _, number = text.strip().partition(":")
    single, several = _FORMATS.get(name, (name, f"{name} {{}}"))
    return single if number in ("", "1") else several.format(number)
