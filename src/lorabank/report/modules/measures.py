"""Names and values of the settings of a study about modules.

The score of a question is recall where what was taught is asked, else the gain of the right
answer's likelihood. Where recall says nothing (a merge recalls no number whole) the gain still
tells.
"""

from collections.abc import Sequence

from lorabank.report.estimates import Estimate
from lorabank.report.format_1_grouping import Cell, Setting, group_cells, require
from lorabank.report.plot import Unit

GAIN = "gain, nats per token"
ANOTHER = "another module in its place"
_NEEDED = ("name", "spec", "metric", "score", "oracle", "gain", "per_question")
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


def read_settings(cells: Sequence[Cell]) -> list[Setting]:
    """Return cells by setting; seeds and drawn subsets of the modules are draws of one setting.

    Raises:
        UsageError: a cell lacks something, or two are the same draw of one setting.
    """
    require(cells, _NEEDED)
    return group_cells(cells, drawn=("seed", "subset"))


def task_name(setting: Setting) -> str:
    """Return the task, with what else changes its questions."""
    prefix = ", with the paper's id" if setting.spec["prefix"] else ""
    return f"{_TASKS.get(setting.spec['task'], setting.spec['task'])}{prefix}"


def budget_name(setting: Setting) -> str:
    budget, steps = setting.spec["budget"], setting.spec["steps"]
    if not isinstance(budget, str):
        return f"{budget} exposures"
    return _BUDGETS[budget].format(steps=steps and f"{steps:,}")


def router_name(setting: Setting) -> str:
    router = str(setting.spec["router"])
    return f"{router} + gate" if setting.spec["gated"] else router


def measured(setting: Setting, key: str) -> Estimate | None:
    """Return `score`, `control` or `gain` by question; None where a cell has none."""
    if not all(cell["per_question"].get(key) for cell in setting.cells):
        return None
    return setting.by_document(lambda cell: cell["per_question"][key])


def is_recall(setting: Setting) -> bool:
    """Return whether the setting's score is recall."""
    return bool(setting.first["metric"] == "recall")


def score_unit(setting: Setting) -> Unit:
    return "share" if is_recall(setting) else "number"


def score_label(setting: Setting) -> str:
    return "recall" if is_recall(setting) else GAIN
