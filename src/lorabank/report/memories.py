"""Answer modes of a bank side by side: how well each answers, what it reads, how long it takes.

Questions 12, 13 and 15 of arXiv:2603.01097 in one figure, for whatever bank and questions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lorabank.report.estimates import Estimate, in_words
from lorabank.report.plot import Figure, Panel, Point, Series, bar_panel, point


def memories_figure(comparison: Mapping[str, Any]) -> Figure:
    """Return bars of quality, prompt and time, the best mode at the top.

    Args:
        comparison: `Comparison.as_json()` of bank/answer/compare.py, with at least one memory.
    """
    memories: Sequence[Mapping[str, Any]] = sorted(
        comparison["memories"], key=lambda memory: -memory["token_f1"]["mean"]
    )
    names = [memory["mode"] for memory in memories]
    scores = [_score(memory["token_f1"]) for memory in memories]
    points = [point(i, score.mean, interval=score.interval) for i, score in enumerate(scores)]
    return Figure(
        name="memories",
        title="Answer modes on the same questions",
        finding=(
            f"{names[0]} scores best, token F1 {in_words(scores[0])}, on "
            f"{comparison['questions']} questions."
        ),
        note="Intervals are over documents; times are medians of questions asked one by one.",
        stacked=False,
        panels=[
            _panel("Quality", "token F1", names, points),
            _panel("Prompt", "tokens", names, _points(memories, "prompt_tokens")),
            _panel("Time", "ms", names, _points(memories, "total_ms")),
        ],
    )


def _score(score: Mapping[str, float | None]) -> Estimate:
    mean, low, high = score["mean"], score["low"], score["high"]
    assert mean is not None, "a memory was asked at least one question"
    return Estimate(mean, None if low is None or high is None else (low, high))


def _points(memories: Sequence[Mapping[str, Any]], key: str) -> list[Point]:
    return [point(i, memory[key]) for i, memory in enumerate(memories)]


def _panel(title: str, label: str, names: Sequence[str], points: list[Point]) -> Panel:
    series = Series(name="answer mode", kind="bars", style=0, points=points)
    return bar_panel(title, names, [series], label=label)
