"""Reads the questions of a library: with its own modules, or with other adapters in a fleet.

Every question has one score: whether the answer is recalled, or, where the questions are not those
that were taught (PaperQA), by how many nats per token the gold answer gained on the bare model.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Literal

from lorabank.engine.evaluation.evaluate import Evaluation, evaluate_fleet, prepare_questions
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.generate import GenerationOptions, generate
from lorabank.study.modules.library import ModuleLibrary
from lorabank.tasks.control import draw_irrelevant_modules
from lorabank.tasks.scoring.text_metrics import bleu, rouge_l, token_f1

RECALL: Literal["recall"] = "recall"
GAIN: Literal["gain"] = "gain"
_METRICS = {"token_f1": token_f1, "rouge_l": rouge_l, "bleu": bleu}
Slots = Sequence[int | None]
"""Slot of the module that answers each question; None for the bare model."""


class LibraryReader:
    """Reads one library; an assignment that several cells ask for is read once."""

    def __init__(self, library: ModuleLibrary, task: str):
        self.library = library
        self.metric: Literal["recall", "gain"] = GAIN if task == "paperqa" else RECALL
        self.base = library.bank.base
        self.questions = prepare_questions(
            self.base,
            [question.example for question in library.questions],
            activated=library.settings.activated,
        )
        slot_of = {name: slot for slot, name in enumerate(library.module_names)}
        self.own_slots = [slot_of[question.module] for question in library.questions]
        self._evaluations: dict[tuple[int | None, ...], Evaluation] = {}

    def loaded_fleet(self) -> AbstractContextManager[Fleet]:
        """Return an entered fleet with the modules in the order of their names."""
        bank = self.library.bank
        versions = [bank.store.current(name) for name in self.library.module_names]
        return bank.reader.loaded_fleet(versions)

    def evaluate(self, slots: Slots) -> Evaluation:
        """Return how the library's modules answer the questions assigned to them."""
        key = tuple(slots)
        if key not in self._evaluations:
            with self.loaded_fleet() as fleet:
                self._evaluations[key] = evaluate_fleet(fleet, self.questions, slots)
        return self._evaluations[key]

    def evaluate_own(self) -> Evaluation:
        """Return how each question's own module answers it."""
        return self.evaluate(self.own_slots)

    def evaluate_bare(self) -> Evaluation:
        """Return how the bare model answers the questions."""
        slots = (None,) * len(self.questions)
        before, recalled = self.questions.before, self.questions.recalled_before
        return Evaluation(self.questions, slots, before, recalled)

    def scores(self, evaluation: Evaluation) -> list[float]:
        """Return the score of each question by the metric of the task."""
        if self.metric == RECALL:
            return [float(recalled) for recalled in evaluation.recalled]
        return list(evaluation.gains)

    def other_slots(self, seed: int) -> list[int]:
        """Return for each question the slot of a module that was not taught it."""
        pairs = [
            (question.example.question, own)
            for question, own in zip(self.library.questions, self.own_slots, strict=True)
        ]
        return draw_irrelevant_modules(range(len(self.library.module_names)), pairs, seed=seed)

    def text_scores(self, slots: Slots, new_tokens: int) -> dict[str, float]:
        """Return the mean text scores of answers that are decoded greedily."""
        with self.loaded_fleet() as fleet:
            replies = generate(
                self.base,
                [prompt.prompt_ids for prompt in self.questions.prompts],
                fleet=fleet,
                slots=[slot or 0 for slot in slots],
                options=GenerationOptions(
                    adapter_scales=[float(slot is not None) for slot in slots]
                ),
                max_new_tokens=new_tokens,
            )
        golds = [prompt.answer for prompt in self.questions.prompts]
        pairs = list(zip(replies, golds, strict=True))
        return {
            name: math.fsum(metric(reply, gold) for reply, gold in pairs) / len(pairs)
            for name, metric in _METRICS.items()
        }
