"""Colours, markers and the page's style sheet.

Okabe and Ito's palette, which stays apart for all common kinds of colour blindness; each colour
has its own marker too, so nothing hangs on colour alone. From the eighth series on lines are
dashed.
"""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # matplotlib's letters
DASHES = ("", "6 3", "2 2")

_PLUS = (
    *((-0.4, -1.1), (0.4, -1.1), (0.4, -0.4), (1.1, -0.4), (1.1, 0.4), (0.4, 0.4)),
    *((0.4, 1.1), (-0.4, 1.1), (-0.4, 0.4), (-1.1, 0.4), (-1.1, -0.4), (-0.4, -0.4)),
)
# Corners of a marker of radius 1, y down as in SVG; the circle has none.
CORNERS: dict[str, tuple[tuple[float, float], ...]] = {
    "o": (),
    "s": ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)),
    "^": ((0, -1.1), (1, 0.8), (-1, 0.8)),
    "v": ((0, 1.1), (1, -0.8), (-1, -0.8)),
    "D": ((0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)),
    "P": _PLUS,
    "X": tuple(((x - y) * 0.75, (x + y) * 0.75) for x, y in _PLUS),
}


def colour(style: int) -> str:
    return PALETTE[style % len(PALETTE)]


def marker(style: int) -> str:
    return MARKERS[style % len(MARKERS)]


def dash(style: int) -> str:
    """Lengths on and off, empty for a solid line."""
    return DASHES[style // len(PALETTE) % len(DASHES)]


CSS = """
:root { color-scheme: light dark; --ink: #1c1c1c; --paper: #fff; --faint: #6b6b6b; --line: #d9d9d9 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #17181a; --faint: #a3a3a3; --line: #3c3d40 }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0 }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem }
a { color: inherit }
figure { margin: 2.5rem 0 0 }
figure h2 { margin-top: 0 }
figcaption p { margin: .3rem 0; max-width: 46rem }
.note, .meta, footer { color: var(--faint); font-size: .875rem }
.panels { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)) }
.panels.stacked { grid-template-columns: minmax(0, 1fr) }
.panels svg { width: 100%; max-width: 40rem; height: auto; display: block }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .6rem 0; padding: 0;
  list-style: none; font-size: .875rem }
.legend svg { width: 2rem; height: 1rem; vertical-align: -.2rem; margin-right: .3rem }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif }
svg .frame { fill: none; stroke: var(--faint) }
svg .grid { stroke: var(--line) }
svg .zero { stroke: var(--faint) }
svg .hit { fill: transparent; stroke: none }
svg g:hover > .hit { stroke: var(--ink) }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .8125rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; vertical-align: top }
th { color: var(--faint); font-weight: 600 }
.text { text-align: left }
td.cells { white-space: normal; min-width: 12rem; font-size: .75rem; color: var(--faint) }
details { margin: .5rem 0; font-size: .875rem }
summary { cursor: pointer }
@media print {
  :root { color-scheme: light; --ink: #000; --paper: #fff; --faint: #444; --line: #bbb }
  body { max-width: none; padding: 0; font-size: 10pt }
  figure, tr { break-inside: avoid }
  details:not([open]), .links { display: none }
  .wide { overflow: visible }
  table { font-size: 7.5pt }
  th, td { white-space: normal; padding: .1rem .3rem }
  td.cells, th.cells { display: none }
}
"""
