"""Where the questions of a library are read: by its own modules, or by whatever sits in a fleet.

Every question has a score, one number: whether the answer is recalled, or, where test questions are
not those taught (PaperQA), by how many nats per token the gold answer gained on the bare model.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager

from lorabank.engine.evaluation.evaluate import evaluate_fleet, gains, prepare_questions
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import AnswerReading
from lorabank.engine.inference.generate import GenerationOptions, generate
from lorabank.study.modules.library import Library
from lorabank.tasks.control import draw_irrelevant_modules
from lorabank.tasks.scoring.text_metrics import bleu, rouge_l, token_f1

RECALL, GAIN = "recall", "gain"
Slots = Sequence[int | None]
"""For each question the seat that answers it; None for the bare model."""


class Desk:
    """Reads one library; what several cells ask for is read once."""

    def __init__(self, library: Library, task: str):
        self.library, self.metric = library, GAIN if task == "paperqa" else RECALL
        self.base = library.bank.base
        self.questions = prepare_questions(
            self.base,
            [question.example for question in library.questions],
            activated=library.settings.activated,
        )
        seats = {name: seat for seat, name in enumerate(library.names)}
        self.own = [seats[question.module] for question in library.questions]
        self.bare = self.questions.before
        self._known: dict[tuple[int | None, ...], Sequence[AnswerReading]] = {}

    def seated(self) -> AbstractContextManager[Fleet]:
        """The modules in the order of their names."""
        bank = self.library.bank
        return bank.reader.loaded_fleet([bank.store.current(name) for name in self.library.names])

    def read(self, slots: Slots) -> Sequence[AnswerReading]:
        """Each question with the module in its place."""
        key = tuple(slots)
        if key not in self._known:
            with self.seated() as fleet:
                self._known[key] = self.read_with(fleet, slots)
        return self._known[key]

    def read_with(self, fleet: Fleet, slots: Slots) -> Sequence[AnswerReading]:
        """Each question with whoever sits in its place of an entered fleet."""
        return evaluate_fleet(fleet, self.questions, slots).after

    def scores(self, readings: Sequence[AnswerReading]) -> list[float]:
        """Of readings of all questions, by the metric of the task."""
        if self.metric == RECALL:
            return [float(reading.recalled) for reading in readings]
        return list(self.gains(readings))

    def gains(self, readings: Sequence[AnswerReading]) -> Sequence[float]:
        """Nats per token by which the gold answers are likelier than the bare model has them."""
        return gains(self.questions, readings) if readings else ()

    def others(self, seed: int) -> list[int]:
        """For each question a module that was not taught it."""
        asked = [
            (question.example.question, own)
            for question, own in zip(self.library.questions, self.own, strict=True)
        ]
        return draw_irrelevant_modules(range(len(self.library.names)), asked, seed=seed)

    def written(self, slots: Slots, new_tokens: int) -> dict[str, float]:
        """Text scores of answers written out greedily, means over questions."""
        seats = [slot or 0 for slot in slots]
        strength = [float(slot is not None) for slot in slots]
        prompts = [probe.prompt_ids for probe in self.questions.prompts]
        with self.seated() as fleet:
            replies = generate(
                self.base,
                prompts,
                fleet=fleet,
                slots=seats,
                max_new_tokens=new_tokens,
                options=GenerationOptions(adapter_scales=strength),
            )
        golds = [prompt.answer for prompt in self.questions.prompts]
        pairs = list(zip(replies, golds, strict=True))
        metrics = {"token_f1": token_f1, "rouge_l": rouge_l, "bleu": bleu}
        return {
            name: math.fsum(metric(reply, gold) for reply, gold in pairs) / len(pairs)
            for name, metric in metrics.items()
        }
