"""The one evaluator: how much better an adapter answers questions than the bare base does.

Every question has a gold answer, which is read by the bare base and by the adapter (one forward
pass, answer_readings.py). `evaluate` is the whole in one call. Where many adapters are asked the
same questions, `prepare_questions` has the bare base read them once, and `evaluate_fleet` is called
for each fleet.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorabank.engine.adapters.adapter import Adapter, load_adapter
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import EvaluationPrompt, encode_dataset
from lorabank.engine.evaluation.drift import (
    BaseBehaviour,
    Drift,
    drift_between,
    measure_drift,
    observe_behaviour,
)
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import (
    AnswerReading,
    Scorer,
    read_answers,
    score_replies,
)
from lorabank.errors import UsageError
from lorabank.tasks.examples import Example, ExampleLike, as_examples
from lorabank.tasks.synthetic import phonebook


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Questions with their gold answers, and how the bare base reads them."""

    examples: tuple[Example, ...]
    prompts: tuple[EvaluationPrompt, ...]
    before: tuple[AnswerReading, ...]
    """Readings of the gold answers by the bare base."""
    recalled_before: tuple[bool, ...]
    """Whether the bare base gives each answer."""
    scorer: Scorer | None = None
    """Judges written replies; None where recall goes by tokens."""

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, indices: Iterable[int]) -> "QuestionSet":
        """Return some of the questions, in the order of `indices`."""
        chosen = list(indices)
        return QuestionSet(
            tuple(self.examples[i] for i in chosen),
            tuple(self.prompts[i] for i in chosen),
            tuple(self.before[i] for i in chosen),
            tuple(self.recalled_before[i] for i in chosen),
            self.scorer,
        )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Answers of adapters held against those of the bare base; lists are in question order."""

    questions: QuestionSet
    slots: tuple[int | None, ...]
    """Slot of the adapter that reads each question; None for the bare base."""
    after: tuple[AnswerReading, ...]
    """Readings of the gold answers by the adapters."""
    recalled: tuple[bool, ...]
    """Whether the adapter gives each answer."""
    drift: tuple[Drift, ...] = ()
    """One for each slot; empty where it was not measured."""

    @property
    def before(self) -> tuple[AnswerReading, ...]:
        return self.questions.before

    @property
    def recall_before(self) -> float:
        return sum(self.questions.recalled_before) / len(self.questions)

    @property
    def recall(self) -> float:
        return sum(self.recalled) / len(self.recalled)

    @property
    def missing(self) -> tuple[str, ...]:
        """Questions whose answers the adapter does not give."""
        pairs = zip(self.questions.examples, self.recalled, strict=True)
        return tuple(example.question for example, recalled in pairs if not recalled)

    @property
    def bits(self) -> tuple[float, ...]:
        """Bits of each answer that are in the adapter and not in the base.

        What -log2 of the answer's probability fell by; of a phone number at most its entropy,
        33.2 bits, because a model that finds the number less likely than chance knows no less.
        """
        rows = zip(self.questions.examples, self.before, self.after, strict=True)
        return tuple(_bits_stored(example, before, after) for example, before, after in rows)

    @property
    def gains(self) -> tuple[float, ...]:
        """Nats per token by which the adapter finds each answer likelier than the base does."""
        return gains(self.questions, self.after)

    def by_slot(self, n_slots: int) -> list["Evaluation"]:
        """Split by adapter: one evaluation, maybe without questions, for each slot."""
        parts = []
        for slot in range(n_slots):
            indices = [i for i, owner in enumerate(self.slots) if owner == slot]
            parts.append(
                Evaluation(
                    self.questions.select(indices),
                    tuple(self.slots[i] for i in indices),
                    tuple(self.after[i] for i in indices),
                    tuple(self.recalled[i] for i in indices),
                    self.drift[slot : slot + 1],
                )
            )
        return parts


def evaluate(
    base: Base,
    adapters: Adapter | Path | str | Sequence[Adapter | Path | str],
    examples: Iterable[ExampleLike],
    *,
    slots: Sequence[int] | None = None,
    recipe: str = "sound",
    known: bool = False,
) -> Evaluation:
    """Ask adapters for the answers of examples, and measure what else they changed.

    Args:
        adapters: plain LoRA adapters, in memory or as folders; all activated or all always on.
        examples: `Example`s, (prompt, answer) pairs or dicts.
        slots: index into `adapters` of the one that answers each example; may be left out where
            there is one adapter.
        recipe: how the examples are put to the model, `sound` or `paper`.
        known: also ask whether simple things the base knows are still known (a second or more
            for each adapter).

    Raises:
        UsageError: no adapter or no example, slots that are missing or do not fit, or adapters of
            which some are activated and some are not.
        AdapterError: a folder that cannot be read, or of another base model.
    """
    several = [adapters] if isinstance(adapters, Adapter | Path | str) else list(adapters)
    loaded = [a if isinstance(a, Adapter) else load_adapter(a, base) for a in several]
    facts = as_examples(examples)
    slots = _check_slots(loaded, facts, slots)
    activated = loaded[0].activated
    questions = prepare_questions(base, facts, recipe=recipe, activated=activated)
    with loaded_fleet(base, loaded) as fleet:
        return evaluate_fleet(fleet, questions, slots, drift=True, known=known)


def _check_slots(
    adapters: Sequence[Adapter], examples: Sequence[Example], slots: Sequence[int] | None
) -> Sequence[int]:
    if not adapters or not examples:
        raise UsageError(
            f"evaluate needs at least one adapter and one example, got {len(adapters)} adapters "
            f"and {len(examples)} examples"
        )
    if slots is None:
        if len(adapters) > 1:
            raise UsageError(
                f"with {len(adapters)} adapters, slots must name the adapter of each example"
            )
        slots = [0] * len(examples)
    if len(slots) != len(examples) or not all(0 <= slot < len(adapters) for slot in slots):
        raise UsageError(
            f"slots must hold a number from 0 to {len(adapters) - 1} for each of the "
            f"{len(examples)} examples, got {list(slots)[:8]} ({len(slots)} of them)"
        )
    if len({adapter.activated for adapter in adapters}) > 1:
        raise UsageError("activated and always-on adapters must be evaluated by separate calls")
    return slots


def prepare_questions(
    base: Base,
    examples: Sequence[Example],
    *,
    prompts: Sequence[EvaluationPrompt] | None = None,
    recipe: str = "sound",
    activated: bool = False,
    scorer: Scorer | None = None,
) -> QuestionSet:
    """Have the bare base read the gold answers of questions, for evaluations to compare with.

    Args:
        base: in no fleet and without layers of PEFT.
        prompts: the examples as encoded already; else they are encoded by `recipe` and `activated`.
        scorer: judges written replies; by default an answer counts if every token of it is what
            greedy decoding writes.

    Raises:
        DataError: an example longer than the model's context.
    """
    if prompts is None:
        dataset = encode_dataset(
            base.chat, examples, recipe=recipe, max_tokens=base.max_tokens, activated=activated
        )
        prompts = dataset.prompts
    before = read_answers(base, prompts)
    if scorer is None:
        recalled = [reading.recalled for reading in before]
    else:
        recalled = score_replies(base, prompts, scorer, readings=before)
    return QuestionSet(tuple(examples), tuple(prompts), tuple(before), tuple(recalled), scorer)


def join_questions(sets: Sequence[QuestionSet]) -> QuestionSet:
    """Return the questions of all sets, one set after the other."""
    return QuestionSet(
        tuple(example for questions in sets for example in questions.examples),
        tuple(prompt for questions in sets for prompt in questions.prompts),
        tuple(reading for questions in sets for reading in questions.before),
        tuple(recalled for questions in sets for recalled in questions.recalled_before),
        sets[0].scorer if sets else None,
    )


def evaluate_fleet(
    fleet: Fleet,
    questions: QuestionSet,
    slots: Sequence[int | None],
    *,
    drift: bool = False,
    known: bool = False,
) -> Evaluation:
    """Ask the adapters of an entered fleet.

    Args:
        slots: for each question the slot that reads it; None for the bare base, whose reading is
            taken from `questions`.
        drift: also measure each slot's divergence from the base on ordinary text.
        known: also ask each slot what the base knows; this takes a second or more a slot.
    """
    base = fleet.base
    assigned = [(i, slot) for i, slot in enumerate(slots) if slot is not None]
    prompts = [questions.prompts[i] for i, _ in assigned]
    of_prompts = [slot for _, slot in assigned]
    readings = read_answers(base, prompts, fleet=fleet, slots=of_prompts)
    verdicts = [reading.recalled for reading in readings]
    if questions.scorer is not None:
        verdicts = score_replies(
            base, prompts, questions.scorer, fleet=fleet, slots=of_prompts, readings=readings
        )
    after, recalled = list(questions.before), list(questions.recalled_before)
    for (i, _), reading, verdict in zip(assigned, readings, verdicts, strict=True):
        after[i], recalled[i] = reading, verdict
    measured = measure_drift(fleet, range(fleet.width), known=known) if drift or known else []
    return Evaluation(questions, tuple(slots), tuple(after), tuple(recalled), tuple(measured))


def evaluate_wrapped(base: Base, questions: QuestionSet, bare: BaseBehaviour) -> Evaluation:
    """Ask a base that has layers of PEFT in it.

    Args:
        bare: what `observe_behaviour` returned for the base without them.
    """
    readings = read_answers(base, questions.prompts)
    verdicts = [reading.recalled for reading in readings]
    if questions.scorer is not None:
        verdicts = score_replies(base, questions.prompts, questions.scorer, readings=readings)
    drift = drift_between(bare, observe_behaviour(base))
    slots = (0,) * len(questions)
    return Evaluation(questions, slots, tuple(readings), tuple(verdicts), (drift,))


def gains(questions: QuestionSet, readings: Sequence[AnswerReading]) -> tuple[float, ...]:
    """Return the nats per token by which each answer is likelier in `readings` than to the base."""
    rows = zip(questions.prompts, questions.before, readings, strict=True)
    return tuple(
        (before.bits - after.bits) * math.log(2) / len(prompt.answer_ids)
        for prompt, before, after in rows
    )


def _bits_stored(example: Example, before: AnswerReading, after: AnswerReading) -> float:
    entropy = phonebook.entropy_bits(example.answer)
    prior = before.bits if entropy is None else min(before.bits, entropy)
    return max(0.0, prior - after.bits)
