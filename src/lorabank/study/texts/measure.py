"""Measures a cell of a study about training texts.

Every question is read by the bare model, by its document's adapter and by another document's (the
control: what any adapter of the kind would do). If the cell asks for it, answers of both adapters
are written out.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.evaluation.evaluate import QuestionSet, evaluate_fleet
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.generate import generate
from lorabank.engine.learn import count_trainable, hash_examples, software_versions
from lorabank.engine.training.jobs import Outcome
from lorabank.study.cells import CellClock, CellHashes, WrittenScores
from lorabank.study.code_hash import code_hash
from lorabank.study.plan import CellSpec
from lorabank.study.texts.axes import TextsAxes
from lorabank.study.texts.cells import TextsCell, TextsQuestions
from lorabank.study.texts.data import TextDocument
from lorabank.tasks.control import draw_irrelevant_modules
from lorabank.tasks.examples import Example
from lorabank.tasks.scoring.text_metrics import rouge_l, token_f1

_METRICS = {"token_f1": token_f1, "rouge_l": rouge_l}
_DIGITS = 5


@dataclass(frozen=True, slots=True)
class TextQuestions:
    """The documents of a fleet and their questions, which all its cells ask."""

    base: Base
    texts: tuple[TextDocument, ...]
    questions: QuestionSet
    documents: tuple[int, ...]
    """Index of each question's document, which is the slot of its adapter."""

    def other_documents(self, seed: int) -> list[int]:
        """Return for each question the index of a document it is not about."""
        questions = [example.question for example in self.questions.examples]
        pairs = list(zip(questions, self.documents, strict=True))
        return draw_irrelevant_modules(range(len(self.texts)), pairs, seed=seed)


@dataclass(frozen=True, slots=True)
class TrainedTexts:
    """The examples that a cell taught and the adapters that learnt them, by document."""

    examples: Sequence[Sequence[Example]]
    outcomes: Sequence[Outcome]


def measure_cell(
    fleet_questions: TextQuestions,
    cell: CellSpec[TextsAxes],
    study: str,
    trained: TrainedTexts,
    clock: CellClock,
) -> TextsCell:
    """Return the result of one cell; the base has the prompt cache of the bare readings."""
    base, outcomes = fleet_questions.base, trained.outcomes
    axes = cell.axes.model_copy(update={"base": base.info.name})
    others = fleet_questions.other_documents(axes.seed)
    with loaded_fleet(base, [outcome.adapter for outcome in outcomes]) as fleet:
        after = evaluate_fleet(fleet, fleet_questions.questions, fleet_questions.documents)
        control = evaluate_fleet(fleet, fleet_questions.questions, others, drift=True)
        places = _choose_written(fleet_questions, axes.written)
        replies = _write_replies(fleet_questions, axes, fleet, others, places)
    scores = _score_replies(fleet_questions, replies, places)
    n_tokens = [
        sum(len(base.chat.answer_ids(example.answer)) for example in examples)
        for examples in trained.examples
    ]
    return TextsCell(
        study=study,
        name=cell.name,
        base=base.info.name,
        axes=axes,
        gain=fmean(after.gains),
        control_gain=fmean(control.gains),
        recall=after.recall,
        n_questions=len(fleet_questions.questions),
        texts={name: fmean(values) for name, values in scores.items()},
        examples=fmean(map(len, trained.examples)),
        tokens=fmean(n_tokens),
        tokens_trained=fmean(n * o.exposures for n, o in zip(n_tokens, outcomes, strict=True)),
        exposures=fmean(outcome.exposures for outcome in outcomes),
        steps=fmean(outcome.steps for outcome in outcomes),
        taught_loss=_last_loss(outcomes),
        stopped=dict(Counter(outcome.stopped for outcome in outcomes)),
        trainable_parameters=sum(count_trainable(base, o.job) for o in outcomes),
        kl_to_base_nats=fmean(drift.kl_to_base_nats for drift in control.drift),
        per_question=TextsQuestions(
            document=list(fleet_questions.documents),
            gain=[round(gain, _DIGITS) for gain in after.gains],
            control_gain=[round(gain, _DIGITS) for gain in control.gains],
        ),
        per_written=WrittenScores(
            place=places,
            scores={name: [round(x, _DIGITS) for x in xs] for name, xs in scores.items()},
            replies=replies,
        ),
        hashes=CellHashes(
            model=base.info.sha256,
            data=hash_examples(fleet_questions.questions.examples),
            taught=hash_examples([e for examples in trained.examples for e in examples]),
            code=code_hash(),
        ),
        versions=software_versions(base),
        cost=clock.cost(),
    )


def _last_loss(outcomes: Sequence[Outcome]) -> float | None:
    """Return the mean loss of the last epochs; None where one has no epoch, or diverged."""
    losses = [outcome.curve[-1].loss if outcome.curve else math.nan for outcome in outcomes]
    return fmean(losses) if all(map(math.isfinite, losses)) else None


def _choose_written(fleet_questions: TextQuestions, n_written: int) -> list[int]:
    """Return the indices of the first questions of each document."""
    counts: Counter[int] = Counter()
    places = []
    for place, document in enumerate(fleet_questions.documents):
        counts[document] += 1
        if counts[document] <= n_written:
            places.append(place)
    return places


def _write_replies(
    fleet_questions: TextQuestions,
    axes: TextsAxes,
    fleet: Fleet,
    others: Sequence[int],
    places: Sequence[int],
) -> dict[str, list[str]]:
    """Return the answers that are written to some questions, `own` and `control`, if there are any.

    Args:
        others: for each question the document whose adapter is the control.
        places: indices of the questions.
    """
    if not places:
        return {}
    prompts = [fleet_questions.questions.prompts[i] for i in places]
    return {
        name: generate(
            fleet_questions.base,
            [prompt.prompt_ids for prompt in prompts],
            fleet=fleet,
            slots=[slots[i] for i in places],
            max_new_tokens=axes.new_tokens or 0,
        )
        for name, slots in (("own", fleet_questions.documents), ("control", others))
    }


def _score_replies(
    fleet_questions: TextQuestions, replies: Mapping[str, Sequence[str]], places: Sequence[int]
) -> dict[str, list[float]]:
    """Return the text scores of written answers by metric."""
    answers = [fleet_questions.questions.prompts[i].answer for i in places]
    return {
        f"{'control_' if adapter == 'control' else ''}{name}": [
            metric(reply, answer) for reply, answer in zip(texts, answers, strict=True)
        ]
        for adapter, texts in replies.items()
        for name, metric in _METRICS.items()
    }
