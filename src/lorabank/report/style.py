"""Colours, markers and dashes of the figures.

Okabe and Ito's palette stays apart for all common kinds of colour blindness; each colour has a
marker of its own too, so nothing hangs on colour alone. From the eighth series on, lines are
dashed. In the page every colour becomes a CSS variable, so that figures follow the dark mode and
print.
"""

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f6a4f")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # matplotlib's letters
DASHES = ("", "6 3", "2 2")
INK, FAINT, GRID, CONTROL = "#1c1c1c", "#6b6b6b", "#d9d9d9", "#a6a6a6"

CSS_VARIABLES = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    GRID: "var(--line)",
    CONTROL: "var(--control)",
    **{shade: f"var(--c{i})" for i, shade in enumerate(PALETTE)},
}
"""Names of the colours in the page's style sheet."""


def colour(style: int) -> str:
    return PALETTE[style % len(PALETTE)]


def marker(style: int) -> str:
    return MARKERS[style % len(MARKERS)]


def dash(style: int) -> str:
    """Return the lengths on and off, empty for a solid line."""
    return DASHES[style // len(PALETTE) % len(DASHES)]
