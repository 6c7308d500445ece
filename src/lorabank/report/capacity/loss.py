"""The loss law beside what was measured: how far the loss falls, by rank and load.

dL = C r^a l^-b + b0 (lora/law.py, after arXiv:2605.30260), fitted to all seeds at once, at the
longest training of each rank and load.
"""

from collections.abc import Sequence

from lorabank.errors import UsageError
from lorabank.planning import law
from lorabank.report.capacity.curves import by_rank
from lorabank.report.capacity.fit import law_point
from lorabank.report.capacity.groups import Group, describe, longest, main
from lorabank.report.plot import Figure, LeftOut, Panel, Point, Series, point, spread, value_axis
from lorabank.report.wording import count, number, seeds

_STEPS = 41  # of a curve as drawn


def loss_law(groups: Sequence[Group]) -> Figure | LeftOut:
    """Draw the drop of the loss against answer tokens, with a curve for each rank."""
    name, title = "loss-law", "Loss against rank and load"
    shown = longest(main(groups))
    points = [law_point(cell) for g in shown for cell in g.cells]
    try:
        fitted = law.fit_loss_law(points)
        error = law.measure_held_out_error(
            points,
            law.fit_loss_law,
            lambda fit, p: fit.predict(p.r, p.tokens),
            lambda p: p.loss_drop,
        )
    except UsageError as reason:
        return LeftOut(name, title, str(reason))
    x = value_axis("answer tokens", [g.mean(lambda cell: cell.tokens) for g in shown])
    drops = [g.mean(lambda cell: cell.loss_drop) for g in shown]
    curves = [
        Series(
            name="fitted law",
            kind="curve",
            style=0,
            points=[point(at, fitted.predict(r, at)) for at in spread(x, _STEPS)],
        )
        for r in sorted({g.r for g in shown})
    ]
    ends = [p["y"] for curve in curves for p in curve["points"]]
    measured: list[Series] = [
        {**series, "kind": "points"} for series in by_rank(shown, groups, _drop)
    ]
    return Figure(
        name=name,
        title=title,
        finding=(
            f"The loss falls by {number(fitted.C)} r^{fitted.a:.2f} l^-{fitted.b:.2f} "
            f"{'+' if fitted.b0 >= 0 else '−'} {number(abs(fitted.b0))} nats per answer token, "
            f"with r the rank and l the answer tokens of all facts; the law misses "
            f"settings it was not fitted to by {number(round(error, 3))} nats on average "
            f"({count(len(points), 'cell')}, {seeds(g.n_seeds for g in shown)})."
        ),
        note="Each load at its longest training. " + describe(shown, of=groups),
        stacked=False,
        panels=[
            Panel(
                title="one curve for each rank",
                x=x,
                y=value_axis("drop of the loss, nats per token", [*drops, *ends]),
                series=[*measured, *curves],
            )
        ],
    )


def _drop(g: Group) -> Point:
    return point(
        g.mean(lambda cell: cell.tokens),
        g.mean(lambda cell: cell.loss_drop),
        cells=g.names,
        n_seeds=g.n_seeds,
    )
