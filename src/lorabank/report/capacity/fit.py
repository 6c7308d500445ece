"""The law beside what was measured: recall against bits demanded per parameter, and residuals.

The figure answers whether one curve describes all ranks and loads of a budget (lora/law.py has the
formulas). What the fit misses in cells it has not seen is in the sentence; residuals are of the
fit to all of them.
"""

from collections.abc import Callable, Sequence

from lorabank.errors import UsageError
from lorabank.planning import law
from lorabank.report.capacity.curves import by_rank
from lorabank.report.capacity.groups import Group, describe, longest, main
from lorabank.report.plot import (
    Axis,
    Figure,
    LeftOut,
    Panel,
    Point,
    Series,
    point,
    share_axis,
    spread,
    value_axis,
)
from lorabank.report.wording import budget_name, count, number, percent, seeds
from lorabank.study.capacity.cells import CapacityCell

_LONGEST = "the longest budget of each rank and load"
_STEPS = 61  # of the curve as drawn
_LEAST = 0.05  # residuals smaller than this are drawn small


def recall_law(groups: Sequence[Group]) -> Figure | LeftOut:
    """Draw recall against bits demanded per parameter, the fitted curve, and residuals below."""
    name, title = "law", "One law for all ranks"
    shown = longest(main(groups))
    budgets = {g.condition for g in shown}
    budget = budget_name(*budgets.pop()) if len(budgets) == 1 else _LONGEST
    points = [law_point(cell) for g in shown for cell in g.cells]
    try:
        fitted = law.fit_recall_law(points)
        error = law.measure_held_out_error(points)
    except UsageError as reason:
        return LeftOut(name, title, f"{budget}: {reason}")
    x = value_axis("bits demanded per parameter", [_demanded(g) for g in shown])
    curve = Series(
        name="fitted law",
        kind="curve",
        style=0,
        points=[point(at, fitted.predict(at)) for at in spread(x, _STEPS)],
    )
    measured = [*_measured(shown, groups, lambda _: 0.0), curve]
    residuals = _measured(shown, groups, fitted.predict)
    return Figure(
        name=name,
        title=title,
        finding=(
            f"One law for all ranks: with {budget}, recall falls to half at "
            f"{number(fitted.midpoint)} bits demanded per parameter; the law misses settings it "
            f"was not fitted to by {percent(error)} of recall on average "
            f"({count(len(points), 'cell')}, {seeds(g.n_seeds for g in shown)})."
        ),
        note=describe(shown, of=groups),
        stacked=True,
        panels=[
            Panel(title=budget, x=x, y=share_axis("recall"), series=measured),
            Panel(title="Residuals", x=x, y=_around_zero(residuals), series=residuals),
        ],
    )


def law_point(cell: CapacityCell) -> law.CapacityPoint:
    """Return a cell as the fits take it."""
    return law.CapacityPoint(
        parameters=cell.trainable_parameters,
        r=cell.axes.r,
        bits=cell.bits_demanded,
        tokens=cell.tokens,
        recall=cell.recall,
        loss_drop=cell.loss_drop,
    )


def _demanded(g: Group) -> float:
    return g.mean(lambda cell: cell.bits_demanded) / g.parameters


def _measured(
    shown: Sequence[Group], groups: Sequence[Group], minus: Callable[[float], float]
) -> list[Series]:
    """Return markers by rank: recall, less `minus` at the bits demanded per parameter."""

    def marker(g: Group) -> Point:
        x, interval = _demanded(g), g.recall.interval
        return point(
            x,
            g.recall.mean - minus(x),
            interval=interval and (interval[0] - minus(x), interval[1] - minus(x)),
            cells=g.names,
            n_seeds=g.n_seeds,
        )

    return [{**series, "kind": "points"} for series in by_rank(shown, groups, marker)]


def _around_zero(series: Sequence[Series]) -> Axis:
    ends = [
        abs(end)
        for measured in series
        for p in measured["points"]
        for end in (p["y"], p["low"], p["high"])
        if end is not None
    ]
    most = max(_LEAST, *ends)
    return value_axis("measured − fitted", [-most, most], zero=True)
