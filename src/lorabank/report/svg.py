"""A panel as SVG for the page: every marker says on hover what it is and which cells it came from.

Written by hand because matplotlib's SVG has no place for that and would bring its own fonts and
colours; here text and lines take the page's, so they hold in the dark and in print.
"""

from collections.abc import Iterator, Sequence
from html import escape

from lorabank.report.plot import (
    Axis,
    Panel,
    Point,
    Series,
    bar_offsets,
    positions,
    runs,
    slanted,
)
from lorabank.report.style import CORNERS, colour, dash, marker
from lorabank.report.wording import count, quantity, seeds

_WIDTH, _HEIGHT = 440, 310
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 30, 50
_RADIUS, _REACH, _ARROW = 4.5, 11, 17  # of a marker, of where hovering finds it, of its arrow
_SLANT, _LETTER, _ACROSS = 35, 4.2, 5.6  # degrees; how far down and left a letter reaches aslant
_NUMBERED = 26  # width of a bar that its number fits over
_SAME = 3  # points closer than this cover each other
_MOST_NAMES = 12  # in a hover text


def panel_svg(panel: Panel) -> str:
    """One panel; scales with the page."""
    height, beside = _HEIGHT + _below(panel), _beside(panel)
    parts = [
        f'<svg viewBox="{-beside} 0 {_WIDTH + beside} {height}" role="img" '
        f'aria-label="{escape(panel["title"])}" xmlns="http://www.w3.org/2000/svg">',
        _text(_LEFT, 18, panel["title"], anchor="start", weight="600"),
        *_frame(panel),
    ]
    bars = [one for one in panel["series"] if one["kind"] == "bars"]
    for i, one in enumerate(bars):
        parts += _bars(panel, one, i, len(bars))
    others = [one for one in panel["series"] if one["kind"] != "bars"]
    for one in others:
        parts += _path(panel, one)
    parts += _markers(panel, others)  # above all lines, so that none is covered
    return "\n".join([*parts, "</svg>"])


def swatch_svg(one: Series) -> str:
    """What stands before a series' name in the legend."""
    shade = _shade(one)
    if one["kind"] == "bars":
        inner = f'<rect x="4" y="2" width="24" height="12" fill="{shade}"/>'
    else:
        inner = ""
        if one["kind"] != "points":
            inner = f'<path d="M1 8H31" stroke="{shade}" stroke-width="2"{_dash(one)}/>'
        if one["kind"] != "curve":
            inner += _shape(16, 8, one, shade)
    return f'<svg viewBox="0 0 32 16" aria-hidden="true">{inner}</svg>'


def hover_text(one: Point, series: Series, panel: Panel) -> str:
    """Series, place, interval, seeds and cells of a point, a line each."""
    x, y = panel["x"], panel["y"]
    bound = {"full": "", "up": "at least ", "down": "less than "}[one["mark"]]
    lines = [
        series["name"],
        f"{x['label']}: {x_text(one, x)}",
        f"{y['label']}: {bound}{quantity(one['y'], y['unit'])}{interval_text(one, y)}",
        seeds([one["n_seeds"]]),
    ]
    names = one["cells"]
    more = f" and {count(len(names) - _MOST_NAMES, 'other')}" if len(names) > _MOST_NAMES else ""
    lines.append(f"{'cell' if len(names) == 1 else 'cells'}: {', '.join(names[:_MOST_NAMES])}")
    return "\n".join(lines) + more


def x_text(one: Point, x: Axis) -> str:
    if x["scale"] == "category":
        return x["ticks"][int(one["x"])]["label"]
    return quantity(one["x"], x["unit"])


def interval_text(one: Point, y: Axis) -> str:
    if one["low"] is None or one["high"] is None:
        return ""
    return (
        f" (95 % interval {quantity(one['low'], y['unit'])} to {quantity(one['high'], y['unit'])})"
    )


def _frame(panel: Panel) -> Iterator[str]:
    """Grid, ticks and labels."""
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    x, y = panel["x"], panel["y"]
    for tick, at in zip(y["ticks"], _ys(y, [tick["at"] for tick in y["ticks"]]), strict=True):
        zero = tick["at"] == 0 and y["unit"] == "number"
        yield f'<path class="{"zero" if zero else "grid"}" d="M{_LEFT} {at}H{right}"/>'
        yield _text(_LEFT - 7, at + 4, tick["label"], anchor="end")
    for tick, at in zip(x["ticks"], _xs(x, [tick["at"] for tick in x["ticks"]]), strict=True):
        yield f'<path class="frame" d="M{at} {bottom}v4"/>'
        if slanted(x):
            turn = f' transform="rotate(-{_SLANT} {at} {bottom + 14})"'
            yield _text(at, bottom + 14, tick["label"], anchor="end", turn=turn)
        else:
            yield _text(at, bottom + 18, tick["label"])
    yield f'<path class="frame" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>'
    yield _text((_LEFT + right) / 2, _HEIGHT - 10 + _below(panel), x["label"])
    middle = (_TOP + bottom) / 2
    yield _text(14, middle, y["label"], turn=f' transform="rotate(-90 14 {middle})"')


def _below(panel: Panel) -> int:
    """What names aslant need beneath the panel."""
    return round(_LETTER * slanted(panel["x"]))


def _beside(panel: Panel) -> int:
    """What names aslant need left of the panel."""
    x = panel["x"]
    if not slanted(x):
        return 0
    ends = _xs(x, [tick["at"] for tick in x["ticks"]])
    labels = [tick["label"] for tick in x["ticks"]]
    reach = [_ACROSS * len(name) - at for name, at in zip(labels, ends, strict=True)]
    return max(0, round(max(reach)))


def _path(panel: Panel, one: Series) -> Iterator[str]:
    if one["kind"] == "points":
        return
    title = f"<title>{escape(one['name'])}</title>" if one["kind"] == "curve" else ""
    for run in runs(one["points"]):
        places = [f"{x} {y}" for x, y in _places(panel, run)]
        yield (
            f'<path d="M{"L".join(places)}" fill="none" stroke="{_shade(one)}" stroke-width="2"'
            f"{_dash(one)}>{title}</path>"
        )


def _markers(panel: Panel, series: Sequence[Series]) -> Iterator[str]:
    """Every point; where several lie on top of each other, the uppermost speaks for all."""
    marked = [
        (one, p, place)
        for one in series
        if one["kind"] != "curve"
        for p, place in zip(one["points"], _places(panel, one["points"]), strict=True)
    ]
    said: dict[tuple[int, int], list[str]] = {}
    for one, p, (x, y) in marked:
        shade, spot = _shade(one), (round(x / _SAME), round(y / _SAME))
        said.setdefault(spot, []).insert(0, hover_text(p, one, panel))
        title = "\n\n".join(said[spot])
        yield f'<g tabindex="0"><title>{escape(title)}</title>'
        yield f'<circle class="hit" cx="{x}" cy="{y}" r="{_REACH}"/>'
        yield _whisker(panel, p, x, shade)
        if p["mark"] != "full":
            tip = y - _ARROW if p["mark"] == "up" else y + _ARROW
            back = 5 if p["mark"] == "up" else -5
            yield (
                f'<path d="M{x} {y}V{tip:.1f}m-4 {back}l4 {-back}l4 {back}" fill="none" '
                f'stroke="{shade}" stroke-width="1.5"/>'
            )
        yield _shape(x, y, one, shade, is_open=p["mark"] != "full") + "</g>"


def _bars(panel: Panel, one: Series, place: int, n: int) -> Iterator[str]:
    offsets, width = bar_offsets(n)
    (foot,) = _ys(panel["y"], [0.0])
    shade = _shade(one)
    for p, (_, y) in zip(one["points"], _places(panel, one["points"]), strict=True):
        centre = p["x"] + offsets[place]
        left, middle, right = _xs(panel["x"], [centre - width / 2, centre, centre + width / 2])
        yield f'<g tabindex="0"><title>{escape(hover_text(p, one, panel))}</title>'
        yield (
            f'<rect x="{left}" y="{min(y, foot)}" width="{right - left:.1f}" '
            f'height="{abs(foot - y):.1f}" '
            f'fill="{shade}"/>'
        )
        yield _whisker(panel, p, middle, "currentColor")
        label = quantity(p["y"], panel["y"]["unit"]) if right - left >= _NUMBERED else ""
        top = min([y, *(_ys(panel["y"], [p["high"]]) if p["high"] is not None else ())])
        yield _text(middle, top - 4, label) + "</g>"


def _whisker(panel: Panel, one: Point, x: float, shade: str) -> str:
    if one["low"] is None or one["high"] is None:
        return ""
    low, high = _ys(panel["y"], [one["low"], one["high"]])
    return (
        f'<path d="M{x - 4:.1f} {high}h8m-4 0V{low}m-4 0h8" fill="none" stroke="{shade}" '
        f'stroke-width="1.5"/>'
    )


def _shape(x: float, y: float, one: Series, shade: str, *, is_open: bool = False) -> str:
    look = f'fill="{"none" if is_open else shade}" stroke="{shade}" stroke-width="1.5"'
    corners = CORNERS[marker(one["style"])]
    if not corners:
        return f'<circle cx="{x}" cy="{y}" r="{_RADIUS}" {look}/>'
    ends = " ".join(f"{x + dx * _RADIUS:.1f},{y + dy * _RADIUS:.1f}" for dx, dy in corners)
    return f'<polygon points="{ends}" {look}/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "middle", weight: str = "400", turn: str = ""
) -> str:
    look = f'text-anchor="{anchor}"' + (f' style="font-weight:{weight}"' if weight != "400" else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}{turn}>{escape(text)}</text>'


def _shade(one: Series) -> str:
    return "currentColor" if one["kind"] == "curve" else colour(one["style"])


def _dash(one: Series) -> str:
    lengths = dash(one["style"])
    return f' stroke-dasharray="{lengths}"' if lengths and one["kind"] == "line" else ""


def _places(panel: Panel, points: Sequence[Point]) -> list[tuple[float, float]]:
    xs = _xs(panel["x"], [p["x"] for p in points])
    ys = _ys(panel["y"], [p["y"] for p in points])
    return list(zip(xs, ys, strict=True))


def _xs(axis: Axis, values: list[float]) -> list[float]:
    span = _WIDTH - _LEFT - _RIGHT
    return [round(_LEFT + span * at, 1) for at in positions(axis, values)]


def _ys(axis: Axis, values: list[float]) -> list[float]:
    span = _HEIGHT - _TOP - _BOTTOM
    return [round(_TOP + span * (1 - at), 1) for at in positions(axis, values)]
