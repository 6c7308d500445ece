"""Recall: ask an adapter for every fact, and say which it gives."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorabank.engine.adapters.adapter import Adapter, is_plain_lora, load_adapter, read_record
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import encode_dataset
from lorabank.engine.inference.answer_readings import read_answers, score_replies
from lorabank.engine.peft_backend.wrapped import opened
from lorabank.errors import UsageError
from lorabank.tasks.examples import ExampleLike, as_examples
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
    lora: Adapter | None
    if isinstance(adapter, Adapter):
        lora = adapter
    else:
        lora = load_adapter(adapter, base) if is_plain_lora(Path(adapter)) else None
    prompts = encode_dataset(
        base.chat,
        facts,
        recipe=_recipe(record),
        max_tokens=base.max_tokens,
        activated=lora is not None and lora.activated,
    ).prompts
    with ExitStack() as stack:
        fleet, slots = None, None
        if lora is not None:
            fleet, slots = stack.enter_context(loaded_fleet(base, [lora])), [0] * len(facts)
        elif folder is not None:
            stack.enter_context(opened(folder, base))
        readings = read_answers(base, prompts, fleet=fleet, slots=slots)
        recalled = [reading.recalled for reading in readings]
        if score != TOKENS:
            recalled = score_replies(
                base, prompts, SCORERS[score], fleet=fleet, slots=slots, readings=readings
            )
    missing = tuple(
        fact.question for fact, is_given in zip(facts, recalled, strict=True) if not is_given
    )
    return RecallReport(
        recall=(len(facts) - len(missing)) / len(facts),
        facts=len(facts),
        score=score,
        missing=missing,
        mean_bits_missing=sum(reading.bits for reading in readings) / len(readings),
        adapter=None if folder is None else str(folder),
        base=base.info.name,
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
