"""The report's JSON object as a page. Every text goes through `escape`: names are data."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from lorabank.report.plot import Axis, Figure
from lorabank.report.style import CSS
from lorabank.report.svg import interval_text, panel_svg, swatch_svg, x_text
from lorabank.report.wording import FEWEST_SEEDS, count, duration, number, percent, quantity, size

_READING = (
    (
        "recall",
        "share of facts whose answer greedy decoding reproduces exactly",
    ),
    (
        "exposures",
        "how often a fact was trained on; the same for every load of a budget, "
        "unless the budget is a fixed number of steps",
    ),
    (
        "bits stored",
        "how much less surprising the answers became, in bits; a random ten-digit number has 33.2",
    ),
    (
        "interval",
        f"95 %, by bootstrap over seeds and facts; given from {FEWEST_SEEDS} seeds on",
    ),
)
_READING_MODULES = (
    ("score", "recall where the taught questions are asked, else the gain"),
    (
        "gain",
        "by how many nats per token the gold answers are likelier than the bare model has them",
    ),
    ("control", "the same question with a module, or a merge, that was not taught it"),
    ("another's", "the same question with another document's adapter; learnt is the difference"),
    ("oracle", "the score with every question's own module"),
    ("norm", "length of a merge's update over the mean length of its parts'"),
    ("interval", "95 %, by bootstrap over documents of all seeds and draws, and their questions"),
)
_TEXT_COLUMNS = ("task", "measure", "budget", "read by", "taught", "in the paper")
_SHORT = 16  # characters of a hash that are shown


def render(report: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        report: as `page.make_report` gives it.
    """
    title = escape(report["title"])
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<header>",
            f"<h1>{title}</h1>",
            f'<p class="meta">{escape(_about(report))}</p>\n</header>\n<main>',
            *_findings(report["figures"]),
            *(part for figure in report["figures"] for part in _figure(figure)),
            *_search(report["search"]),
            *_left_out(report["left_out"]),
            *(_table(report["summary"]) if "summary" in report else _settings(report["table"])),
            *_cost(report),
            *_reading(_READING if "summary" in report else _READING_MODULES),
            "</main>\n<footer><p>The same numbers, with the names of all cells, are in "
            '<a href="report.json">report.json</a>.</p></footer>\n</body>\n</html>\n',
        ]
    )


def _about(report: Mapping[str, Any]) -> str:
    """What was measured, on what."""
    base, summary = report["base"], report.get("summary")
    identity = "".join(
        f", {key} {str(value)[:_SHORT]}" for key, value in base.items() if key != "name"
    )
    named = f"Base model {base.get('name', 'not named')}{identity}. "
    cells = count(report["cost"]["n_cells"], "cell")
    if summary is None:
        return f"{named}{cells}, {count(len(report['table']['rows']), 'setting')}."
    most, fewest = (f(row["n_seeds"] for row in summary) for f in (max, min))
    n_seeds = count(most, "seed") if most == fewest else f"{fewest} to {most} seeds"
    ranks, loads = {row["r"] for row in summary}, {row["facts"] for row in summary}
    return (
        f"{named}{cells}: {count(len(ranks), 'rank')}, "
        f"{count(len(loads), 'load')}, {n_seeds} a setting."
    )


def _findings(figures: Sequence[Figure]) -> Iterator[str]:
    if figures:
        yield '<section id="findings">\n<h2>In short</h2>\n<ul>'
        for one in figures:
            link = f'<a href="#{escape(one["name"])}">{escape(one["title"])}</a>'
            yield f"<li>{link}: {escape(one['finding'])}</li>"
        yield "</ul>\n</section>"


def _figure(one: Figure) -> Iterator[str]:
    name = escape(one["name"])
    yield f'<figure id="{name}">\n<h2>{escape(one["title"])}</h2>'
    series = {s["name"]: s for panel in one["panels"] for s in panel["series"]}
    yield '<ul class="legend">'
    for label, shown in series.items():
        yield f"<li>{swatch_svg(shown)}{escape(label)}</li>"
    yield f'</ul>\n<div class="panels{" stacked" if one["stacked"] else ""}">'
    yield from map(panel_svg, one["panels"])
    yield f"</div>\n<figcaption>\n<p>{escape(one['finding'])}</p>"
    yield f'<p class="note">{escape(one["note"])}</p>'
    yield "<details><summary>The numbers and their cells</summary>"
    yield from _numbers(one)
    yield f'</details>\n<p class="links note"><a href="figures/{name}.png">PNG</a></p>'
    yield "</figcaption>\n</figure>"


def _numbers(one: Figure) -> Iterator[str]:
    """What hovering shows, for those who cannot hover."""
    for panel in one["panels"]:
        heads = ("series", panel["x"]["label"], panel["y"]["label"], "seeds", "cells")
        body = [
            (
                series["name"],
                x_text(p, panel["x"]),
                _bound(p["mark"]) + quantity(p["y"], panel["y"]["unit"]) + _ends(p, panel["y"]),
                str(p["n_seeds"]),
                ", ".join(p["cells"]),
            )
            for series in panel["series"]
            if series["kind"] != "curve"
            for p in series["points"]
        ]
        yield f"<p>{escape(panel['title'])}</p>"
        yield from _rows(heads, body, text=("series",))


def _bound(mark: str) -> str:
    return {"full": "", "up": "≥ ", "down": "< "}[mark]


def _ends(p: Any, y: Axis) -> str:
    return interval_text(p, y).replace("95 % interval ", "")


def _search(found: Mapping[str, Any] | None) -> Iterator[str]:
    """What bisection saved, and whether the grid agrees."""
    if found is None:
        return
    lines = found["lines"]
    checked = [line["same_neighbours"] for line in lines if "same_neighbours" in line]
    saved = found["grid"] - found["trained"]
    agreed = (
        f"It lies between the same two loads as by the whole grid in {sum(checked)} of "
        f"{count(len(checked), 'line')}."
        if checked
        else "It was not compared with a whole grid."
    )
    yield '<section id="search">\n<h2>Search</h2>'
    yield (
        f"<p>Bisection over the loads trained {found['trained']} of {found['grid']} cells to find "
        f"where recall falls below {percent(found['threshold'])} in {count(len(lines), 'line')}; "
        f"{saved} were saved. {agreed}</p>\n</section>"
    )


def _left_out(left_out: Sequence[Mapping[str, str]]) -> Iterator[str]:
    if left_out:
        yield '<section id="left-out">\n<h2>Figures left out</h2>\n<ul>'
        for one in left_out:
            yield f"<li>{escape(one['title'])}: {escape(one['reason'])}.</li>"
        yield "</ul>\n</section>"


def _table(summary: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Columns that are the same in every row are said once, above."""
    varying = [("budget", "budget"), ("way", "way"), ("placement", "placement"), ("lr", "lr")]
    fixed = [(head, key) for head, key in varying if len({row[key] for row in summary}) == 1]
    varying = [pair for pair in varying if pair not in fixed]
    heads = [head for head, _ in varying]
    heads += ["rank", "parameters", "facts", "seeds", "recall", "bits / parameter"]
    heads += ["exposures", "to 90 %", "s / adapter", "to 90 %", "KL to base", "cells"]
    body = [
        (
            *(_said(row[key]) for _, key in varying),
            str(row["r"]),
            number(row["trainable_parameters"]),
            number(row["facts"]),
            str(row["n_seeds"]),
            _estimated(row["recall"], "share"),
            _estimated(row["bits_per_parameter"], "number"),
            _estimated(row["exposures_per_fact"], "number"),
            _estimated(row["exposures_to_recall"].get("0.9"), "number"),
            _estimated(row["seconds"], "number"),
            _estimated(row["seconds_to_recall"].get("0.9"), "number"),
            _estimated(row["kl_to_base_nats"], "number"),
            ", ".join(row["cells"]),
        )
        for row in summary
    ]
    yield '<section id="summary">\n<h2>All settings</h2>'
    if fixed:
        same = "; ".join(f"{head}: {_said(summary[0][key])}" for head, key in fixed)
        yield f'<p class="note">The same in every row: {escape(same)}.</p>'
    yield from _rows(heads, body, text=("budget", "way", "placement"))
    yield "</section>"


def _settings(table: Mapping[str, Any]) -> Iterator[str]:
    yield '<section id="summary">\n<h2>All settings</h2>'
    yield from _rows(table["heads"], table["rows"], text=_TEXT_COLUMNS)
    if "note" in table:
        yield f'<p class="note">{escape(table["note"])}</p>'
    yield "</section>"


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _estimated(value: Mapping[str, float | None] | None, unit: str) -> str:
    if value is None:
        return ""
    mean, low, high = (value[key] for key in ("mean", "low", "high"))
    text = "" if mean is None else quantity(mean, unit)
    if low is None or high is None:
        return text
    return f"{text} ({quantity(low, unit)}–{quantity(high, unit)})"


def _rows(
    heads: Sequence[str], body: Sequence[Sequence[str]], *, text: Sequence[str]
) -> Iterator[str]:
    """A table that scrolls by itself where the page is narrow."""
    looks = [' class="cells"' if h == "cells" else ' class="text"' * (h in text) for h in heads]
    yield '<div class="wide"><table>\n<thead><tr>'
    yield "".join(f"<th{look}>{escape(h)}</th>" for h, look in zip(heads, looks, strict=True))
    yield "</tr></thead>\n<tbody>"
    for row in body:
        cells = (f"<td{look}>{escape(c)}</td>" for c, look in zip(row, looks, strict=True))
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody>\n</table></div>"


def _cost(report: Mapping[str, Any]) -> Iterator[str]:
    cost = report["cost"]
    said = f"{duration(cost['seconds'])} for {count(cost['n_timed'], 'cell')}"
    if cost["n_timed"] < cost["n_cells"]:
        said += f"; {count(cost['n_cells'] - cost['n_timed'], 'cell')} did not say"
    if cost["largest_peak_bytes"] is not None:
        said += f"; largest peak of memory {size(cost['largest_peak_bytes'])}"
    yield f'<section id="cost">\n<h2>What it cost</h2>\n<p>{escape(said)}.</p>'
    if report["versions"]:
        mixed = any(len(found) > 1 for found in report["versions"].values())
        names = [f"{name} {' and '.join(found)}" for name, found in report["versions"].items()]
        warning = " The cells were made by different versions." if mixed else ""
        yield f'<p class="note">Made with {escape(", ".join(names))}.{warning}</p>'
    if report["hashes"]:
        names = [f"{name} {found[0][:_SHORT]}" for name, found in report["hashes"].items()]
        yield f'<p class="note">The same in every cell: {escape(", ".join(names))}.</p>'
    yield "</section>"


def _reading(words: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield '<section id="words">\n<h2>The words</h2>\n<dl>'
    for word, meaning in words:
        yield f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>"
    yield "</dl>\n</section>"
