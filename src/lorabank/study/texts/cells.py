"""What a cell of a study about training texts finds, as the JSON of one cell.

A small model that cannot say an answer may still have come to find it likelier: the gain, nats per
token of the gold answer over the bare model, is the sensitive measure, and the score. Token F1 and
ROUGE-L are of answers written out greedily. Each stands beside the same with another document's
adapter. Numbers are kept per question with its document, so that intervals can respect that a
document's questions are alike, and so that a learning rate can be chosen on half of them.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.evaluation.evaluate import QuestionSet, evaluate_fleet
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.generate import generate
from lorabank.engine.learn import count_trainable, hash_examples, software_versions
from lorabank.engine.training.jobs import Outcome
from lorabank.study.capacity.measure import code_hash
from lorabank.study.folder import FORMAT
from lorabank.study.spec import CellSpec, StudySpec
from lorabank.study.texts.data import Text
from lorabank.tasks.control import draw_irrelevant_modules
from lorabank.tasks.examples import Example
from lorabank.tasks.scoring.text_metrics import rouge_l, token_f1

_METRICS = {"token_f1": token_f1, "rouge_l": rouge_l}
_DIGITS = 5


@dataclass(frozen=True, slots=True)
class Exam:
    """What all cells of a fleet are asked."""

    base: Base
    texts: tuple[Text, ...]
    questions: QuestionSet
    own: tuple[int, ...]
    """Of each question its document."""


def measure_cell(
    exam: Exam,
    cell: CellSpec,
    spec: StudySpec,
    lessons: Sequence[Sequence[Example]],
    outcomes: Sequence[Outcome],
) -> dict[str, Any]:
    """The JSON object of one cell, its cost aside; the base's shelves are the exam's."""
    base, values, jobs = exam.base, cell.values, [one.job for one in outcomes]
    others = _others(exam, int(str(values["seed"])))
    with loaded_fleet(base, [outcome.adapter for outcome in outcomes]) as fleet:
        after = evaluate_fleet(fleet, exam.questions, exam.own)
        control = evaluate_fleet(fleet, exam.questions, others, drift=True)
        texts = _written(exam, values, fleet, others) if values["written"] else {}
    examples = [example for some in lessons for example in some]
    return {
        "format": FORMAT,
        "study": spec.name,
        "name": cell.name,
        "spec": {**values, "base": base.info.name},
        "seed": values["seed"],
        "gain": fmean(after.gains),
        "control_gain": fmean(control.gains),
        "recall": after.recall,
        "n_questions": len(exam.questions),
        "texts": {name: fmean(found) for name, found in texts.items() if name != "place"},
        **_taught(base, lessons, outcomes),
        "trainable_parameters": sum(count_trainable(base, job) for job in jobs),
        "kl_to_base_nats": fmean(drift.kl_to_base_nats for drift in control.drift),
        "per_question": {
            "document": list(exam.own),
            "gain": [round(gain, _DIGITS) for gain in after.gains],
            "control_gain": [round(gain, _DIGITS) for gain in control.gains],
        },
        "per_written": {
            name: [round(value, _DIGITS) for value in found] for name, found in texts.items()
        },
        "hashes": {
            "model": base.info.sha256,
            "data": hash_examples([example for text in exam.texts for example in text.asks]),
            "taught": hash_examples(examples),
            "code": code_hash(),
        },
        "versions": software_versions(base),
    }


def _others(exam: Exam, seed: int) -> list[int]:
    """For each question a document it is not of."""
    asked = [example.question for text in exam.texts for example in text.asks]
    pairs = list(zip(asked, exam.own, strict=True))
    return draw_irrelevant_modules(range(len(exam.texts)), pairs, seed=seed)


def _taught(
    base: Base, lessons: Sequence[Sequence[Example]], outcomes: Sequence[Outcome]
) -> dict[str, Any]:
    """How much was taught, and how well it sat at the end of training."""
    n_tokens = [
        sum(len(base.chat.answer_ids(example.answer)) for example in some) for some in lessons
    ]
    return {
        "examples": fmean(map(len, lessons)),
        "tokens": fmean(n_tokens),
        "tokens_trained": fmean(
            n * one.exposures for n, one in zip(n_tokens, outcomes, strict=True)
        ),
        "exposures": fmean(one.exposures for one in outcomes),
        "steps": fmean(one.steps for one in outcomes),
        "taught_loss": _last_loss(outcomes),
        "stopped": dict(Counter(one.stopped for one in outcomes)),
    }


def _last_loss(outcomes: Sequence[Outcome]) -> float | None:
    """Mean over the last epoch of each; None where one ended before its first, or diverged."""
    losses = [one.curve[-1].loss if one.curve else math.nan for one in outcomes]
    return fmean(losses) if all(map(math.isfinite, losses)) else None


def _written(
    exam: Exam, values: Mapping[str, Any], fleet: Fleet, others: Sequence[int]
) -> dict[str, list[float]]:
    """Scores of answers to the first questions of each document, by place in the exam."""
    asked: Counter[int] = Counter()
    places = []
    for place, document in enumerate(exam.own):
        asked[document] += 1
        if asked[document] <= values["written"]:
            places.append(place)
    found: dict[str, list[float]] = {"place": [float(place) for place in places]}
    for prefix, slots in (("", exam.own), ("control_", others)):
        replies = generate(
            exam.base,
            [exam.questions.prompts[i].prompt_ids for i in places],
            fleet=fleet,
            slots=[slots[i] for i in places],
            max_new_tokens=values["new_tokens"],
        )
        for name, metric in _METRICS.items():
            found[f"{prefix}{name}"] = [
                metric(reply, exam.questions.prompts[i].answer)
                for reply, i in zip(replies, places, strict=True)
            ]
    return found
