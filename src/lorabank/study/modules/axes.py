"""The axes of studies about banks: what is written into modules, and how questions are answered.

The fields down to `one_seed` describe the library that is trained; cells with the same library
share it. The fields after it describe how the library is read: by which router, gated or not,
merged how and with how many other modules.
"""

import json
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from lorabank.errors import UsageError
from lorabank.lora.merge import RULES
from lorabank.study.axes import (
    LAYERS,
    LR,
    MAX_R,
    TARGET_MODULES,
    Axes,
    Text,
    lr_for_rank,
    one_of,
)

EACH, TOTAL, LEARNT = "each", "total", "learnt"
"""Budgets: `steps` for every module, `steps` shared out among them, until recall."""
_READING = ("measure", "router", "gated", "rule", "norm", "merged", "subset", "new_tokens")


def _modules(axes: dict[str, Any]) -> int:
    return int(axes["documents"])


def _merged(axes: dict[str, Any]) -> int:
    return 3 if axes["measure"] == "merging" else 1


class ModulesAxes(Axes):
    """A cell of a study about modules: a library, and one way of answering its questions."""

    added: ClassVar[tuple[str, ...]] = ("one_seed",)

    task: Literal["phonebook", "paperqa", "squad"] = Field(
        "phonebook", description="phonebook or paperqa or squad"
    )
    documents: int = Field(
        8, ge=1, le=10_000, description="1 to 10,000: sectors, papers or passages"
    )
    facts: int = Field(24, ge=1, le=100_000, description="1 to 100,000: examples of each document")
    modules: int = Field(
        default_factory=_modules,
        ge=1,
        le=10_000,
        description="1 to documents; as many by default",
    )
    prefix: bool = Field(False, description="true or false: the paper's id before each question")
    r: int = Field(8, ge=1, le=MAX_R, description=f"1 to {MAX_R}")
    layers: Text = Field("all", description=LAYERS)
    target_modules: Text = Field("all-linear", description=TARGET_MODULES)
    activated: bool = Field(True, description="true or false")
    budget: Annotated[int, Field(ge=1, le=100_000)] | Literal["each", "total", "learnt"] = Field(
        "learnt", description="a number of exposures, each, total or learnt"
    )
    steps: int | None = Field(
        None, ge=1, le=1_000_000, description="1 to 1,000,000, with budget each or total"
    )
    batch_size: int = Field(8, ge=1, le=4096, description="1 to 4,096")
    lr: float = Field(default_factory=lr_for_rank, gt=0, le=1, description=LR)
    seed: int = Field(0, ge=0, le=2**31, description="0 or more")
    one_seed: bool = Field(
        True, description="true or false: all adapters start from the same weights"
    )
    measure: Literal["partition", "routing", "merging"] = Field(
        "partition", description="partition, routing, merging"
    )
    router: Literal["oracle", "bm25", "dense", "hybrid", "arrow", "spectr", "lag"] = Field(
        "oracle", description="oracle, bm25, dense, hybrid, arrow, spectr, lag"
    )
    gated: bool = Field(False, description="true or false")
    rule: Annotated[str, one_of(RULES)] | None = Field(None, description=", ".join(RULES))
    norm: Literal["published", "matched"] = Field("published", description="published or matched")
    merged: int = Field(
        default_factory=_merged,
        ge=1,
        le=10_000,
        description="1 to modules: how many are merged",
    )
    subset: int = Field(
        0, ge=0, le=2**31, description="0 or more: number of the draw of merged modules"
    )
    new_tokens: int = Field(
        0, ge=0, le=4096, description="0 to 4,096: of answers written out; 0 for none"
    )

    def normalised(self) -> Self:
        """Return the cell without `steps` where the budget is another."""
        if self.measure != "routing":
            self._refuse("routing", router="oracle", gated=False)
        if self.measure != "merging":
            self._refuse("merging", rule=None, norm="published", merged=1, subset=0)
        elif self.rule is None:
            raise UsageError(f"measure merging takes a rule: {', '.join(RULES)}")
        elif self.merged > self.modules:
            raise UsageError(f"merged is at most modules, got {self.merged} of {self.modules}")
        if self.documents % self.modules:
            raise UsageError(
                f"{self.documents} documents cannot be shared out evenly to {self.modules} "
                "modules; take a number that divides them"
            )
        if self.prefix and self.task != "paperqa":
            raise UsageError(f"prefix is for the task paperqa, got {self.task}")
        if self.budget not in (EACH, TOTAL):
            return self.model_copy(update={"steps": None})
        if not self.steps:
            raise UsageError(f"budget {self.budget} takes steps, as in --set steps=1500")
        return self

    def _refuse(self, measure: str, **defaults: Any) -> None:
        """Refuse axes of another measure that are not at their defaults."""
        for name, value in defaults.items():
            if getattr(self, name) != value:
                raise UsageError(f"{name} is for measure={measure}, this cell's is {self.measure}")

    @property
    def short_name(self) -> str:
        """Return the task, the library's size and budget, and how questions are answered."""
        budget = f"e{self.budget}" if isinstance(self.budget, int) else self.budget
        parts = [self.task, f"m{self.modules}", f"r{self.r}", budget]
        if self.measure == "routing":
            parts += [self.router, *(["gated"] if self.gated else [])]
        if self.measure == "merging":
            parts += [str(self.rule).replace("/", ""), f"of{self.merged}", self.norm]
            parts += [f"d{self.subset}"]
        parts += ["prefix"] if self.prefix else []
        parts += [] if self.one_seed else ["own-seeds"]
        return "-".join([*parts, f"s{self.seed}"])

    @property
    def n_exposures(self) -> int | None:
        """Return how often every fact is trained on; None where training ends with recall.

        With one module, steps in all and steps for every module are the same; where batches are
        full, so are equal steps in all and equal exposures. Such cells share a library.
        """
        if isinstance(self.budget, int):
            return self.budget
        if self.budget == LEARNT or self.steps is None:
            return None
        steps = self.steps / (self.modules if self.budget == TOTAL else 1)
        n_examples = self.facts * self.documents // self.modules
        return max(1, round(steps / -(-n_examples // self.batch_size)))

    @property
    def library_key(self) -> str:
        """Return a text that is equal for cells that read the same trained modules."""
        library = self.model_dump(exclude={"budget", "steps", *_READING})
        return json.dumps([self.n_exposures, library])
