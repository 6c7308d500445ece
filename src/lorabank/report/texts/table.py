"""The tables of a study about training texts: every setting, and the learning rates tried."""

from collections.abc import Sequence
from typing import Any

from lorabank.report.estimates import table_text
from lorabank.report.texts.chosen import TaughtSetting
from lorabank.report.texts.labels import setting_names
from lorabank.report.texts.paper_scores import NOTE, published_score
from lorabank.report.wording import number

_HEADS = (
    *("taught", "task", "budget", "learning rate", "tokens a pass", "tokens trained"),
    *("recalled", "gain", "another's", "learnt", "token F1", "another's F1", "ROUGE-L"),
    *("KL to base", "in the paper", "cells"),
)


def table(settings: Sequence[TaughtSetting]) -> dict[str, Any]:
    """Return a row for every setting: what was taught and what came of it."""
    names = setting_names(settings)
    rows = [_row(setting, names[id(setting)]) for setting in settings]
    return {"heads": list(_HEADS), "rows": rows, "note": NOTE}


def rates_table(settings: Sequence[TaughtSetting]) -> dict[str, Any] | None:
    """Return every learning rate tried; None where no setting had a choice."""
    names = setting_names(settings)
    rows = [
        [
            names[id(setting)],
            setting.task,
            setting.budget,
            f"{rate:g}" + (", chosen" if rate == setting.axes.lr else ""),
            number(gain),
        ]
        for setting in settings
        if setting.n_rates > 1
        for rate, gain in setting.gain_by_rate
    ]
    heads = ["taught", "task", "budget", "learning rate", "gain"]
    note = "Mean gain in nats per token on every second question, by which the rate was chosen."
    return {"heads": heads, "rows": rows, "note": note} if rows else None


def _row(setting: TaughtSetting, name: str) -> list[str]:
    chosen = f" of {setting.n_rates}" if setting.n_rates > 1 else ""
    return [
        name,
        setting.task,
        setting.budget,
        f"{setting.axes.lr:g}{chosen}",
        number(round(setting.average(lambda cell: cell.tokens))),
        number(round(setting.average(lambda cell: cell.tokens_trained))),
        number(setting.average(lambda cell: cell.recall)),
        table_text(setting.gain()),
        table_text(setting.control_gain()),
        table_text(setting.learnt()),
        table_text(setting.written("token_f1")),
        table_text(setting.written("control_token_f1")),
        table_text(setting.written("rouge_l")),
        number(setting.average(lambda cell: cell.kl_to_base_nats)),
        published_score(setting.axes, setting.base),
        ", ".join(setting.setting.names),
    ]
