"""Memories side by side: how well each way of answering does, what it reads, how long it takes.

Questions 12, 13 and 15 of arXiv:2603.01097 in one figure, of whatever bank and questions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lorabank.report.plot import (
    Axis,
    Figure,
    Panel,
    Point,
    Series,
    category_axis,
    point,
    share_axis,
    value_axis,
)


def memories_figure(comparison: Mapping[str, Any]) -> Figure:
    """Args: comparison: `Comparison.as_json()` of bank/comparing.py, with one memory at least."""
    memories: Sequence[Mapping[str, Any]] = comparison["memories"]
    ways = [memory["mode"] for memory in memories]
    scores = []
    for i, memory in enumerate(memories):
        f1 = memory["token_f1"]
        interval = None if f1["low"] is None else (f1["low"], f1["high"])
        scores.append(point(i, f1["mean"], interval=interval))
    best = max(memories, key=lambda memory: memory["token_f1"]["mean"])
    return Figure(
        name="memories",
        title="Ways of answering the same questions",
        finding=(
            f"{best['mode']} scores best, token F1 {best['token_f1']['mean']:.2f}, on "
            f"{comparison['questions']} questions."
        ),
        note="Intervals are over documents; times are medians of questions asked one by one.",
        stacked=False,
        panels=[
            _panel("Quality", ways, share_axis("token F1"), scores),
            _bars("Prompt", "tokens", ways, [memory["prompt_tokens"] for memory in memories]),
            _bars("Time", "seconds", ways, [memory["total_ms"] / 1000 for memory in memories]),
        ],
    )


def _bars(title: str, label: str, ways: Sequence[str], values: Sequence[float]) -> Panel:
    points = [point(i, value) for i, value in enumerate(values)]
    return _panel(title, ways, value_axis(label, values, zero=True), points)


def _panel(title: str, ways: Sequence[str], y: Axis, points: list[Point]) -> Panel:
    series = Series(name="way", kind="points", style=0, points=points)
    short = [way.replace("adapter+", "a+") for way in ways]
    return Panel(title=title, x=category_axis("", short), y=y, series=[series])
