"""What one training run does: every knob, and the two recipes they come from.

`SOUND` is what we believe in; `PAPER` is what the reference code of arXiv:2603.01097 did (fixed
steps whatever the data, loss on every token, the answer inside the user's turn). A run is one of
the two with some knobs changed; the resolved whole is stored with the adapter.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from lorabank.errors import UsageError
from lorabank.lora import objectives, variants
from lorabank.lora.shapes import ALL_LINEAR

RECIPE_NAMES = ("sound", "paper")
SCHEDULES = ("settle", "constant", "cosine", "plateau")
PEFT_PREFIX = "peft:"


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """One adapter's training, resolved."""

    recipe: str = "sound"
    """`sound` or `paper`: how examples become tokens and which tokens carry loss."""

    variant: str = "lora"
    """lora, rslora, pissa, orthogonal, frozen-a (lora/variants.py); through PEFT dora or
    `peft:<tuner>` (engine/tuner.py)."""

    objective: str = "ce"
    """ce, memft-threshold, memft-window (lora/objectives.py), distil (lora/distil.py): learn from
    the base with each example's document before it."""

    teacher_k: int = 128
    """Words of a teacher's distribution that are kept at each token; the rest is one lump."""

    teacher_hidden: float = 1.0
    """Weight of the hidden states' distance from the teacher's; 0 = off. Never on ordinary text."""

    protect_share: float = 0.0
    """Share of what is trained on that is ordinary text, on which to stay as the base is."""

    r: int = 8
    """Rank."""

    alpha: float = 16.0
    """`lora_alpha`; the update is scaled by alpha / r."""

    target_modules: tuple[str, ...] = (ALL_LINEAR,)
    """PEFT's module names, or all-linear, attention, ffn."""

    layers: tuple[int, ...] | str | None = None
    """Blocks that are adapted: their numbers, or text such as `last-10` (lora/shapes.py), which
    `plan_job` turns into the base's numbers; None for all."""

    lr: float = 1e-3
    """Peak learning rate of AdamW."""

    schedule: str = "settle"
    """After the warm-up: `settle` with what is left to learn, `constant`, `cosine` to 0, or
    `plateau`: halved whenever the loss stands still, and done when that no longer helps."""

    warmup_steps: int = 3
    """Steps over which the learning rate rises from 0."""

    weight_decay: float = 0.0
    """AdamW's, on A and B."""

    dropout: float = 0.0
    """On the adapter's input, in training only."""

    clip: float = 1.0
    """Largest gradient norm of the adapter; 0 = off."""

    batch_size: int = 8
    """Examples a step."""

    exposures: int = 60
    """How often each example is trained on, at most; ignored where `steps` is set."""

    steps: int | None = None
    """A fixed number of steps, as the paper has it; exposures then depend on the data."""

    until_recall: float | None = 1.0
    """Stop once this share is recalled, verified; None to spend the whole budget."""

    activated: bool = True
    """The adapter is on from the assistant's header (aLoRA), not on every token."""

    seed: int = 0
    """Of the initial weights, the order of examples and the dropout masks."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained, naming the flag."""
        if not self.through_peft:
            variants.parse(self.variant)
        _check(
            not (self.through_peft and self.activated),
            f"--variant {self.variant} works on every token only (activation is LoRA's); "
            "add --always-on",
        )
        objectives.parse(self.objective)
        self._check_teacher()
        names = " or ".join(RECIPE_NAMES)
        _check(self.recipe in RECIPE_NAMES, f"--recipe must be {names}, got {self.recipe!r}")
        _check(
            self.schedule in SCHEDULES,
            f"schedule must be {', '.join(SCHEDULES)}, got {self.schedule!r}",
        )
        _check(self.r >= 1, f"--r must be at least 1, got {self.r}")
        _check(0 < self.alpha <= 1e6, f"--alpha must be above 0, at most 1e6, got {self.alpha}")
        _check(0 < self.lr < 1, f"--lr must be between 0 and 1, got {self.lr}")
        _check(self.batch_size >= 1, f"--batch-size must be at least 1, got {self.batch_size}")
        _check(self.exposures >= 1, f"--exposures must be at least 1, got {self.exposures}")
        _check(self.steps is None or self.steps >= 1, f"steps must be at least 1, got {self.steps}")
        _check(
            self.until_recall is None or 0 < self.until_recall <= 1,
            f"--until-recall must be above 0 and at most 1, got {self.until_recall}",
        )

    def _check_teacher(self) -> None:
        has_teacher = self.objective == "distil" or self.protect_share > 0
        _check(
            not (has_teacher and (self.through_peft or self.recipe == "paper")),
            "objective distil and protect_share go with recipe sound and variants a fleet trains, "
            f"got recipe {self.recipe}, variant {self.variant}",
        )
        _check(self.teacher_k >= 1, f"teacher_k must be at least 1, got {self.teacher_k}")
        _check(
            0 <= self.teacher_hidden < math.inf,
            f"teacher_hidden must be at least 0, got {self.teacher_hidden}",
        )
        _check(
            0 <= self.protect_share <= 0.9,
            f"protect_share must be at least 0 and at most 0.9, got {self.protect_share}",
        )

    @property
    def regularisation_per_example(self) -> float:
        return self.protect_share / (1 - self.protect_share)

    @property
    def through_peft(self) -> bool:
        """Whether PEFT trains it, alone, instead of a fleet."""
        return self.variant == "dora" or self.variant.startswith(PEFT_PREFIX)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise UsageError(message)


SOUND = TrainSettings()
PAPER = TrainSettings(
    recipe="paper",
    r=16,
    alpha=16.0,
    lr=5e-5,
    schedule="cosine",
    warmup_steps=0,
    weight_decay=0.01,
    dropout=0.1,
    steps=1500,
    until_recall=None,
    activated=False,
)


def lr_for(r: int) -> float:
    """The sound recipe's peak rate at a rank: 1e-3 at r=8, and falling with the root of the rank.

    At alpha = 2r what has been learnt after the same exposures goes by lr * sqrt(r): along 8e-3 the
    loss of 24 phone numbers was .31, .34 and .35 at r = 1, 4 and 16 (docs/LOG.md).
    """
    return SOUND.lr * math.sqrt(SOUND.r / max(1, r))


def settings_for(recipe: str, **changes: Any) -> TrainSettings:
    """The recipe with some knobs changed; None leaves a knob as the recipe has it.

    `alpha` follows `r` at the recipe's own ratio unless it is given, and so does the sound recipe's
    `lr`, by `lr_for`. Asking for `exposures` sets
    aside the paper's fixed number of steps.

    Raises:
        UsageError: an unknown recipe or a value out of range.
    """
    base = PAPER if recipe == "paper" else replace(SOUND, recipe=recipe)
    given = {name: value for name, value in changes.items() if value is not None}
    if "r" in given and "alpha" not in given:
        given["alpha"] = base.alpha / base.r * given["r"]
    if "r" in given and recipe == "sound":
        given.setdefault("lr", lr_for(given["r"]))
    if "exposures" in given:
        given.setdefault("steps", None)
        if "until_recall" not in given:
            given["until_recall"] = None  # a stated budget is spent
    return replace(base, **given)
