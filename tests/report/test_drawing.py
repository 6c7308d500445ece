"""Drawing: what matplotlib and the SVG show is what the figure's dict says."""

from xml.etree import ElementTree

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from lorabank.report.drawing import draw, draw_panel, lay_out, panel_canvas, png
from lorabank.report.plot import Panel, Series, bar_panel, point, share_axis, value_axis
from lorabank.report.style import CONTROL, PALETTE
from lorabank.report.svg import panel_svg, sample_svg

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def bars() -> Panel:
    """Two adapters with one control, and a level."""
    gains = Series(
        name="closed book",
        kind="bars",
        style=0,
        points=[
            point(0, 2.0, interval=(1.5, 2.75), cells=["a-0", "a-1"], n_seeds=2),
            point(1, -0.5, cells=["b"], n_seeds=1),
        ],
    )
    control = Series(
        name="another document's adapter",
        kind="bars",
        style=0,
        points=[point(0, 0.75, cells=["a-random"], n_seeds=1)],
        control_of="closed book",
    )
    panel = bar_panel("chronicles", ["document", "chunk"], [gains, control], label="gain")
    level = Series(name="alone", kind="curve", style=0, points=[point(0, 2.5), point(1, 2.5)])
    panel["series"].append(level)
    return panel


@pytest.fixture
def lines() -> Panel:
    """A line with a bound at its end, and a second that shares a point with it."""
    first = Series(
        name="r=1",
        kind="line",
        style=0,
        points=[
            point(10, 1.0, interval=(0.9, 1.0), cells=["p"], n_seeds=3),
            point(20, 0.5, cells=["q"], n_seeds=3),
            point(40, 0.25, mark="down", cells=["s"], n_seeds=3),
        ],
    )
    second = Series(
        name="r=2", kind="line", style=1, points=[point(10, 1.0, cells=["t"], n_seeds=3)]
    )
    x = value_axis("facts", [10, 20, 40], at_values=True)
    return Panel(title="300 exposures", x=x, y=share_axis("recall"), series=[first, second])


def drawn(panel: Panel) -> Axes:
    canvas, _ = panel_canvas(panel)
    (axes,) = canvas.axes
    return axes


def test_bars_lie_beside_their_names_with_the_control_below(bars: Panel):
    axes = drawn(bars)
    widths = [patch.get_width() for patch in axes.patches]
    colours = [to_hex(patch.get_facecolor()) for patch in axes.patches]
    assert widths == [2.0, 0.75, -0.5]
    assert colours == [PALETTE[0], CONTROL, PALETTE[0]]
    middles = [patch.get_y() + patch.get_height() / 2 for patch in axes.patches]
    assert middles == sorted(middles)
    names = dict(
        zip([label.get_text() for label in axes.get_yticklabels()], axes.get_yticks(), strict=True)
    )
    assert names["document"] == pytest.approx(sum(middles[:2]) / 2)
    assert names["chunk"] == pytest.approx(middles[2])
    top, bottom = sorted(axes.get_ylim())
    assert axes.yaxis_inverted()
    assert top < middles[0] < middles[2] < bottom


def test_a_bar_has_its_number_its_interval_and_the_level_beside_it(bars: Panel):
    axes = drawn(bars)
    numbers = [text for text in axes.texts if text.get_text()]
    assert [text.get_text() for text in numbers] == ["2", "0.75", "-0.5"]
    assert [text.xy[0] for text in numbers] == [2.75, 0.75, 0.0]  # after the interval's end
    whiskers = [line for line in axes.lines if line.get_marker() == "|"]
    assert [list(line.get_xdata()) for line in whiskers] == [[1.5, 2.75]]
    assert any(list(line.get_xdata()) == [2.5, 2.5] for line in axes.lines)
    low, high = axes.get_xlim()
    assert low <= -0.5
    assert high > 2.75


def test_only_bars_that_are_there_take_room(bars: Panel):
    bars["series"][1]["points"].append(point(1, 0.1, cells=["x"], n_seeds=1))
    taller = lay_out(bars).height
    bars["series"][1]["points"].clear()
    layout = lay_out(bars)
    assert len(layout.bars) == 2
    assert layout.height < taller


def test_a_line_stops_before_a_bound_which_is_open_and_has_an_arrow(lines: Panel):
    axes = drawn(lines)
    paths = [line for line in axes.lines if line.get_linestyle() == "-" and len(line.get_xdata())]
    assert [10.0, 20.0] in [list(line.get_xdata()) for line in paths]
    assert not any(40.0 in line.get_xdata() and len(line.get_xdata()) > 1 for line in paths)
    (bound,) = [
        line for line in axes.lines if list(line.get_xdata()) == [40.0] and line.get_alpha() != 0
    ]
    assert bound.get_markerfacecolor() == "none"
    (arrow,) = [text for text in axes.texts if text.arrow_patch is not None]
    assert arrow.xy == (40.0, 0.25)


def test_the_svg_has_every_value_in_a_title_and_every_label_as_text(bars: Panel):
    root = ElementTree.fromstring(panel_svg(bars, name="gain-1"))
    titles = [element.text or "" for element in root.iter(f"{SVG}title")]
    assert len(titles) == 3
    assert titles[0].splitlines() == [
        "closed book",
        "document",
        "gain: 2 (95 % interval 1.5 to 2.75)",
        "2 seeds, too few for an interval",
        "cells: a-0, a-1",
    ]
    assert titles[1].startswith("another document's adapter (control of closed book)\ndocument\n")
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert {"document", "chunk", "chronicles", "gain", "0.75"} <= set(texts)
    for parent in root.iter():
        if parent.find(f"{SVG}title") is not None:
            assert parent.get("tabindex") == "0"
            assert parent[0].tag == f"{SVG}title"


def test_points_on_top_of_each_other_share_a_title(lines: Panel):
    root = ElementTree.fromstring(panel_svg(lines, name="recall-1"))
    titles = [element.text or "" for element in root.iter(f"{SVG}title")]
    assert len(titles) == 3
    shared = next(title for title in titles if "r=2" in title)
    assert shared.index("r=2") < shared.index("r=1")
    assert any("recall: less than 25 %" in title for title in titles)


def test_the_svg_takes_colours_and_font_from_the_page(bars: Panel):
    text = panel_svg(bars, name="gain-1")
    assert "var(--c0)" in text
    assert "var(--control)" in text
    assert "#" not in text.replace('href="#', "").replace("url(#", "")
    assert "font-family" not in text
    assert "<style" not in text
    assert 'aria-label="chronicles"' in text
    assert text == panel_svg(bars, name="gain-1")


def test_ids_of_two_panels_do_not_meet(bars: Panel, lines: Panel):
    def ids(text: str) -> set[str]:
        return {e.get("id", "") for e in ElementTree.fromstring(text).iter()} - {""}

    first, second = panel_svg(bars, name="gain-1"), panel_svg(lines, name="gain-2")
    assert ids(first)
    assert not ids(first) & ids(second)


def test_a_dollar_sign_is_not_a_formula(lines: Panel):
    lines["title"] = "$5 and $6 <b>"
    root = ElementTree.fromstring(panel_svg(lines, name="x"))
    assert "$5 and $6 <b>" in [element.text for element in root.iter(f"{SVG}text")]


def test_a_control_has_a_grey_sample_and_a_line_has_its_marker(bars: Panel, lines: Panel):
    assert "var(--control)" in sample_svg(bars["series"][1])
    assert "var(--c1)" in sample_svg(lines["series"][1])
    assert 'aria-hidden="true"' in sample_svg(lines["series"][0])


def test_the_png_is_the_same_drawing_with_title_and_legend(bars: Panel, lines: Panel):
    figure = {
        "name": "both",
        "title": "Gain",
        "finding": "",
        "note": "",
        "stacked": False,
        "panels": [bars, lines],
    }
    canvas = draw(figure)
    assert canvas.get_suptitle() == "Gain"
    (legend,) = canvas.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["closed book", "another document's adapter", "alone", "r=1", "r=2"]
    assert [axes.get_title(loc="left") for axes in canvas.axes] == ["chronicles", "300 exposures"]
    assert [patch.get_width() for patch in canvas.axes[0].patches] == [2.0, 0.75, -0.5]
    assert png(figure) == png(figure)
    assert png(figure).startswith(b"\x89PNG")


def test_hover_areas_are_given_back_by_their_gid(lines: Panel):
    canvas, _ = panel_canvas(lines)
    marks = draw_panel(canvas.axes[0], lines, prefix="p-")
    assert set(marks) == {"p-point0", "p-point1", "p-point2"}
    assert {mark.series["name"] for mark in marks["p-point0"]} == {"r=1", "r=2"}
