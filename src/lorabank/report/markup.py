"""The report's JSON object as a page, by the templates beside this file.

Jinja escapes every text: names are data. Only figures, drawn by ourselves, go in as they are.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lorabank.report.hover import interval_text, series_name, x_text
from lorabank.report.plot import Figure, Panel, Series
from lorabank.report.svg import panel_svg, sample_svg
from lorabank.report.wording import FEWEST_SEEDS, count, duration, listing, percent, quantity, size

_SHORT = 16  # characters of a hash that are shown
_NUMBER = re.compile(r"[\d.,–−()%<≥/\s-]+( of \d+)?|never|(from|up to) [\d,]+")
_BOUNDS = {"full": "", "up": "≥ ", "down": "< "}
_WORDS: Mapping[str, tuple[str, ...]] = {
    "capacity": ("recall", "recipe", "exposures", "bits stored", "interval over facts"),
    "modules": ("score", "gain", "control", "oracle", "norm", "KL to base", "interval"),
    "texts": ("gain", "another's", "token F1", "KL to base", "interval"),
    "documents": ("gain", "over random", "ICL", "RAG", "token F1", "interval"),
    "latency": ("ICL", "RAG", "pays"),
    "wording": (
        "reworded",
        "reversed",
        "near misses",
        "KL to base",
        "known",
        "interval over seeds",
    ),
    "continual": ("recall", "exposures", "reworded", "near misses", "KL to base"),
    "ranks": ("recall", "exposures", "reworded", "bits stored", "KL to base", "known"),
}
_MEANINGS = {
    "recall": "share of facts whose answer greedy decoding reproduces exactly",
    "recipe": (
        "how an adapter is trained: ours is `--recipe sound`, the paper's (arXiv:2603.01097) is "
        "`--recipe paper`"
    ),
    "exposures": (
        "how often a fact was trained on; the same for every load of a budget, unless the budget "
        "is a fixed number of steps"
    ),
    "bits stored": (
        "how much less surprising the answers became, in bits; a random ten-digit number has 33.2"
    ),
    "interval over facts": (
        f"95 %, by bootstrap over seeds and facts; given from {FEWEST_SEEDS} seeds on"
    ),
    "score": "recall where the taught questions are asked, else the gain",
    "gain": "nats per token by which the right answers are likelier than for the bare model",
    "control": "the same question with a module, or a merge, that was not taught it",
    "another's": (
        "the same question with another document's adapter; learnt is the difference of the two"
    ),
    "over random": (
        "the difference to the same mode with another document's adapter, question by question"
    ),
    "oracle": "the score with every question's own module",
    "norm": "length of a merge's update over the mean length of its parts'",
    "token F1": "overlap of the words written with those of the right answer",
    "KL to base": "how far the adapter moves the base's predictions on ordinary text",
    "ICL": "the whole document is in the prompt",
    "RAG": "the chunks found for the question are in the prompt",
    "pays": "questions to a document from which a mode takes less time, training included",
    "reworded": "questions in wordings that no cell was taught, the same for all cells",
    "reversed": "questions that give the answer and ask whose it is",
    "near misses": "questions about something else that got one of the taught answers",
    "known": "simple questions the bare model answers, and how many of them it still does",
    "interval over seeds": f"95 %, by bootstrap; given from {FEWEST_SEEDS} seeds on",
    "interval": "95 %, by bootstrap over documents of all seeds and draws, and their questions",
}


def render(report: Mapping[str, Any]) -> str:
    """Return the whole page.

    Args:
        report: the object that `page.make_report` returns.
    """
    css = files("lorabank.report").joinpath("templates/report.css").read_text("utf-8")
    page = _environment().get_template("page.html").render(report=report, css=Markup(css))
    return re.sub(r"\n\s*\n+", "\n", page)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lorabank.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "about": _about,
        "count": count,
        "cost": _cost,
        "percent": percent,
        "legend": _legend,
        "numbers": _numbers,
        "made_with": _made_with,
        "same_hashes": _same_hashes,
        "table": _table,
        "words": _words,
    }
    environment.globals |= {"panel_svg": _panel_svg, "sample_svg": _sample_svg}
    return environment


def _panel_svg(panel: Panel, name: str) -> Markup:
    return Markup(panel_svg(panel, name=name))


def _sample_svg(series: Series) -> Markup:
    return Markup(sample_svg(series))


def _about(section: Mapping[str, Any]) -> str:
    """Return what was measured on what, in one line."""
    base = section["base"]
    names = base.get("compared") or [base.get("name", "not named")]
    identity = "".join(
        f", {key} {str(value)[:_SHORT]}"
        for key, value in base.items()
        if key not in ("name", "compared")
    )
    cells, rows = section["cost"]["n_cells"], len(section["table"]["rows"])
    return (
        f"Base model{'s' if len(names) > 1 else ''} {listing(names)}{identity}. "
        f"{count(cells, 'cell')}, {count(rows, 'setting')}."
    )


def _legend(figure: Figure) -> list[Series]:
    """Return one series for each name; all controls share the grey one."""
    by_name = {s["name"]: s for panel in figure["panels"] for s in panel["series"]}
    return sorted(by_name.values(), key=lambda series: "control_of" in series)


def _numbers(panel: Panel) -> dict[str, Any]:
    """Return what hovering shows as a table, for those who cannot hover."""
    x, y = panel["x"], panel["y"]
    rows = [
        [
            x_text(p, x),
            series_name(series),
            _BOUNDS[p["mark"]] + quantity(p["y"], y["unit"]),
            interval_text(p, y).replace(" (95 % interval ", "").rstrip(")"),
            str(p["n_seeds"]),
            ", ".join(p["cells"]),
        ]
        for series in panel["series"]
        if series["kind"] != "curve"
        for p in series["points"]
    ]
    if x["scale"] == "category":
        order = [tick["label"] for tick in x["ticks"]]
        rows.sort(key=lambda row: order.index(row[0]))
    heads = [x["label"] or "bar", "series", y["label"], "95 % interval", "seeds", "cells"]
    return {"heads": heads, "rows": rows}


def _table(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table without empty columns; columns with one value for all rows become a note."""
    heads, rows = table["heads"], table["rows"]
    columns = list(zip(heads, zip(*rows, strict=True), strict=True)) if rows else []
    shown: list[tuple[str, Sequence[str]]] = []
    same = []
    for place, (head, values) in enumerate(columns):
        if not any(values):
            continue
        if place and head != "cells" and len(rows) > 1 and len(set(values)) == 1:
            same.append(f"{head}: {values[0]}")
        else:
            shown.append((head, values))
    looks = ["cells" if head == "cells" else _look(values) for head, values in shown]
    body = list(zip(*(values for _, values in shown), strict=True))
    return {
        "heads": list(zip([head for head, _ in shown], looks, strict=True)),
        "rows": [list(zip(row, looks, strict=True)) for row in body],
        "same": "; ".join(same),
        "note": table.get("note", ""),
    }


def _look(values: Sequence[str]) -> str:
    is_numeric = all(_NUMBER.fullmatch(value) for value in values if value)
    return "number" if is_numeric else "text"


def _cost(cost: Mapping[str, Any]) -> str:
    text = f"{duration(cost['seconds'])} for {count(cost['n_timed'], 'cell')}"
    if cost["n_timed"] < cost["n_cells"]:
        text += f"; {count(cost['n_cells'] - cost['n_timed'], 'cell')} without a time"
    if library_s := cost.get("library_seconds"):
        text += f", {duration(library_s)} of it for adapters that several cells read"
    if cost["largest_peak_bytes"] is not None:
        text += f"; largest peak of memory {size(cost['largest_peak_bytes'])}"
    return f"{text}."


def _made_with(versions: Mapping[str, Sequence[str]]) -> str:
    is_mixed = any(len(numbers) > 1 for numbers in versions.values())
    names = [f"{name} {' and '.join(numbers)}" for name, numbers in versions.items()]
    warning = " The cells were made by different versions." if is_mixed else ""
    return f"Made with {', '.join(names)}.{warning}" if names else ""


def _same_hashes(hashes: Mapping[str, Sequence[str]]) -> str:
    names = [f"{name} {values[0][:_SHORT]}" for name, values in hashes.items()]
    return f"The same in every cell: {', '.join(names)}." if names else ""


def _words(kind: str) -> list[tuple[str, str]]:
    return [(re.sub(" over (facts|seeds)$", "", word), _MEANINGS[word]) for word in _WORDS[kind]]
