"""The figures of a study about training texts: formats, mixtures, bases, generators, objectives.

What a study varied stands down the side, its budgets are the bars. The gain of a document's own
adapter stands above another document's, in grey: what is left between them was learnt of the
document rather than of the manner of its answers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lorabank.report.estimates import Estimate
from lorabank.report.modules.measures import GAIN
from lorabank.report.plot import Figure, LeftOut, Panel, Point, Series, bar_panel, point
from lorabank.report.texts.chosen import ARMS, TaughtSetting
from lorabank.report.texts.labels import setting_names
from lorabank.report.wording import count, listing, n_seeds

ANOTHER = "another document's adapter"
_INTERVALS = "Intervals are over documents and the questions of each."
Value = Callable[[TaughtSetting], Estimate | None]


@dataclass(frozen=True, slots=True)
class View:
    """Title, value and control of a figure that draws every setting."""

    name: str
    title: str
    label: str
    value: Value
    note: str
    control: Value | None = None


def _written(metric: str) -> Value:
    return lambda setting: setting.written(metric)


def _drift(setting: TaughtSetting) -> Estimate:
    return Estimate(setting.average(lambda cell: cell.kl_to_base_nats), None)


VIEWS = (
    View(
        "answers",
        "Words shared with the right answer, where answers were written out",
        "token F1",
        _written("token_f1"),
        "A model this small writes few of the answers it has come to find likelier: read the gain.",
        _written("control_token_f1"),
    ),
    View(
        "gain",
        "How much likelier the right answers became",
        GAIN,
        TaughtSetting.gain,
        _INTERVALS,
        TaughtSetting.control_gain,
    ),
    View(
        "learnt",
        "What was learnt of the document",
        "nats per token over the control",
        TaughtSetting.learnt,
        "The difference of each bar and its control above, question by question. " + _INTERVALS,
    ),
    View(
        "harm",
        "Drift from the base on ordinary text",
        "KL to the base, nats per token",
        _drift,
        "Over replies that have nothing to do with any document; 0 is no change.",
    ),
)


def make_figures(settings: Sequence[TaughtSetting]) -> tuple[list[Figure], list[LeftOut]]:
    """Return what can be drawn of these settings, and what cannot."""
    figures: list[Figure] = []
    left_out: list[LeftOut] = []
    for view in VIEWS:
        inside = [setting for setting in settings if view.value(setting) is not None]
        names = setting_names(inside)
        if len(set(names.values())) < 2:
            reason = "fewer than two settings have it"
            left_out.append(LeftOut(view.name, view.title, reason))
        else:
            figures.append(_figure(view, inside, names))
    return figures, left_out


def rate_note(settings: Sequence[TaughtSetting]) -> str:
    """Return which learning rates were chosen, and how, where there was a choice."""
    rates = sorted({s.axes.lr for s in settings})
    chosen = listing([f"{rate:g}" for rate in rates])
    if all(setting.n_rates == 1 for setting in settings):
        return f"Learning rate {chosen}."
    most = max(setting.n_rates for setting in settings)
    used = [
        f"{rate:g} for {count(sum(s.axes.lr == rate for s in settings), 'bar')}" for rate in rates
    ]
    return (
        f"Learning rate chosen for each bar from {most}, on half of the questions: "
        f"{listing(used)}; the other half is shown. The table has each."
    )


def _figure(view: View, settings: Sequence[TaughtSetting], names: Mapping[int, str]) -> Figure:
    """Return a figure with a panel for each task and bars for each budget."""
    panels = []
    for task in dict.fromkeys(setting.task for setting in settings):
        inside = [setting for setting in settings if setting.task == task]
        panels.append(_panel(view, inside, names, title=task))
    tested = n_seeds(setting.setting.n_seeds for setting in settings)
    note = f"{view.note} {rate_note(settings)} Behind each bar: {tested}."
    return Figure(
        name=view.name, title=view.title, finding="", note=note, stacked=False, panels=panels
    )


def _panel(
    view: View, settings: Sequence[TaughtSetting], names: Mapping[int, str], *, title: str
) -> Panel:
    """Return bars with the largest value at the top, a control below each."""
    best: dict[str, float] = {}
    for setting in settings:
        name, value = names[id(setting)], view.value(setting)
        best[name] = max(best.get(name, -1e9), value.mean if value else -1e9)
    places = sorted(best, key=lambda name: -best[name])
    if all(" %" in name for name in places):  # a share has an order of its own
        places = list(dict.fromkeys(names[id(setting)] for setting in settings))
    series: list[Series] = []
    for style, arm in enumerate(ARMS.values()):
        for value_of, control in ((view.value, ""), (view.control, ANOTHER)):
            points = [
                _point(float(places.index(names[id(setting)])), setting, value)
                for setting in settings
                if setting.arm == arm and value_of and (value := value_of(setting)) is not None
            ]
            if points:
                drawn = Series(name=control or arm, kind="bars", style=style, points=points)
                if control:
                    drawn["control_of"] = arm
                series.append(drawn)
    return bar_panel(title, places, series, label=view.label)


def _point(x: float, taught: TaughtSetting, y: Estimate) -> Point:
    setting = taught.setting
    return point(x, y.mean, interval=y.interval, cells=setting.names, n_seeds=setting.n_seeds)
