"""Which passages of a document stuck: by the examples taught, and by questions that were not.

A passage has not stuck where fewer than half of its examples are recalled, or where the answers to
its held-out questions are no likelier than the bare model has them. How much likelier is counted in
nats per token of the gold answer, which is sensitive where written answers are not yet right.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lorabank.bank.write.drafts import ModuleDraft
from lorabank.engine.backbone.base import Base
from lorabank.engine.evaluation.evaluate import QuestionSet, prepare_questions
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import AnswerReading
from lorabank.engine.inference.generate import generate
from lorabank.tasks.scoring.text_metrics import token_f1

MOST_WRITTEN = 64
"""Held-out questions of a write that are answered in words, at most."""
_STUCK = 0.5  # of a passage's examples
_SLACK, _MOST = 8, 64  # tokens an answer may run on, and at most


@dataclass(frozen=True, slots=True)
class PassageResult:
    """How a passage came out."""

    document: str
    heading: str
    words: str
    examples: int
    recall: float | None
    """None where nothing is taught of it."""
    held_out: int
    gain_nats: float | None
    """Per token; None without held-out questions."""

    @property
    def has_stuck(self) -> bool:
        return (
            self.recall is not None
            and self.recall >= _STUCK
            and (self.gain_nats is None or self.gain_nats > 0)
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_held_out(
    base: Base, parcels: Sequence[ModuleDraft], *, activated: bool
) -> list[QuestionSet]:
    """Return the held-out questions of each parcel, passage by passage; some sets may be empty.

    Raises:
        DataError: a question and answer longer than the model takes.
    """
    return [
        prepare_questions(
            base,
            [example for passage in parcel.passages for example in passage.held_out],
            activated=activated,
        )
        for parcel in parcels
    ]


def judge_passages(
    parcel: ModuleDraft, taught: Sequence[AnswerReading], gains: Sequence[float]
) -> list[PassageResult]:
    """On each passage of a parcel.

    Args:
        taught: of the parcel's examples; gains: of its exam.
    """
    rest = iter(gains)
    verdicts = []
    for passage in parcel.passages:
        hits = [taught[i].recalled for i in passage.examples]
        its = [next(rest) for _ in passage.held_out]
        verdicts.append(
            PassageResult(
                passage.document,
                passage.heading,
                passage.words,
                examples=len(hits),
                recall=mean(hits),
                held_out=len(its),
                gain_nats=mean(its),
            )
        )
    return verdicts


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def score_written_answers(
    base: Base, fleet: Fleet, held_out: Sequence[QuestionSet]
) -> list[tuple[list[float], list[float]]]:
    """Token F1 of answers written out by the bare model and by each slot's module.

    Of all sets together `MOST_WRITTEN` questions at most are answered, the same share of each.
    """
    total = sum(map(len, held_out))
    share = min(1.0, MOST_WRITTEN / max(1, total))
    chosen = [
        (slot, probe)
        for slot, questions in enumerate(held_out)
        for i, probe in enumerate(questions.prompts)
        if int((i + 1) * share) > int(i * share)
    ]
    prompts = [probe.prompt_ids for _, probe in chosen]
    longest = max((len(probe.answer_ids) for _, probe in chosen), default=0)
    replies = generate(
        base,
        prompts + prompts,
        fleet=fleet,
        slots=[slot for slot, _ in chosen] * 2,
        adapter_scales=[0.0] * len(prompts) + [1.0] * len(prompts),
        max_new_tokens=min(longest + _SLACK, _MOST),
    )
    scores = [token_f1(reply, p.answer) for reply, (_, p) in zip(replies, chosen * 2, strict=True)]
    bare, own = scores[: len(chosen)], scores[len(chosen) :]
    return [
        (
            [f1 for f1, (owner, _) in zip(bare, chosen, strict=True) if owner == slot],
            [f1 for f1, (owner, _) in zip(own, chosen, strict=True) if owner == slot],
        )
        for slot in range(len(held_out))
    ]
