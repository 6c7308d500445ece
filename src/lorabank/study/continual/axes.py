"""The axes of studies about continual writing: how facts are kept that come in many writes."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field

from lorabank.engine.settings import SOUND, lr_for
from lorabank.study.axes import LAYERS, LR, MAX_R, Axes, Text, one_of
from lorabank.study.continual.arms import ARMS
from lorabank.tasks.made_wordings import MOST_WORDINGS

PHONEBOOK: Literal["phonebook"] = "phonebook"


def _lr(axes: dict[str, Any]) -> float:
    return lr_for(axes["r"])


class ContinualAxes(Axes):
    """A cell of a study about continual writing: one arm, given one stream of writes."""

    task: Literal["phonebook", "wikibigedit"] = Field(
        PHONEBOOK, description="phonebook or wikibigedit"
    )
    arm: Annotated[str, one_of(ARMS)] = Field("bank", description=", ".join(ARMS))
    facts: int = Field(12, ge=1, le=200, description="1 to 200: in a write")
    writes: int = Field(10, ge=1, le=1000, description="1 to 1,000")
    changed_share: float | None = Field(
        0.2, ge=0, le=1, description="0 to 1: of a write, other values of earlier facts"
    )
    exposures: int = Field(24, ge=1, le=100_000, description="1 to 100,000: of each fact stated")
    wordings: int = Field(
        SOUND.wordings, ge=0, le=MOST_WORDINGS, description=f"0 to {MOST_WORDINGS}: taught"
    )
    protect_share: float = Field(
        SOUND.protect_share, ge=0, le=0.9, description="0 to 0.9: of ordinary text"
    )
    r: int = Field(8, ge=1, le=MAX_R, description=f"1 to {MAX_R}")
    layers: Text = Field("last-half", description=f"last-half, {LAYERS}")
    lr: float = Field(default_factory=_lr, gt=0, le=1, description=LR)
    seed: int = Field(0, ge=0, le=2**31, description="0 or more")

    def normalised(self) -> Self:
        """Return the cell without a share of changes where the stream has none."""
        if self.task == PHONEBOOK:
            return self
        return self.model_copy(update={"changed_share": None})

    @property
    def short_name(self) -> str:
        """Return the task, the arm, the sizes and the seed."""
        return "-".join([self.task, self.arm, f"n{self.facts}", f"w{self.writes}", f"s{self.seed}"])
