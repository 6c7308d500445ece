"""The axes of studies about training texts: what documents are turned into, and how it is taught.

Every document gets an adapter of its own, trained on texts made of it, and is asked questions that
nobody trained on. A budget is an amount of exposures of each example, of tokens trained on, or of
steps, as the paper has it (arXiv:2603.01097 trains 1,000 steps whatever the texts), and is the same
for every document. Which of them is held equal decides what a longer text costs.
"""

import json
from typing import Literal, Self

from pydantic import Field

from lorabank.lora import objectives
from lorabank.study.axes import LAYERS, LR, MAX_R, TARGET_MODULES, Axes, Text, lr_for_rank
from lorabank.synthesis.formats import parse_formats

EXPOSURES, TOKENS, STEPS = "exposures", "tokens", "steps"


class TextsAxes(Axes):
    """A cell of a study about training texts: what is made of each document and taught."""

    base: Text | None = Field(None, description="a model's name; the study's by default")
    task: Literal["paperqa", "squad", "chronicle"] = Field(
        "paperqa", description="paperqa or squad or chronicle"
    )
    documents: int = Field(4, ge=2, le=10_000, description="2 to 10,000")
    activated: bool = Field(True, description="true or false")
    formats: Text = Field("original", description="such as qa:40,original")
    generator: Text = Field(
        "given", description="given (with the task), local, openai:MODEL or file:PATH"
    )
    objective: objectives.Name = Field("ce", description=", ".join(objectives.NAMES))
    protect_share: float = Field(0.0, ge=0, le=0.9, description="0 to 0.9: of ordinary text")
    budget: Literal["exposures", "tokens", "steps"] = Field(
        "exposures", description="exposures, tokens, steps"
    )
    amount: int = Field(
        6, ge=1, le=1_000_000, description="1 to 1,000,000: of exposures, tokens or steps"
    )
    r: int = Field(8, ge=1, le=MAX_R, description=f"1 to {MAX_R}")
    layers: Text = Field("all", description=LAYERS)
    target_modules: Text = Field("all-linear", description=TARGET_MODULES)
    batch_size: int = Field(8, ge=1, le=4096, description="1 to 4,096")
    lr: float = Field(default_factory=lr_for_rank, gt=0, le=1, description=LR)
    written: int = Field(
        0, ge=0, le=1000, description="0 to 1,000: answers written out for each document"
    )
    new_tokens: int | None = Field(
        32, ge=1, le=4096, description="1 to 4,096: of an answer that is written out"
    )
    seed: int = Field(0, ge=0, le=2**31, description="0 or more")

    def normalised(self) -> Self:
        """Return the cell with its formats spelled in one way."""
        changes: dict[str, object] = {"formats": ",".join(map(str, parse_formats(self.formats)))}
        if not self.written:
            changes["new_tokens"] = None
        return self.model_copy(update=changes)

    @property
    def base_name(self) -> str | None:
        """Return the base model that the cell asks for; None for the study's."""
        return self.base

    @property
    def questions_key(self) -> str:
        """Return a text that is equal for cells that are asked the same questions alike."""
        return json.dumps([self.base, self.task, self.documents, self.activated])

    @property
    def short_name(self) -> str:
        """Return the task, the formats, who made them, the objective, the budget and the rate."""
        generator = self.generator.removeprefix("file:").replace(":", "-").replace("/", "-")
        parts = [self.task, self.formats.replace(":", "").replace(",", "+")]
        parts += [] if generator == "given" else [generator]
        parts += [self.objective] if self.objective != "ce" else []
        parts += [f"p{self.protect_share:g}"] if self.protect_share else []
        parts += [f"{self.budget[0]}{self.amount}", f"lr{self.lr:g}", f"s{self.seed}"]
        return "-".join(parts)
