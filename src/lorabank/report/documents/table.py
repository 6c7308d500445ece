"""The table of a study about long documents: a row for each answer mode."""

from collections.abc import Sequence
from typing import Any

from lorabank.report.documents.answer_modes import ScoredMode, control_of, text_alone
from lorabank.report.estimates import table_text
from lorabank.report.wording import optional_number

_NOTE = (
    "Taught recalled: share of what was taught that greedy decoding gives when asked as taught; "
    "recalled: share of the questions asked, which word it otherwise."
)


def table(modes: Sequence[ScoredMode]) -> dict[str, Any]:
    """Return every mode as a row, with its differences to its control and to the text alone."""
    kinds = list(dict.fromkeys(k for mode in modes for k in mode.setting.first.by_kind))
    heads = ["adapter", "text", "documents", "r", "taught recalled", "recalled", "gain", *kinds]
    heads += ["over random", *(f"{kind} over random" for kind in kinds if len(kinds) > 1)]
    heads += ["over text alone", "token F1", "prompt tokens"]
    heads += ["routed right", "norm", "KL to base", "cells"]
    return {"heads": heads, "rows": [_row(mode, modes, kinds) for mode in modes], "note": _NOTE}


def _row(mode: ScoredMode, modes: Sequence[ScoredMode], kinds: Sequence[str]) -> list[str]:
    control, alone = control_of(mode, modes), text_alone(mode, modes)
    return [
        f"another document's {mode.adapter}" if mode.is_control else mode.adapter,
        mode.text,
        mode.documents,
        optional_number(mode.setting.average(lambda cell: cell.library.r)),
        optional_number(mode.setting.average(lambda cell: cell.library.taught_recall)),
        optional_number(mode.setting.average(lambda cell: cell.recall)),
        table_text(mode.gain()),
        *(table_text(mode.gain(kind)) for kind in kinds),
        table_text(mode.gain_over(control) if control else None),
        *(
            table_text(mode.gain_over(control, kind) if control else None)
            for kind in kinds
            if len(kinds) > 1
        ),
        table_text(mode.gain_over(alone) if alone else None),
        table_text(mode.written("token_f1")),
        optional_number(mode.setting.average(lambda cell: cell.prompt_tokens)),
        optional_number(mode.setting.average(lambda cell: cell.routed_right)),
        optional_number(mode.setting.average(lambda cell: cell.norm_ratio)),
        optional_number(mode.setting.average(lambda cell: cell.kl_to_base_nats)),
        ", ".join(mode.setting.names),
    ]
