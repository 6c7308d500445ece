"""The axes of capacity studies: one adapter, its data, its training."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from lorabank.engine.settings import PAPER, PEFT_PREFIX
from lorabank.errors import UsageError
from lorabank.lora import objectives, variants
from lorabank.study.axes import LAYERS, MAX_R, TARGET_MODULES, Axes, Text, lr_for_rank, satisfies
from lorabank.tasks.datasets import counterfact
from lorabank.tasks.synthetic import phonebook

CONVERGED: Literal["converged"] = "converged"
PAPER_STEPS: Literal["paper"] = "paper"
TOKENS_PER_FACT = 1000 / 48
"""Tokens of a phone-book entry in the paper's files (48 entries are its 1K)."""


def is_peft_variant(variant: str) -> bool:
    """Return whether PEFT trains a variant, as no fleet can."""
    return variant == "dora" or variant.startswith(PEFT_PREFIX)


def _is_variant(value: str) -> bool:
    return value in variants.VARIANTS or is_peft_variant(value)


def _activated(axes: dict[str, Any]) -> bool:
    return axes["recipe"] != "paper" and not is_peft_variant(axes["variant"])


def _alpha(axes: dict[str, Any]) -> float:
    return float(axes["r"] * (1 if axes["recipe"] == "paper" else 2))


def _lr(axes: dict[str, Any]) -> float:
    return PAPER.lr if axes["recipe"] == "paper" else lr_for_rank(axes)


class CapacityAxes(Axes):
    """A cell of a capacity study: one adapter that is taught facts and asked for them."""

    former_names: ClassVar[Mapping[str, str]] = {"max_exposures": "most_exposures"}
    stand_ins: ClassVar[tuple[str, ...]] = ("tokens",)

    task: Literal["phonebook", "counterfact"] = Field(
        "phonebook", description="phonebook or counterfact"
    )
    source: Text = Field("built", description="a counterfact.json or slice.csv, or built")
    facts: int = Field(ge=1, le=phonebook.MAX_SIZE, description=f"1 to {phonebook.MAX_SIZE:,}")
    r: int = Field(8, ge=1, le=MAX_R, description=f"1 to {MAX_R}")
    layers: Text = Field("all", description=LAYERS)
    target_modules: Text = Field("all-linear", description=TARGET_MODULES)
    variant: Annotated[str, satisfies(_is_variant)] = Field(
        "lora", description=f"{', '.join(variants.VARIANTS)}, dora or peft:…"
    )
    objective: objectives.Name = Field("ce", description=", ".join(objectives.NAMES))
    recipe: Literal["sound", "paper"] = Field("sound", description="sound or paper")
    activated: bool = Field(default_factory=_activated, description="true or false")
    exposures: Annotated[int, Field(ge=1, le=100_000)] | Literal["converged", "paper"] = Field(
        CONVERGED, description=f"a number, {CONVERGED}, or {PAPER_STEPS} (1,500 steps)"
    )
    max_exposures: int | None = Field(
        1000, ge=1, le=100_000, description="1 to 100,000: the end of converged"
    )
    batch_size: int = Field(8, ge=1, le=4096, description="1 to 4,096")
    alpha: float = Field(
        default_factory=_alpha,
        gt=0,
        le=1e6,
        description="above 0; 2r by default, r in the paper's recipe",
    )
    lr: float = Field(
        default_factory=_lr, gt=0, le=1, description="above 0, at most 1; the recipe's by default"
    )
    seed: int = Field(0, ge=0, le=2**31, description="0 or more")

    @classmethod
    def resolve(cls, values: Mapping[str, Any]) -> Self:
        """Return a whole cell from the axes that a user gave; `tokens` may stand for `facts`.

        Raises:
            UsageError: as `Axes.resolve`, or neither facts nor tokens.
        """
        rest = {name: value for name, value in values.items() if name != "tokens"}
        if "tokens" in values:
            tokens = values["tokens"]
            is_number = isinstance(tokens, int | float) and not isinstance(tokens, bool)
            if "facts" in values or not is_number or not 0 < tokens <= 1e7:
                raise UsageError(f"tokens takes a number above 0, without facts; got {tokens!r}")
            rest["facts"] = max(1, round(tokens / TOKENS_PER_FACT))
        elif "facts" not in values and values.keys() <= {*cls.model_fields}:
            raise UsageError("a cell needs a load: give facts or tokens")
        return super().resolve(rest)

    def normalised(self) -> Self:
        """Return the cell without `max_exposures` where training has another end."""
        is_own = self.task == "counterfact" and self.source == "built"
        if is_own and self.facts > counterfact.MAX_SIZE:
            raise UsageError(
                f"facts takes at most {counterfact.MAX_SIZE} of the task's own counterfactuals, "
                f"got {self.facts:,}; give source=counterfact.json for more"
            )
        if self.exposures == CONVERGED:
            return self
        return self.model_copy(update={"max_exposures": None})

    @property
    def short_name(self) -> str:
        """Return the recipe, the rank, the load, the budget and the seed."""
        budget = f"e{self.exposures}" if isinstance(self.exposures, int) else self.exposures
        return f"{self.recipe}-r{self.r}-n{self.facts}-{budget}-s{self.seed}"

    @property
    def trains_through_peft(self) -> bool:
        """Return whether PEFT trains the cell, alone."""
        return is_peft_variant(self.variant)
