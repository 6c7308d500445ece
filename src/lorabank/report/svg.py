"""Matplotlib's SVG made fit for the page.

Text takes the page's font and colours become CSS variables, so figures hold in the dark and in
print; every marker and bar gets a `<title>`, which browsers show on hover and read out on focus.
"""

import re
from collections.abc import Callable
from functools import cache
from io import BytesIO
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.figure import Figure as Canvas

from lorabank.report.drawing import FONT, panel_canvas, sample_canvas
from lorabank.report.hover import hover_text
from lorabank.report.plot import Panel, Series, SeriesKind
from lorabank.report.style import CSS_VARIABLES

_SVG, _LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_DECIMALS = re.compile(r"(\.\d\d)\d+")
_FONT_FAMILY = re.compile(r"font-family: [^;]*(;|$)|(?<=font: )([\d.]+px) [^;]*")
_COLOURS = re.compile("|".join(CSS_VARIABLES))
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _LINK)


def panel_svg(panel: Panel, *, name: str) -> str:
    """Draw a panel as SVG that scales with the page.

    Args:
        name: begins every id in the SVG; must be unique within the page.
    """
    with rc_context(FONT):
        canvas, marks = panel_canvas(panel, prefix=f"{name}-")
        titles = {
            gid: "\n\n".join(hover_text(m.point, m.series, panel) for m in group)
            for gid, group in marks.items()
        }
        return _render(canvas, name, titles, label=panel["title"] or name)


def sample_svg(series: Series) -> str:
    """Draw what stands before a series' name in the legend."""
    return _sample(series["kind"], series["style"], "control_of" in series)


@cache
def _sample(kind: SeriesKind, style: int, is_control: bool) -> str:
    series = Series(name="", kind=kind, style=style, points=[])
    if is_control:
        series["control_of"] = ""
    return _render(sample_canvas(series), f"sample-{kind}-{style}-{is_control}", {}, label=None)


def _render(canvas: Canvas, salt: str, titles: dict[str, str], *, label: str | None) -> str:
    file = BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        canvas.savefig(file, format="svg", facecolor="none", metadata=_NO_METADATA)
    root = ElementTree.fromstring(file.getvalue())
    for tag in ("metadata", "defs/style"):
        _remove(root, tag)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    if label is None:
        _inline_shapes(root)
        root.set("aria-hidden", "true")
    else:
        root.set("role", "img")
        root.set("aria-label", label)
    used = _ids_in_use(root)
    for element in root.iter():
        _adapt(element, titles, used)
    _drop_empty_groups(root)
    for parent in root.iter():  # after all elements were adapted, so that titles are not
        for child in list(parent):
            if child.get("id") in titles:
                title = ElementTree.Element(f"{{{_SVG}}}title")
                title.text = titles[child.attrib.pop("id")]
                child.set("tabindex", "0")
                child.insert(0, title)
    return ElementTree.tostring(root, encoding="unicode")


def _drop_empty_groups(element: ElementTree.Element) -> None:
    for child in list(element):
        _drop_empty_groups(child)
        is_group = child.tag in (f"{{{_SVG}}}g", f"{{{_SVG}}}defs")
        is_bare = not child.attrib and is_group
        if is_bare and len(child) == 0:
            element.remove(child)
        elif is_bare and len(child) == 1 and child.tag == f"{{{_SVG}}}g":
            element[list(element).index(child)] = child[0]


def _remove(root: ElementTree.Element, path: str) -> None:
    *above, tag = path.split("/")
    for parent in [root] if not above else list(root.iter(f"{{{_SVG}}}{above[-1]}")):
        for child in parent.findall(f"{{{_SVG}}}{tag}"):
            parent.remove(child)


def _inline_shapes(root: ElementTree.Element) -> None:
    """Put a marker's shape where it is used: samples repeat in a page, and ids may not."""
    shapes = {e.get("id"): e for e in root.iter(f"{{{_SVG}}}path") if e.get("id")}
    for parent in root.iter():
        for child in parent.findall(f"{{{_SVG}}}use"):
            shape = shapes[child.attrib.pop(f"{{{_LINK}}}href").removeprefix("#")]
            child.tag = f"{{{_SVG}}}path"
            child.set("d", shape.get("d", ""))
            child.set("transform", f"translate({child.attrib.pop('x')} {child.attrib.pop('y')})")
        for defs in parent.findall(f"{{{_SVG}}}defs"):
            parent.remove(defs)


def _ids_in_use(root: ElementTree.Element) -> set[str]:
    """Return the ids that other elements refer to: clip paths and shapes of markers."""
    return {
        reference
        for element in root.iter()
        for value in element.attrib.values()
        for reference in re.findall(r"#([\w.-]+)", value)
    }


def _adapt(element: ElementTree.Element, titles: dict[str, str], used: set[str]) -> None:
    """Drop an id that nothing needs, shorten numbers, and put the page's colours and font."""
    if element.get("id") not in used | titles.keys():
        element.attrib.pop("id", None)
    if style := element.get("style"):
        element.set("style", _restyle(style))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    for key in ("d", "transform", "x", "y", "width", "height"):
        if value := element.get(key):
            element.set(key, _DECIMALS.sub(r"\1", value).replace("\n", " ").strip())
    if element.text and not element.text.strip():
        element.text = None
    if element.tail and not element.tail.strip():
        element.tail = None


_restyle: Callable[[str], str] = lambda style: _COLOURS.sub(  # noqa: E731
    lambda match: CSS_VARIABLES[match[0]], _FONT_FAMILY.sub(r"\2", style)
)
