"""Names and values of the settings of a study about modules.

The score of a question is recall where what was taught is asked, else the gain of the right
answer's likelihood. Where recall says nothing (a merge recalls no number whole) the gain still
tells.
"""

from collections.abc import Sequence
from typing import Literal

from lorabank.report.estimates import Estimate
from lorabank.report.grouping import Setting, group_cells
from lorabank.report.plot import Unit
from lorabank.study.modules.cells import ModulesCell

GAIN = "gain, nats per token"
ANOTHER = "another module in its place"
ModulesSetting = Setting[ModulesCell]
Scores = Literal["score", "control", "gain"]
"""A result of a cell that is stored by question, too."""
RouterShare = Literal["top1", "top5"]
_BUDGETS = {
    "each": "{steps} steps for every module",
    "total": "{steps} steps in all",
    "learnt": "until learnt",
}
_TASKS = {
    "phonebook": "phone book",
    "paperqa": "PaperQA",
    "squad": "SQuAD",
    "chronicle": "chronicles",
}


def read_settings(cells: Sequence[ModulesCell]) -> list[ModulesSetting]:
    """Return cells by setting; seeds and drawn subsets of the modules are draws of one setting.

    Raises:
        UsageError: two cells are the same draw of one setting.
    """
    return group_cells(cells, drawn=("seed", "subset"))


def task_name(setting: ModulesSetting) -> str:
    """Return the task, with what else changes its questions."""
    prefix = ", with the paper's id" if setting.first.axes.prefix else ""
    return f"{_TASKS.get(setting.first.axes.task, setting.first.axes.task)}{prefix}"


def budget_name(setting: ModulesSetting) -> str:
    budget, steps = setting.first.axes.budget, setting.first.axes.steps
    if not isinstance(budget, str):
        return f"{budget} exposures"
    return _BUDGETS[budget].format(steps=steps and f"{steps:,}")


def router_name(setting: ModulesSetting) -> str:
    router = str(setting.first.axes.router)
    return f"{router} + gate" if setting.first.axes.gated else router


def measured(setting: ModulesSetting, name: Scores) -> Estimate | None:
    """Return the mean of a result by question; None where a cell has none."""

    def values(cell: ModulesCell) -> list[float]:
        by_question: list[float] = getattr(cell.per_question, name)
        return by_question

    if not all(map(values, setting.cells)):
        return None
    return setting.by_document(values, lambda cell: cell.per_question.document)


def routing_share(setting: ModulesSetting, name: RouterShare) -> float | None:
    """Return a share of the questions that a router got right; None without a router."""

    def share(cell: ModulesCell) -> float | None:
        return None if cell.routing is None else getattr(cell.routing, name)

    return setting.average(share)


def is_recall(setting: ModulesSetting) -> bool:
    """Return whether the setting's score is recall."""
    return setting.first.metric == "recall"


def score_unit(setting: ModulesSetting) -> Unit:
    return "share" if is_recall(setting) else "number"


def score_label(setting: ModulesSetting) -> str:
    return "recall" if is_recall(setting) else GAIN
