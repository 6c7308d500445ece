"""Measures of which passages of a document stuck: by examples taught and by held-out questions.

A passage has not stuck where fewer than half of its examples are recalled, or where the answers to
its held-out questions are no likelier than to the bare model. How much likelier is counted in nats
per token of the gold answer, which shows progress before written answers are right.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lorabank.bank.drafts import ModuleDraft
from lorabank.engine.backbone.base import Base
from lorabank.engine.evaluation.evaluate import QuestionSet, prepare_questions
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import AnswerReading
from lorabank.engine.inference.generate import GenerationOptions, generate
from lorabank.tasks.scoring.text_metrics import token_f1

MOST_WRITTEN = 64
"""Most held-out questions of a write that are answered in words."""
_LEAST_RECALL = 0.5  # of a passage's examples, for it to have stuck
_EXTRA_TOKENS, _MOST_TOKENS = 8, 64  # beyond the longest gold answer, and in all


@dataclass(frozen=True, slots=True)
class PassageResult:
    """The measurements of one passage."""

    document: str
    heading: str
    words: str
    """First words of the passage."""
    examples: int
    """Number of examples that are taught of it."""
    recall: float | None
    """Recall of these examples; None where nothing is taught of the passage."""
    held_out: int
    """Number of held-out questions about it."""
    gain_nats: float | None
    """Nats per token that their answers gained; None without held-out questions."""

    @property
    def has_stuck(self) -> bool:
        return (
            self.recall is not None
            and self.recall >= _LEAST_RECALL
            and (self.gain_nats is None or self.gain_nats > 0)
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_held_out(
    base: Base, drafts: Sequence[ModuleDraft], *, activated: bool
) -> list[QuestionSet]:
    """Return the held-out questions of each draft, passage by passage; some sets may be empty.

    Raises:
        DataError: a question and answer longer than the model's context.
    """
    return [
        prepare_questions(
            base,
            [example for passage in draft.passages for example in passage.held_out],
            activated=activated,
        )
        for draft in drafts
    ]


def judge_passages(
    draft: ModuleDraft, readings: Sequence[AnswerReading], gains: Sequence[float]
) -> list[PassageResult]:
    """Return the result of each passage of a draft.

    Args:
        readings: readings of the draft's examples by its module.
        gains: nats per token that each held-out answer gained, passage by passage.
    """
    gains_left = iter(gains)
    results = []
    for passage in draft.passages:
        recalled = [readings[i].recalled for i in passage.examples]
        passage_gains = [next(gains_left) for _ in passage.held_out]
        results.append(
            PassageResult(
                passage.document,
                passage.heading,
                passage.words,
                examples=len(recalled),
                recall=mean(recalled),
                held_out=len(passage_gains),
                gain_nats=mean(passage_gains),
            )
        )
    return results


def mean(values: Sequence[float]) -> float | None:
    """Return the mean; None for no values."""
    return sum(values) / len(values) if values else None


def score_written_answers(
    base: Base, fleet: Fleet, held_out: Sequence[QuestionSet]
) -> list[tuple[list[float], list[float]]]:
    """Return token F1 of the answers that the bare model and each slot's module write out.

    At most `MOST_WRITTEN` questions are answered in all, the same share of each slot's.

    Args:
        held_out: questions of each slot.
    """
    n_questions = sum(map(len, held_out))
    share = min(1.0, MOST_WRITTEN / max(1, n_questions))
    chosen = [
        (slot, prompt)
        for slot, questions in enumerate(held_out)
        for i, prompt in enumerate(questions.prompts)
        if int((i + 1) * share) > int(i * share)
    ]
    prompts = [prompt.prompt_ids for _, prompt in chosen]
    longest = max((len(prompt.answer_ids) for _, prompt in chosen), default=0)
    replies = generate(
        base,
        prompts + prompts,
        fleet=fleet,
        slots=[slot for slot, _ in chosen] * 2,
        max_new_tokens=min(longest + _EXTRA_TOKENS, _MOST_TOKENS),
        options=GenerationOptions(adapter_scales=[0.0] * len(prompts) + [1.0] * len(prompts)),
    )
    scores = [
        token_f1(reply, prompt.answer)
        for reply, (_, prompt) in zip(replies, chosen * 2, strict=True)
    ]
    bare, own = scores[: len(chosen)], scores[len(chosen) :]
    return [
        (
            [f1 for f1, (owner, _) in zip(bare, chosen, strict=True) if owner == slot],
            [f1 for f1, (owner, _) in zip(own, chosen, strict=True) if owner == slot],
        )
        for slot in range(len(held_out))
    ]
