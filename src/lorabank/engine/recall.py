"""Recall: ask an adapter for every fact, and say which it gives."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from lorabank.engine.adapters.adapter import Adapter, is_plain_lora, load_adapter, read_record
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import RenderedForm
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import (
    AnswerReading,
    recall_share,
    score_replies,
)
from lorabank.engine.inference.recall_check import (
    encode_forms,
    held_out_form,
    read_forms,
    smallest_leads,
)
from lorabank.engine.peft_backend.wrapped import opened
from lorabank.errors import UsageError
from lorabank.tasks.examples import Example, ExampleLike, as_examples
from lorabank.tasks.made_wordings import reword
from lorabank.tasks.scoring.exact_match import SCORERS, TOKENS


@dataclass(frozen=True, slots=True)
class RecallReport:
    """The facts an adapter was asked for, and how many of them it gives."""

    recall: float
    """Share of the facts that it gives."""
    facts: int
    score: str
    """Rule by which a reply counts: `tokens`, `text` or `published` (scoring/exact_match.py)."""
    missing: tuple[str, ...]
    """Questions whose answers it does not give."""
    recall_by_rendering: dict[str, float]
    """Share of the facts that it gives by each form in which programs render the prompts, the
    template's own first; the recipe `paper` has a form of its own."""
    reworded: int
    """Number of wordings of the facts that the adapter was never trained on, given or made."""
    recall_reworded: float | None
    """Share of them whose answers it gives by their tokens; None where there are none."""
    smallest_lead: float
    """Nats by which the tokens of all answers lead every other token, of the one that leads least
    under any rendering; below 0 where an answer is not given."""
    mean_bits_missing: float
    """Mean over the facts of -log2 of the probability the adapter gives the answer."""
    adapter: str | None
    """Folder of the adapter; None for one in memory."""
    base: str
    """Name of the base model."""

    def as_json(self) -> dict[str, Any]:
        return {
            "recall": self.recall,
            "facts": self.facts,
            "score": self.score,
            "recall_by_rendering": self.recall_by_rendering,
            "reworded": self.reworded,
            "recall_reworded": self.recall_reworded,
            "smallest_lead": self.smallest_lead,
            "missing": list(self.missing),
            "mean_bits_missing": self.mean_bits_missing,
            "adapter": self.adapter,
            "base": self.base,
        }


def recall(
    base: Base,
    adapter: Adapter | Path | str,
    examples: Iterable[ExampleLike],
    *,
    score: str | None = None,
) -> RecallReport:
    """Ask an adapter, or the folder of one, for the answers of examples.

    Args:
        adapter: a LoRA adapter, or the folder of any adapter that PEFT reads.
        examples: `Example`s, (prompt, answer) pairs or dicts.
        score: `tokens`, `text` or `published`; by default the one that fits the adapter's recipe.

    Raises:
        UsageError: no examples, or an unknown score.
        AdapterError: a folder without an adapter, damaged, or of another base model.
    """
    facts = as_examples(examples)
    if not facts:
        raise UsageError("there is nothing to ask: give at least one example")
    folder = None if isinstance(adapter, Adapter) else Path(adapter)
    record = adapter.record if isinstance(adapter, Adapter) else read_record(Path(adapter))
    score = choose_score(record, score)
    lora = adapter if isinstance(adapter, Adapter) else None
    if folder is not None and is_plain_lora(folder):
        lora = load_adapter(folder, base)
    activated = lora is not None and lora.activated
    forms = encode_forms(base, facts, _recipe(record), activated=activated)
    held_out = _held_out_form(base, facts, record, activated=activated)
    with ExitStack() as stack:
        fleet = None
        if lora is not None:
            fleet = stack.enter_context(loaded_fleet(base, [lora]))
        elif folder is not None:
            stack.enter_context(opened(folder, base))
        readings_by_form = read_forms(base, (*forms, held_out), fleet=fleet)
        recalled_by_form = {
            form.name: _judge(base, form, readings_by_form[form.name], score, fleet)
            for form in forms
        }
    reworded = readings_by_form.pop(held_out.name)
    readings, recalled = readings_by_form[forms[0].name], recalled_by_form[forms[0].name]
    missing = tuple(
        fact.question for fact, is_given in zip(facts, recalled, strict=True) if not is_given
    )
    return RecallReport(
        recall=(len(facts) - len(missing)) / len(facts),
        facts=len(facts),
        score=score,
        recall_by_rendering={name: fmean(hits) for name, hits in recalled_by_form.items()},
        reworded=len(held_out.prompts),
        recall_reworded=recall_share(reworded) if reworded else None,
        smallest_lead=min(smallest_leads(readings_by_form.values())),
        missing=missing,
        mean_bits_missing=sum(reading.bits for reading in readings) / len(readings),
        adapter=None if folder is None else str(folder),
        base=base.info.name,
    )


def _held_out_form(
    base: Base, facts: Sequence[Example], record: dict[str, Any], *, activated: bool
) -> RenderedForm:
    """Return the held-out wordings of facts: rules make them as they did for the adapter."""
    n = record.get("settings", {}).get("wordings", 0)
    reworded = reword(facts, n if isinstance(n, int) else 0)
    return held_out_form(base, reworded, _recipe(record), activated=activated)


def _judge(
    base: Base,
    form: RenderedForm,
    readings: Sequence[AnswerReading],
    score: str,
    fleet: Fleet | None,
) -> list[bool]:
    """Return whether each answer is given in a form, by the score."""
    if score == TOKENS:
        return [reading.recalled for reading in readings]
    slots = None if fleet is None else [0] * len(readings)
    return score_replies(
        base, form.prompts, SCORERS[score], fleet=fleet, slots=slots, readings=readings
    )


def choose_score(record: dict[str, Any], score: str | None) -> str:
    """Return how replies of an adapter with this record are scored, unless `score` says it.

    Raises:
        UsageError: an unknown score.
    """
    score = score or ("published" if _recipe(record) == "paper" else TOKENS)
    if score not in (TOKENS, *SCORERS):
        raise UsageError(f"--score must be {TOKENS}, {' or '.join(SCORERS)}, got {score!r}")
    return score


def _recipe(record: dict[str, Any]) -> str:
    return str(record.get("settings", {}).get("recipe", "sound"))
