"""Shrinking: the smallest form of an adapter that still recalls what it recalls.

The singular triples of all layers stand in one order, by what they are worth for their size
(`lora/shrinking.py`). How many of them are kept is found by halving: each try is rounded to the
dtype it is stored in, read again, and asked for every fact in every form. So what is written has
been asked, and nothing is inferred from norms.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from lorabank.engine.adapters.adapter import Adapter
from lorabank.engine.adapters.packed import Packed, StoredDtype, pack
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import EvaluationPrompt, RenderedForm
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import AnswerReading, read_answers
from lorabank.engine.inference.recall_check import (
    REWORDED,
    encode_forms,
    held_out_form,
    recall_by_rendering,
    smallest_leads,
)
from lorabank.errors import UsageError
from lorabank.lora.factors import Factors
from lorabank.lora.shrinking import by_worth, ranks_of
from lorabank.lora.triples import triples_of
from lorabank.tasks.examples import Example

_STEPS = 200  # of the order of triples, to which the smallest form is found


@dataclass(frozen=True, slots=True)
class ShrinkSettings:
    """The choices of a shrinking.

    Raises:
        UsageError: a value out of range.
    """

    keep_recall: float = 0.99
    """Share of the answers given in each form, and of the held-out wordings, that are kept."""
    margin: float = 0.1
    """Nats by which a kept answer leads all other tokens; one that led by less is still given."""
    r: int | None = None
    """Largest rank of any layer; None for what recall allows."""
    dtype: StoredDtype = "float32"
    """Numbers that the adapter is stored in."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 < self.keep_recall <= 1:
            raise UsageError(
                f"--keep-recall must be above 0 and at most 1, got {self.keep_recall:g}"
            )
        if not 0 <= self.margin <= 20:
            raise UsageError(f"--margin must be 0 to 20 nats, got {self.margin:g}")
        if self.r is not None and self.r < 1:
            raise UsageError(f"--r must be at least 1, got {self.r}")


@dataclass(frozen=True, slots=True)
class Shrunk:
    """An adapter in its smaller form, with the proof."""

    adapter: Adapter
    """The adapter as it is read from its file again."""
    packed: Packed
    """The tensors as they are stored."""
    dtype: StoredDtype
    recall_before: Mapping[str, float]
    """Share of the answers given in each form before, by the form's name."""
    recall: Mapping[str, float]
    """Share of them given by the smaller form."""
    smallest_lead: float
    """Nats by which the taught answers lead in it, of the one that leads least in any rendering."""
    missing: tuple[int, ...]
    """Numbers of the examples whose answers it does not give in the first form."""
    parameters_before: int
    tries: int
    """Number of forms of the adapter that were asked."""

    @property
    def parameters(self) -> int:
        return sum(a.numel() + b.numel() for a, b in self.trimmed.values())

    @property
    def trimmed(self) -> dict[str, tuple[Any, Any]]:
        """Return A and B of each layer without padding."""
        ranks = self.packed.ranks
        return {p: (a[: ranks[p]], b[:, : ranks[p]]) for p, (a, b) in self.adapter.weights.items()}

    def as_json(self) -> dict[str, Any]:
        """Return what was kept and what it was proved by."""
        ranks = list(self.packed.ranks.values())
        return {
            "dtype": self.dtype,
            "largest_r": max(ranks),
            "mean_r": sum(ranks) / len(ranks),
            "layers": len(ranks),
            "parameters_before": self.parameters_before,
            "parameters": self.parameters,
            "recall_before": dict(self.recall_before),
            "recall": dict(self.recall),
            "smallest_lead": self.smallest_lead,
            "tries": self.tries,
        }


def forms_to_keep(
    base: Base, examples: Sequence[Example], recipe: str, *, activated: bool
) -> tuple[RenderedForm, ...]:
    """Return the forms in which an adapter is asked for its examples, held-out wordings last."""
    forms = encode_forms(base, examples, recipe, activated=activated)
    held_out = held_out_form(base, examples, recipe, activated=activated)
    return (*forms, held_out) if held_out.prompts else forms


def shrink(
    base: Base, adapter: Adapter, forms: Sequence[RenderedForm], settings: ShrinkSettings
) -> Shrunk:
    """Return the smallest form of an adapter that keeps its recall.

    Args:
        forms: what `forms_to_keep` returned; the first tells which examples are missing.

    Raises:
        UsageError: no form within `settings.r`, or in the dtype, keeps it; names what does.
    """
    layers = {
        path: triples_of(
            Factors(a.float().cpu(), b.float().cpu(), adapter.alpha / len(a))
        ).above_rounding()
        for path, (a, b) in adapter.weights.items()
    }
    order = by_worth(layers)
    if not order:
        raise UsageError("the adapter is zero in every layer, so there is nothing to shrink")
    fleet = Fleet(base, paths=list(adapter.weights), r=adapter.r)
    with fleet:
        proof = _Proof(fleet, adapter, forms, settings)

        def packed_at(n: int, most_r: int | None) -> Packed:
            ranks = ranks_of(order, n, most_r=most_r)
            chosen = {p: triples.leading(ranks[p]) for p, triples in layers.items() if p in ranks}
            return pack(chosen, settings.dtype)

        def holds(n: int, most_r: int | None = settings.r) -> bool:
            return proof.holds(packed_at(n, most_r))

        if not holds(len(order)):
            highest = max(len(triples.s) for triples in layers.values())
            _refuse(settings, highest, lambda r: holds(len(order), r))
        step = max(1, len(order) // _STEPS)
        return proof.shrunk(packed_at(_smallest(0, len(order), holds, step=step), settings.r))


def _smallest(low: int, high: int, holds: Callable[[int], bool], *, step: int) -> int:
    """Return the smallest number that holds, by halving, given that `high` does and `low` not.

    Recall need not fall evenly, so it is a number that holds where one by `step` smaller did not.
    """
    while high - low > step:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _refuse(settings: ShrinkSettings, highest: int, holds: Callable[[int], bool]) -> NoReturn:
    """Raise the error that names the smallest rank that holds, if the rank was the problem."""
    limits = f"--keep-recall {settings.keep_recall:g} (--margin {settings.margin:g})"
    if settings.r is not None and settings.r < highest and holds(highest):
        high = _smallest(settings.r, highest, holds, step=1)
        raise UsageError(
            f"--r {settings.r} does not keep {limits}; the smallest rank that does is {high}. "
            "Nothing was changed"
        )
    raise UsageError(
        f"--dtype {settings.dtype} does not keep {limits} even at the full rank; "
        f"{'take bf16 or float32' if settings.dtype != 'float32' else 'ask for less'}. "
        "Nothing was changed"
    )


class _Proof:
    """The answers that an adapter gives in each form, and whether a smaller form still does."""

    def __init__(
        self,
        fleet: Fleet,
        adapter: Adapter,
        forms: Sequence[RenderedForm],
        settings: ShrinkSettings,
    ):
        self.fleet, self.adapter, self.forms, self.dtype = fleet, adapter, forms, settings.dtype
        self.tries = 0
        fleet.load(0, adapter.weights, alpha=adapter.alpha, activated=adapter.activated)
        self.before = [self._read(form.prompts) for form in forms]
        # An answer that led by less than the margin has to be given, by however little.
        self._needed = [
            {
                i: settings.margin if reading.lead >= settings.margin else 0.0
                for i, reading in enumerate(readings)
                if reading.recalled
            }
            for readings in self.before
        ]
        share = 1 - settings.keep_recall
        self._allowed = [math.floor(len(needed) * share + 1e-9) for needed in self._needed]
        self._hardest: list[list[int]] = [[] for _ in forms]
        """Prompts of each form that a try has failed at, to be asked first."""

    def holds(self, packed: Packed) -> bool:
        """Return whether a form of the adapter keeps enough answers in every form of questions."""
        self.tries += 1
        self._load(packed)
        every = [list(needed) for needed in self._needed]
        for i, prompts in [*enumerate(self._hardest), *enumerate(every)]:
            lost = self._lost(i, prompts)
            if len(lost) > self._allowed[i]:
                self._hardest[i] = lost
                return False
        return True

    def shrunk(self, packed: Packed) -> Shrunk:
        """Return a form of the adapter with all that it answers."""
        self._load(packed)
        after = {form.name: self._read(form.prompts) for form in self.forms}
        before = {form.name: of_form for form, of_form in zip(self.forms, self.before, strict=True)}
        first = after[self.forms[0].name]
        taught = [readings for name, readings in after.items() if name != REWORDED]
        return Shrunk(
            adapter=replace(
                self.adapter, weights=packed.weights(), r=packed.r, alpha=float(packed.r)
            ),
            packed=packed,
            dtype=self.dtype,
            recall_before=recall_by_rendering(before),
            recall=recall_by_rendering(after),
            smallest_lead=min(smallest_leads(taught)),
            missing=tuple(i for i, reading in enumerate(first) if not reading.recalled),
            parameters_before=sum(a.numel() + b.numel() for a, b in self.adapter.weights.values()),
            tries=self.tries,
        )

    def _load(self, packed: Packed) -> None:
        activated = self.adapter.activated
        self.fleet.load(0, packed.weights(), alpha=float(packed.r), activated=activated)

    def _lost(self, form: int, indices: Sequence[int]) -> list[int]:
        """Return which of a form's prompts are not answered as they have to be."""
        prompts, needed = self.forms[form].prompts, self._needed[form]
        readings = self._read([prompts[i] for i in indices])
        pairs = zip(indices, readings, strict=True)
        return [i for i, reading in pairs if not reading.recalled or reading.lead < needed[i]]

    def _read(self, prompts: Sequence[EvaluationPrompt]) -> list[AnswerReading]:
        return read_answers(self.fleet.base, prompts, fleet=self.fleet, slots=[0] * len(prompts))
