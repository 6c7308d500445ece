"""The axes of studies about wordings: how many a fact is taught in, and what that changes.

A fact is trained on equally often whatever its number of wordings: each exposure has one of them.
With `until_recall` a cell ends as soon as that much is recalled as taught, however few exposures
it took.
A reversed question is taught as an example of its own, as often as the fact.
"""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from lorabank.engine.settings import SOUND, lr_for
from lorabank.study.axes import LAYERS, LR, MAX_R, Axes, Text
from lorabank.tasks.made_wordings import MOST_WORDINGS

MOST_FACTS = 1000
PHONEBOOK: Literal["phonebook"] = "phonebook"


def _lr(axes: dict[str, Any]) -> float:
    return lr_for(axes["r"])


class WordingAxes(Axes):
    """A cell of a study about wordings: one adapter, taught facts in some wordings each."""

    added: ClassVar[tuple[str, ...]] = ("protect_directions", "protect_others", "until_recall")

    task: Literal["phonebook", "wikibigedit"] = Field(
        PHONEBOOK, description="phonebook or wikibigedit"
    )
    facts: int = Field(24, ge=2, le=MOST_FACTS, description=f"2 to {MOST_FACTS:,}")
    wordings: int = Field(
        1, ge=1, le=MOST_WORDINGS, description=f"1 to {MOST_WORDINGS}: taught of each fact"
    )
    reworded_share: float | None = Field(
        1.0, gt=0, le=1, description="above 0, at most 1: of facts taught in all the wordings"
    )
    reverse: bool = Field(False, description="true or false")
    activated: bool = Field(True, description="true or false")
    protect_share: float = Field(0.0, ge=0, le=0.9, description="0 to 0.9: of ordinary text")
    protect_directions: float = Field(
        0.0, ge=0, le=0.9, description="0 to 0.9: of ordinary text's directions, unseen by A"
    )
    protect_others: float = Field(
        0.0, ge=0, le=100, description="0 to 100: weight of the words that are not the answer"
    )
    until_recall: float | None = Field(
        None, gt=0, le=1, description="above 0, at most 1: recall that ends training; or none"
    )
    exposures: int = Field(32, ge=1, le=100_000, description="1 to 100,000: of each fact, at most")
    r: int = Field(8, ge=1, le=MAX_R, description=f"1 to {MAX_R}")
    layers: Text = Field("last-half", description=f"last-half, {LAYERS}")
    batch_size: int = Field(SOUND.batch_size, ge=1, le=4096, description="1 to 4,096")
    lr: float = Field(default_factory=_lr, gt=0, le=1, description=LR)
    seed: int = Field(0, ge=0, le=2**31, description="0 or more")

    def normalised(self) -> Self:
        """Return the cell without a share of reworded facts where none has a second wording."""
        if self.wordings > 1:
            return self if self.reworded_share else self.model_copy(update={"reworded_share": 1.0})
        return self.model_copy(update={"reworded_share": None})

    @property
    def short_name(self) -> str:
        """Return the task, the facts, their wordings, what else is taught, and the seed."""
        parts = [self.task, f"n{self.facts}", f"w{self.wordings}"]
        parts += [f"of{self.reworded_share:g}"] if self.reworded_share not in (None, 1.0) else []
        parts += ["reversed"] if self.reverse else []
        parts += [] if self.activated else ["always"]
        parts += [f"p{self.protect_share:g}"] if self.protect_share else []
        parts += [f"d{self.protect_directions:g}"] if self.protect_directions else []
        parts += [f"o{self.protect_others:g}"] if self.protect_others else []
        parts += [f"until{self.until_recall:g}"] if self.until_recall else []
        return "-".join([*parts, f"e{self.exposures}", f"s{self.seed}"])
