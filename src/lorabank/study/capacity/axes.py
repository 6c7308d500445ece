"""The axes of a study: what a cell may vary, which values it takes, what it is if nobody says.

An axis is checked on its own here; what only a base model can refuse (a layer it lacks, a rank
above a layer's size) is refused when the cell is planned on it.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lorabank.engine.training.settings import PAPER, PEFT_PREFIX, RECIPE_NAMES, lr_for
from lorabank.errors import UsageError
from lorabank.lora import objectives, variants
from lorabank.tasks.datasets import counterfact
from lorabank.tasks.synthetic import phonebook

Value = str | int | float | bool | None
TASKS = ("phonebook", "counterfact")
CONVERGED, PAPER_STEPS = "converged", "paper"  # budgets that are not a number of exposures
TOKENS_PER_FACT = 1000 / 48
"""Of a phone-book entry in the paper's files (48 entries are its 1K), to turn tokens to facts."""
_MOST_R = 1024


@dataclass(frozen=True, slots=True)
class Axis:
    """One key of a cell."""

    allowed: str
    """In words."""
    check: Callable[[Any], bool]
    default: Value = None


def is_int(low: int, high: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high


def is_number(low: float, high: float) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int | float) and not isinstance(v, bool) and low < v <= high


def is_one_of(*names: str) -> Callable[[Any], bool]:
    return lambda v: v in names


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_variant(value: Any) -> bool:
    names = (*variants.VARIANTS, "dora")
    return isinstance(value, str) and (value in names or value.startswith(PEFT_PREFIX))


def _is_budget(value: Any) -> bool:
    return value in (CONVERGED, PAPER_STEPS) or is_int(1, 100_000)(value)


AXES: Mapping[str, Axis] = {
    "task": Axis(" or ".join(TASKS), is_one_of(*TASKS), "phonebook"),
    "source": Axis("a counterfact.json or slice.csv, or built", is_text, "built"),
    "facts": Axis(f"1 to {phonebook.MAX_SIZE:,}", is_int(1, phonebook.MAX_SIZE)),
    "r": Axis(f"1 to {_MOST_R}", is_int(1, _MOST_R), 8),
    "layers": Axis("0-15, last-10, first-4, 3,5,7 or all", is_text, "all"),
    "target_modules": Axis("all-linear, attention, ffn or q_proj,v_proj", is_text, "all-linear"),
    "activated": Axis("true or false", lambda v: isinstance(v, bool)),
    "variant": Axis(f"{', '.join(variants.VARIANTS)}, dora or peft:…", _is_variant, "lora"),
    "objective": Axis(", ".join(objectives.NAMES), is_one_of(*objectives.NAMES), "ce"),
    "recipe": Axis(" or ".join(RECIPE_NAMES), is_one_of(*RECIPE_NAMES), "sound"),
    "exposures": Axis(
        f"a number, {CONVERGED}, or {PAPER_STEPS} (1,500 steps)", _is_budget, CONVERGED
    ),
    "most_exposures": Axis("1 to 100,000: the end of converged", is_int(1, 100_000), 1000),
    "batch_size": Axis("1 to 4,096", is_int(1, 4096), 8),
    "alpha": Axis("above 0; 2r by default, r in the paper's recipe", is_number(0, 1e6)),
    "lr": Axis("above 0, at most 1; the recipe's by default", is_number(0, 1)),
    "seed": Axis("0 or more", is_int(0, 2**31), 0),
}
_ALSO = {"tokens"}  # a way to say facts


def check(name: str, value: Any, axes: Mapping[str, Axis] = AXES) -> None:
    """Refuse an axis or a value that does not exist, with the near misses.

    Raises:
        UsageError: says what is allowed.
    """
    if name not in axes:
        there = [*axes, *(_ALSO if axes is AXES else ())]
        near = difflib.get_close_matches(name, there, n=2, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else "."
        raise UsageError(f"no axis {name!r}{hint} There are {', '.join(there)}")
    axis = axes[name]
    if axis.check(value):
        return
    words = [w for w in axis.allowed.replace(",", " ").split() if len(w) > 2]
    near = difflib.get_close_matches(str(value), words, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"{name} takes {axis.allowed}, got {value!r}{hint}")


def resolve(given: Mapping[str, Any]) -> dict[str, Value]:
    """A whole cell from the keys given: checked, with what follows from the recipe filled in.

    Raises:
        UsageError: an unknown key or value, or no load.
    """
    cell = dict(given)
    if "tokens" in cell:
        tokens = cell.pop("tokens")
        if "facts" in cell or not is_number(0, 1e7)(tokens):
            raise UsageError(f"tokens takes a number above 0, without facts; got {tokens!r}")
        cell["facts"] = max(1, round(tokens / TOKENS_PER_FACT))
    for name, value in cell.items():
        check(name, value)
    if "facts" not in cell:
        raise UsageError("a cell needs a load: give facts or tokens")
    cell = {name: cell.get(name, axis.default) for name, axis in AXES.items()}
    is_own = cell["task"] == "counterfact" and cell["source"] == "built"
    if is_own and cell["facts"] > counterfact.MAX_SIZE:
        raise UsageError(
            f"facts takes at most {counterfact.MAX_SIZE} of the task's own counterfactuals, "
            f"got {cell['facts']:,}; give source=counterfact.json for more"
        )
    is_paper = cell["recipe"] == "paper"
    if cell["activated"] is None:
        cell["activated"] = not is_paper and _is_fleet(str(cell["variant"]))
    if cell["lr"] is None:
        cell["lr"] = PAPER.lr if is_paper else lr_for(int(cell["r"]))
    if cell["alpha"] is None:
        cell["alpha"] = float(cell["r"] * (1 if is_paper else 2))
    cell["alpha"], cell["lr"] = float(cell["alpha"]), float(cell["lr"])
    if cell["exposures"] != CONVERGED:
        cell["most_exposures"] = None  # says nothing there; two such cells would be one
    return cell


def short_name(values: Mapping[str, Value]) -> str:
    """What cells usually differ in."""
    budget = values["exposures"]
    parts = [values["recipe"], f"r{values['r']}", f"n{values['facts']}"]
    parts += [f"e{budget}" if isinstance(budget, int) else str(budget), f"s{values['seed']}"]
    return "-".join(map(str, parts))


def _is_fleet(variant: str) -> bool:
    return variant != "dora" and not variant.startswith(PEFT_PREFIX)
