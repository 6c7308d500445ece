"""Settings of one adapter's training, and the two recipes they come from.

`SOUND` is the recipe we recommend. `PAPER` is what the reference code of arXiv:2603.01097 did: a
fixed number of steps whatever the data, loss on every token, the answer inside the user's turn. A
run is one of the two with some settings changed; the resolved whole is stored with the adapter.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from lorabank.errors import UsageError
from lorabank.lora import objectives, variants
from lorabank.lora.shapes import ALL_LINEAR
from lorabank.tasks.made_wordings import MOST_WORDINGS

RECIPE_NAMES = ("sound", "paper")
SCHEDULES = ("adaptive", "constant", "cosine", "plateau")
_FORMER_SCHEDULES = {"settle": "adaptive"}  # as older records and commands have it
PEFT_PREFIX = "peft:"


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """All settings of one adapter's training."""

    recipe: str = "sound"
    """Rule by which examples become tokens and tokens carry loss: `sound` or `paper`."""

    variant: str = "lora"
    """Kind of adapter: lora, rslora, pissa, orthogonal or frozen-a (lora/variants.py); through
    PEFT dora or `peft:<tuner>` (engine/peft_backend/tuner.py)."""

    objective: str = "ce"
    """Loss: ce, memft-threshold, memft-window, or distil, which learns from the base with each
    example's document before it (lora/objectives.py)."""

    teacher_k: int = 128
    """Likeliest tokens of a teacher's distribution that are stored at each position; all others
    count as a single outcome."""

    teacher_hidden: float = 1.0
    """Weight of the hidden states' distance from the teacher's; 0 to leave it out. Regularisation
    examples never have it."""

    protect_share: float = 0.1
    """Share of regularisation examples among the training rows, on which the adapter learns to
    predict what the base predicts."""

    protect_directions: float = 0.0
    """Share of each layer's input directions, those in which ordinary text varies most, that the
    adapter does not see, so that it leaves ordinary text as it is; 0 for none."""

    protect_others: float = 0.0
    """Weight in the loss of an answer of how far all other words move from what the bare model
    predicts of them (engine/training/other_words.py); 0 to leave it out."""

    r: int = 8
    """Rank of the adapter; with `auto_r` the rank it starts at."""

    auto_r: bool = False
    """Whether the rank follows need: it is doubled while the loss stands still and facts miss, and
    what recalls is shrunk layer by layer as long as all answers are kept, by the margin."""

    alpha: float = 16.0
    """PEFT's `lora_alpha`; the update is scaled by alpha / r."""

    target_modules: tuple[str, ...] = (ALL_LINEAR,)
    """Modules to adapt, by PEFT's names, or all-linear, attention, ffn."""

    layers: tuple[int, ...] | str | None = "last-half"
    """Decoder layers that are adapted: their numbers, or text such as `last-10` or `all`
    (lora/shapes.py), which `plan_job` turns into the base's numbers; None for all. What the layers
    below the lowest one put out is computed once and kept."""

    lr: float = 2e-3
    """Peak learning rate of AdamW."""

    schedule: str = "adaptive"
    """Learning rate after the warm-up: `adaptive` follows the share of examples still wrong,
    `constant` stays, `cosine` falls to 0, `plateau` is halved whenever the loss stands still and
    ends the job when that no longer helps. The former name `settle` is read as `adaptive`."""

    warmup_steps: int = 3
    """Steps over which the learning rate rises from 0."""

    weight_decay: float = 0.0
    """Weight decay of AdamW on A and B."""

    dropout: float = 0.0
    """Dropout rate on the adapter's input, in training only."""

    clip: float = 1.0
    """Largest gradient norm of the adapter; 0 for no limit."""

    batch_size: int = 4
    """Examples in a step."""

    exposures: int = 60
    """Largest number of times each example is trained on; ignored where `steps` is set."""

    steps: int | None = None
    """Fixed number of steps, as in the paper; exposures then depend on the data. None to
    train by `exposures`."""

    until_recall: float | None = 1.0
    """Verified share of recalled examples at which training stops; None to use all exposures."""

    margin: float = 1.0
    """Nats by which every token of an answer, its end included, leads all other tokens where
    training stops by `until_recall`, so that recall survives other precisions, batches and
    programs; 0 to stop as soon as answers are right."""

    renderings: str = "all"
    """Forms of the prompts: `all` in which other programs render them, in turn, or the
    `template`'s own only. The recipe `paper` has a form of its own."""

    wordings: int = 4
    """Wordings a fact is taught in, its own and the given ones included; rules make what is missing
    (tasks/made_wordings.py). 0 to make none."""

    reverse: bool = False
    """Whether facts are also taught the other way round, where that makes sense."""

    activated: bool = True
    """Whether the adapter works from the assistant's header on (aLoRA) or on every token."""

    seed: int = 0
    """Seed of the initial weights, the order of examples and the dropout masks."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained, naming the command's option."""
        object.__setattr__(self, "schedule", _FORMER_SCHEDULES.get(self.schedule, self.schedule))
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
        _check(
            0 <= self.protect_directions <= 0.9,
            f"protect_directions must be 0 to 0.9, got {self.protect_directions}",
        )
        _check(
            not (self.protect_directions and (self.through_peft or self.variant == "pissa")),
            f"--variant {self.variant} has an A of its own that cannot be kept from ordinary text; "
            "leave --protect-directions out",
        )
        _check(
            not self.auto_r or (self.variant == "lora" and self.recipe == "sound"),
            f"--r auto takes --recipe sound and --variant lora, got {self.recipe}, {self.variant}",
        )
        _check(
            not self.auto_r or self.until_recall is not None,
            "--r auto goes by recall; add --until-recall to --exposures",
        )
        _check(self.r >= 1, f"--r must be at least 1, got {self.r}")
        _check(0 < self.alpha <= 1e6, f"--alpha must be above 0, at most 1e6, got {self.alpha}")
        _check(0 < self.lr < 1, f"--lr must be between 0 and 1, got {self.lr}")
        _check(self.batch_size >= 1, f"--batch-size must be at least 1, got {self.batch_size}")
        _check(self.exposures >= 1, f"--exposures must be at least 1, got {self.exposures}")
        _check(self.steps is None or self.steps >= 1, f"steps must be at least 1, got {self.steps}")
        _check(0 <= self.margin <= 20, f"--margin must be 0 to 20 nats, got {self.margin}")
        _check(
            self.renderings in ("all", "template"),
            f"renderings must be all or template, got {self.renderings!r}",
        )
        _check(
            0 <= self.wordings <= MOST_WORDINGS,
            f"--wordings must be 0..{MOST_WORDINGS}, got {self.wordings}",
        )
        _check(
            not (self.reverse and self.objective == "distil"),
            "--reverse takes facts alone: with objective distil each has a document",
        )
        _check(
            self.until_recall is None or 0 < self.until_recall <= 1,
            f"--until-recall must be above 0 and at most 1, got {self.until_recall}",
        )

    def _check_teacher(self) -> None:
        has_teacher = self.objective == "distil" or self.protect_share or self.protect_others
        _check(
            not (has_teacher and (self.through_peft or self.recipe == "paper")),
            "objective distil, protect_share and protect_others need --recipe sound and a variant "
            f"of LoRA, got recipe {self.recipe}, variant {self.variant}",
        )
        _check(
            0 <= self.protect_others <= 100,
            f"protect_others must be 0 to 100, got {self.protect_others}",
        )
        _check(
            not self.protect_others or self.objective == "ce",
            f"protect_others goes with objective ce, got {self.objective}",
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
        """Number of regularisation examples for each example of the data."""
        return self.protect_share / (1 - self.protect_share)

    @property
    def through_peft(self) -> bool:
        """Whether PEFT trains the adapter, alone, instead of a fleet."""
        return self.variant == "dora" or self.variant.startswith(PEFT_PREFIX)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainSettings":
        """Return the settings that `as_json` wrote, maybe in a record of somebody else.

        Raises:
            UsageError: a setting is unknown, of another type, or cannot be trained with.
        """
        try:
            read: dict[str, Any] = {
                name: tuple(v) if isinstance(v, list) else v for name, v in values.items()
            }
            made = cls(**read)
        except (TypeError, ValueError, AttributeError, OverflowError, UsageError) as error:
            raise UsageError(f"settings that cannot be used: {error}") from None
        for name, default in cls().as_json().items():
            kind = float if isinstance(default, float) else type(default)
            value = getattr(made, name)
            fits = type(value) is kind or (kind is float and type(value) is int)
            if name == "layers":
                fits = value is None or isinstance(value, str | tuple)
            if isinstance(default, bool | int | float | str) and value is not None and not fits:
                raise UsageError(f"settings that cannot be used: {name} is {value!r:.40}")
        return made


def _check(is_valid: bool, message: str) -> None:
    if not is_valid:
        raise UsageError(message)


SOUND = TrainSettings()
PLAIN = replace(
    SOUND,
    renderings="template",
    margin=0.0,
    wordings=0,
    protect_share=0.0,
    layers=None,
    lr=1e-3,
    batch_size=8,
)
"""The sound recipe as other trainers have it: one form of each prompt, no margin, no protection,
all layers, and the rate and batch that go with them."""
PAPER = TrainSettings(
    recipe="paper",
    layers=None,
    batch_size=8,
    r=16,
    alpha=16.0,
    lr=5e-5,
    schedule="cosine",
    warmup_steps=0,
    weight_decay=0.01,
    dropout=0.1,
    steps=1500,
    until_recall=None,
    margin=0.0,
    renderings="template",
    wordings=0,
    protect_share=0.0,
    activated=False,
)


def seed_for(seed: int, name: str) -> int:
    """Return the seed of one of many adapters: drawn from the seed of all and its own name.

    Adapters of one seed start from the same A. A merge of them is then as long as if they agreed
    (docs/LOG.md), so the modules of a bank have a seed each.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def lr_for(r: int) -> float:
    """Return the sound recipe's peak rate at a rank: 2e-3 at r = 8, falling with the rank's root.

    At alpha = 2r, what is learned after the same exposures depends on lr * sqrt(r): with lr 1e-3 at
    r = 8 the loss of 24 phone numbers was .31, .34 and .35 at r = 1, 4 and 16 (docs/LOG.md).
    """
    return SOUND.lr * math.sqrt(SOUND.r / max(1, r))


def settings_for(recipe: str, **changes: Any) -> TrainSettings:
    """Return a recipe's settings with some changed; None leaves a setting as the recipe has it.

    `alpha` follows `r` at the recipe's own ratio unless it is given, and so does the sound recipe's
    `lr`, by `lr_for`. `exposures` replaces the paper's fixed number of steps, and all of them are
    used unless `until_recall` is given too.

    Raises:
        UsageError: an unknown recipe or a value out of range.
    """
    base = PAPER if recipe == "paper" else replace(SOUND, recipe=recipe)
    changed = {name: value for name, value in changes.items() if value is not None}
    variant = str(changed.get("variant", ""))
    if variant == "dora" or variant.startswith(PEFT_PREFIX):
        changed.setdefault("protect_share", 0.0)
    if "r" in changed and "alpha" not in changed:
        changed["alpha"] = base.alpha / base.r * changed["r"]
    if "r" in changed and recipe == "sound":
        changed.setdefault("lr", lr_for(changed["r"]))
    if "exposures" in changed:
        changed.setdefault("steps", None)
        if "until_recall" not in changed:
            changed["until_recall"] = None
    return replace(base, **changed)
