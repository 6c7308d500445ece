"""The axes of studies about training texts: what documents are turned into, and how it is taught.

Every document gets an adapter of its own, trained on texts made of it, and is asked questions that
nobody trained on. A budget is an amount of one of three things, the same for every document:
exposures of each example, tokens trained on, or steps, as the paper has it (arXiv:2603.01097 fixes
1,000 whatever the texts). Which of them is held equal decides what a longer text costs.
"""

import json
from collections.abc import Mapping
from typing import Any

from lorabank.engine.training.settings import lr_for
from lorabank.lora import objectives
from lorabank.study.capacity.axes import Axis, Value, check, is_int, is_number, is_one_of, is_text
from lorabank.synthesis.formats import parse_formats

TASKS = ("paperqa", "squad", "chronicle")
EXPOSURES, TOKENS, STEPS = "exposures", "tokens", "steps"
BUDGETS = (EXPOSURES, TOKENS, STEPS)


def _is_share(value: Any) -> bool:
    return value == 0 or is_number(0, 0.9)(value)


ASKED: Mapping[str, Axis] = {
    "base": Axis("a model's name; the study's by default", is_text),
    "task": Axis(" or ".join(TASKS), is_one_of(*TASKS), "paperqa"),
    "documents": Axis("2 to 10,000", is_int(2, 10_000), 4),
    "activated": Axis("true or false", lambda v: isinstance(v, bool), True),
}
"""What decides which questions are asked and how they are read: cells with the same share it."""
TAUGHT: Mapping[str, Axis] = {
    "formats": Axis("such as qa:40,original", is_text, "original"),
    "generator": Axis("given (with the task), local, openai:MODEL or file:PATH", is_text, "given"),
    "objective": Axis(", ".join(objectives.NAMES), is_one_of(*objectives.NAMES), "ce"),
    "protect_share": Axis("0 to 0.9: of ordinary text", _is_share, 0.0),
    "budget": Axis(", ".join(BUDGETS), is_one_of(*BUDGETS), EXPOSURES),
    "amount": Axis("1 to 1,000,000: of exposures, tokens or steps", is_int(1, 1_000_000), 6),
    "r": Axis("1 to 1024", is_int(1, 1024), 8),
    "layers": Axis("0-15, last-10, first-4, 3,5,7 or all", is_text, "all"),
    "target_modules": Axis("all-linear, attention, ffn or q_proj,v_proj", is_text, "all-linear"),
    "batch_size": Axis("1 to 4,096", is_int(1, 4096), 8),
    "lr": Axis("above 0, at most 1; by rank by default", is_number(0, 1)),
    "written": Axis("0 to 1,000: answers written out for each document", is_int(0, 1000), 0),
    "new_tokens": Axis("1 to 4,096: of an answer that is written out", is_int(1, 4096), 32),
    "seed": Axis("0 or more", is_int(0, 2**31), 0),
}
AXES: Mapping[str, Axis] = {**ASKED, **TAUGHT}


def resolve(given: Mapping[str, Any]) -> dict[str, Value]:
    """A whole cell from the keys given.

    Raises:
        UsageError: an unknown key or value, formats that are none.
    """
    for name, value in given.items():
        check(name, value, AXES)
    cell = {name: given.get(name, axis.default) for name, axis in AXES.items()}
    cell["formats"] = ",".join(map(str, parse_formats(str(cell["formats"]))))
    if not cell["written"]:
        cell["new_tokens"] = None  # says nothing there; two such cells would be one
    cell["protect_share"] = float(cell["protect_share"])
    cell["lr"] = float(cell["lr"] or lr_for(int(cell["r"])))
    return cell


def group_key(values: Mapping[str, Any]) -> str:
    """The same for cells that are asked the same questions in the same way."""
    return json.dumps([values[name] for name in ASKED])


def short_name(values: Mapping[str, Value]) -> str:
    """What cells usually differ in."""
    formats = str(values["formats"]).replace(":", "").replace(",", "+")
    maker = str(values["generator"]).removeprefix("file:").replace(":", "-").replace("/", "-")
    parts = [values["task"], formats, *([] if maker == "given" else [maker])]
    parts += [values["objective"]] if values["objective"] != "ce" else []
    parts += [f"p{values['protect_share']:g}"] if values["protect_share"] else []
    parts += [f"{str(values['budget'])[0]}{values['amount']}", f"lr{values['lr']:g}"]
    return "-".join(map(str, [*parts, f"s{values['seed']}"]))
