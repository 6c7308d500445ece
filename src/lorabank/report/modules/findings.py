"""Sentences about what a study of modules found, made from its numbers.

Recall comes before gains of likelihood, the control beside the score, and no difference is claimed
where intervals overlap.
"""

from collections.abc import Sequence

from lorabank.report.estimates import Estimate, comparison, in_words
from lorabank.report.modules.measures import (
    ModulesSetting,
    Scores,
    budget_name,
    is_recall,
    measured,
    router_name,
    routing_share,
    score_unit,
    task_name,
)
from lorabank.report.wording import capitalised, count, listing, percent, seed_sentence

_MOST = 5


def sentences(settings: Sequence[ModulesSetting]) -> list[str]:
    """Return three to five sentences about all settings."""
    writers = {"partition": _partition, "routing": _routing, "merging": _merging}
    findings: list[str] = []
    for measure, write in writers.items():
        inside = [setting for setting in settings if setting.first.axes.measure == measure]
        tasks = dict.fromkeys(map(task_name, inside))
        # recall before gains of likelihood
        groups = [[s for s in inside if task_name(s) == task] for task in tasks]
        for group in sorted(groups, key=lambda group: not is_recall(group[0])):
            findings += write(group)
    return [*findings[: _MOST + 1], seed_sentence(s.n_seeds for s in settings)]


def _value(setting: ModulesSetting, name: Scores = "score") -> Estimate:
    estimate = measured(setting, name)
    if estimate is not None:
        return estimate
    return Estimate(setting.average(lambda cell: getattr(cell, name)) or 0.0, None)


def _amount(setting: ModulesSetting, value: Estimate) -> str:
    text = in_words(value, score_unit(setting))
    return text if is_recall(setting) else f"{text} nats per token"


def _partition(settings: Sequence[ModulesSetting]) -> list[str]:
    task, findings = capitalised(task_name(settings[0])), []
    verb = "recalls" if is_recall(settings[0]) else "makes the right answers likelier by"
    for budget in dict.fromkeys(map(budget_name, settings)):
        inside = sorted(
            (s for s in settings if budget_name(s) == budget), key=lambda s: s.first.axes.modules
        )
        if len(inside) < 2:
            continue
        fewest, many = inside[0], inside[-1]
        control = measured(many, "control")
        beside = f" ({_amount(many, control)} through another of them)" if control else ""
        findings.append(
            f"{task}, {budget}: {count(fewest.first.axes.modules, 'module')} {verb} "
            f"{_amount(fewest, _value(fewest))}, {count(many.first.axes.modules, 'module')} "
            f"{_amount(many, _value(many))}{beside}; {comparison(_value(fewest), _value(many))}."
        )
    return findings


def _routing(settings: Sequence[ModulesSetting]) -> list[str]:
    task = capitalised(task_name(settings[0]))
    oracle = next((s for s in settings if s.first.axes.router == "oracle"), None)
    real = [s for s in settings if s.first.axes.router != "oracle" and not s.first.axes.gated]
    shares = {router_name(s): routing_share(s, "top1") or 0.0 for s in real}
    if not shares:
        return []
    ranked = sorted(shares, key=lambda name: -shares[name])
    best = max(real, key=lambda s: (shares[router_name(s)], _value(s).mean))
    leaders = [name for name in ranked if shares[name] == shares[ranked[0]]]
    verb = "names" if len(leaders) == 1 else "name"
    n_modules = best.first.axes.modules
    text = (
        f"{task}: {listing(leaders)} {verb} the right one of {n_modules} modules first "
        f"for {percent(shares[ranked[0]])} of the questions, {ranked[-1]} for "
        f"{percent(shares[ranked[-1]])} (chance {percent(1 / n_modules)})"
    )
    if oracle is not None:
        what = "recalls" if is_recall(best) else "gains"
        control = measured(best, "control")
        beside = f", another module in its place {_amount(best, control)}" if control else ""
        text += (
            f"; answering through {router_name(best)} {what} {_amount(best, _value(best))}, with "
            f"the module named by an oracle {_amount(oracle, _value(oracle))}{beside}"
        )
    return [f"{text}."]


def _merging(settings: Sequence[ModulesSetting]) -> list[str]:
    """Return what merges keep of a module: at each number of modules the best merge."""
    task = capitalised(task_name(settings[0]))
    numbers = sorted({s.first.axes.merged for s in settings})
    by_number = {n: [s for s in settings if s.first.axes.merged == n] for n in numbers}
    merged = {n: group for n, group in by_number.items() if n > 1}
    if not merged:
        return []
    findings = []
    if is_recall(settings[0]):
        parts = [
            f"{percent(max(_value(s).mean for s in group))} with {n}" for n, group in merged.items()
        ]
        alone = settings[0].average(lambda cell: cell.oracle) or 0.0
        findings.append(
            f"{task}: a module alone recalls {percent(alone)}; with the best rule a merge recalls "
            f"{listing(parts)} modules."
        )
    best = {n: max(group, key=lambda s: _value(s, "gain").mean) for n, group in merged.items()}
    alone_gain = settings[0].average(lambda cell: cell.oracle_gain) or 0.0
    parts = [
        f"{in_words(_value(s, 'gain'))} with {n} ({s.first.axes.rule}, {s.first.axes.norm} norm)"
        for n, s in best.items()
    ]
    text = (
        f"{task}: of the {alone_gain:.2f} nats per token that a module alone gains, the best "
        f"merge keeps {listing(parts)}"
    )
    last = best[max(best)]
    if (control := last.average(lambda cell: cell.control_gain)) is not None:
        lacks = "the same merge without the question's own module gains"
        text += f"; {lacks} {f'{control:.2f}'.replace('-', '−')}"
        text += f" with {last.first.axes.merged}" if len(best) > 1 else ""
    findings.append(f"{text}.")
    return findings
