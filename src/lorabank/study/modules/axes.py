"""The axes of studies about banks: what is written into modules, and how a question meets them.

The first part of a cell says what is trained (its library): cells with the same library share it.
The second says how it is read: by which router, gated or not, merged how and with how many others.
"""

import json
from collections.abc import Mapping
from typing import Any

from lorabank.engine.training.settings import lr_for
from lorabank.errors import UsageError
from lorabank.lora.merge import RULES
from lorabank.study.capacity.axes import Axis, Value, check, is_int, is_number, is_one_of, is_text

MEASURES = ("partition", "routing", "merging")
TASKS = ("phonebook", "paperqa", "squad")
ROUTERS = ("oracle", "bm25", "dense", "hybrid", "arrow", "spectr", "lag")
EACH, TOTAL, LEARNT = "each", "total", "learnt"
"""Budgets: `steps` for every module, `steps` shared out among them, until recall."""


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_budget(value: Any) -> bool:
    return value in (EACH, TOTAL, LEARNT) or is_int(1, 100_000)(value)


LIBRARY: Mapping[str, Axis] = {
    "task": Axis(" or ".join(TASKS), is_one_of(*TASKS), "phonebook"),
    "documents": Axis("1 to 10,000: sectors, papers or passages", is_int(1, 10_000), 8),
    "facts": Axis("1 to 100,000: examples of each document", is_int(1, 100_000), 24),
    "modules": Axis("1 to documents; as many by default", is_int(1, 10_000)),
    "prefix": Axis("true or false: the paper's id before each question", _is_bool, False),
    "r": Axis("1 to 1024", is_int(1, 1024), 8),
    "layers": Axis("0-15, last-10, first-4, 3,5,7 or all", is_text, "all"),
    "target_modules": Axis("all-linear, attention, ffn or q_proj,v_proj", is_text, "all-linear"),
    "activated": Axis("true or false", _is_bool, True),
    "budget": Axis(f"a number of exposures, {EACH}, {TOTAL} or {LEARNT}", _is_budget, LEARNT),
    "steps": Axis(f"1 to 1,000,000, with budget {EACH} or {TOTAL}", is_int(1, 1_000_000)),
    "batch_size": Axis("1 to 4,096", is_int(1, 4096), 8),
    "lr": Axis("above 0, at most 1; by rank by default", is_number(0, 1)),
    "seed": Axis("0 or more", is_int(0, 2**31), 0),
}
READING: Mapping[str, Axis] = {
    "measure": Axis(", ".join(MEASURES), is_one_of(*MEASURES), "partition"),
    "router": Axis(", ".join(ROUTERS), is_one_of(*ROUTERS), "oracle"),
    "gated": Axis("true or false", _is_bool, False),
    "rule": Axis(", ".join(RULES), is_one_of(*RULES)),
    "norm": Axis("published or matched", is_one_of("published", "matched"), "published"),
    "merged": Axis("1 to modules: how many are merged", is_int(1, 10_000), 3),
    "subset": Axis("0 or more: the draw of which", is_int(0, 2**31), 0),
    "new_tokens": Axis("0 to 4,096: of answers written out; 0 for none", is_int(0, 4096), 0),
}
AXES: Mapping[str, Axis] = {**LIBRARY, **READING}
_ONLY_FOR = {
    "routing": ("router", "gated"),
    "merging": ("rule", "norm", "merged", "subset"),
}


def resolve(given: Mapping[str, Any]) -> dict[str, Value]:
    """A whole cell from the keys given.

    Raises:
        UsageError: an unknown key or value, or two that do not go together.
    """
    for name, value in given.items():
        check(name, value, AXES)
    cell = {name: given.get(name, axis.default) for name, axis in AXES.items()}
    measure, documents = cell["measure"], int(cell["documents"])
    for owner, names in _ONLY_FOR.items():
        if strange := [name for name in names if name in given and owner != measure]:
            raise UsageError(f"{strange[0]} is for measure={owner}, this cell's is {measure}")
    cell["modules"] = cell["modules"] or documents
    if documents % int(cell["modules"]):
        raise UsageError(
            f"{documents} documents cannot be shared out evenly to {cell['modules']} modules; "
            "take a number that divides them"
        )
    if cell["budget"] in (EACH, TOTAL) and not cell["steps"]:
        raise UsageError(f"budget {cell['budget']} takes steps, as in --set steps=1500")
    if cell["budget"] not in (EACH, TOTAL):
        cell["steps"] = None  # says nothing there; two such cells would be one
    if measure == "merging":
        if cell["rule"] is None:
            raise UsageError(f"measure merging takes a rule: {', '.join(RULES)}")
        if int(cell["merged"]) > int(cell["modules"]):
            raise UsageError(f"merged is at most modules, got {cell['merged']} of {documents}")
    else:
        cell |= {"rule": None, "merged": 1, "norm": "published", "subset": 0}
    if cell["prefix"] and cell["task"] != "paperqa":
        raise UsageError(f"prefix is for the task paperqa, got {cell['task']}")
    cell["lr"] = float(cell["lr"] or lr_for(int(cell["r"])))
    return cell


def short_name(values: Mapping[str, Value]) -> str:
    """What cells usually differ in."""
    budget = f"e{values['budget']}" if isinstance(values["budget"], int) else values["budget"]
    parts = [values["task"], f"m{values['modules']}", f"r{values['r']}", budget]
    if values["measure"] == "routing":
        parts += [values["router"], *(["gated"] if values["gated"] else [])]
    if values["measure"] == "merging":
        parts += [str(values["rule"]).replace("/", ""), f"of{values['merged']}", values["norm"]]
        parts += [f"d{values['subset']}"]
    parts += ["prefix"] if values["prefix"] else []
    return "-".join(map(str, [*parts, f"s{values['seed']}"]))


def exposures(values: Mapping[str, Value]) -> int | None:
    """Of every fact under a cell's budget; None where training goes on until it is learnt.

    With one module, steps in all and for every module are one thing, and where batches are full so
    are equal steps in all and equal exposures: cells that come to the same share a library.
    """
    budget = values["budget"]
    if isinstance(budget, int):
        return budget
    if budget == LEARNT:
        return None
    modules = int(str(values["modules"]))
    share = int(str(values["steps"])) / (modules if budget == TOTAL else 1)
    examples = int(str(values["facts"])) * int(str(values["documents"])) // modules
    return max(1, round(share / -(-examples // int(str(values["batch_size"])))))


def library_key(values: Mapping[str, Value]) -> str:
    """Equal for cells that read the same trained modules."""
    told = [values[name] for name in LIBRARY if name not in ("budget", "steps")]
    return json.dumps([exposures(values), *told])
