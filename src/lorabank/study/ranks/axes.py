"""The axes of studies about ranks: how the rank of an adapter is chosen, for how many facts.

fixed     the rank that is given
planned   the smallest rank that measured capacity predicts to do; 1 where nothing was measured
fitted    planned, doubled while facts miss, then shrunk with all answers kept
adalora   PEFT's AdaLoRA, always on, with a mean rank that is given and all its exposures used
"""

from typing import Literal, Self

from pydantic import Field

from lorabank.engine.settings import SOUND
from lorabank.errors import UsageError
from lorabank.study.axes import LAYERS, MAX_R, Axes, Text
from lorabank.tasks.made_wordings import MOST_WORDINGS

CHOSEN_BY_US = ("planned", "fitted")


class RanksAxes(Axes):
    """A cell of a study about ranks: one adapter whose rank is chosen somehow."""

    facts: int = Field(24, ge=1, le=10_000, description="1 to 10,000")
    choice: Literal["fixed", "planned", "fitted", "adalora"] = Field(
        "fitted", description="fixed, planned, fitted or adalora"
    )
    r: int | None = Field(
        None, ge=1, le=MAX_R, description=f"1 to {MAX_R}, for fixed and adalora; else none"
    )
    exposures: int = Field(60, ge=1, le=100_000, description="1 to 100,000: of each fact, at most")
    wordings: int = Field(
        SOUND.wordings, ge=0, le=MOST_WORDINGS, description=f"0 to {MOST_WORDINGS}: taught"
    )
    protect_share: float = Field(
        SOUND.protect_share, ge=0, le=0.9, description="0 to 0.9: of ordinary text; not of adalora"
    )
    layers: Text = Field("last-half", description=f"last-half, {LAYERS}")
    lr_factor: float = Field(
        1.0, gt=0, le=100, description="above 0, at most 100: on the recipe's rate at the rank"
    )
    seed: int = Field(0, ge=0, le=2**31, description="0 or more")

    def normalised(self) -> Self:
        """Return the cell as it is, if its rank goes with how it is chosen.

        Raises:
            UsageError: a rank that is missing, or given where it is chosen.
        """
        if (self.choice in CHOSEN_BY_US) != (self.r is None):
            need = "takes no r" if self.choice in CHOSEN_BY_US else "needs an r"
            raise UsageError(f"choice={self.choice} {need}, got r={self.r}")
        if self.choice == "adalora":
            return self.model_copy(update={"protect_share": 0.0})
        return self

    @property
    def short_name(self) -> str:
        """Return the facts, how the rank is chosen, the rank and the seed."""
        rank = [] if self.r is None else [f"r{self.r}"]
        return "-".join([f"n{self.facts}", self.choice, *rank, f"s{self.seed}"])
