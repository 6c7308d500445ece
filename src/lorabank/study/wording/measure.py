"""Measures the adapters of a study about wordings: recall in other words, near misses, drift."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.evaluation.evaluate import (
    Evaluation,
    QuestionSet,
    evaluate_fleet,
    join_questions,
)
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.generate import generate
from lorabank.engine.learn import count_trainable, hash_examples, software_versions
from lorabank.engine.training.jobs import Outcome
from lorabank.study.cells import CellCost, CellHashes
from lorabank.study.code_hash import code_hash
from lorabank.study.plan import CellSpec
from lorabank.study.wording.axes import WordingAxes
from lorabank.study.wording.cells import WordingCell, WordingFactResults
from lorabank.study.wording.taught_facts import WordingFacts
from lorabank.tasks.examples import Example, Message
from lorabank.tasks.scoring.exact_match import is_same_text

_MORE_TOKENS = 4  # than the longest answer, so that a longer reply is not taken for it


@dataclass(frozen=True, slots=True)
class TrainedCell:
    """A cell with its facts, its questions as the bare model reads them, and its adapter."""

    spec: CellSpec[WordingAxes]
    facts: WordingFacts
    taught: Sequence[Example]
    questions: QuestionSet
    """The facts as taught, their held-out wordings, then the reversed questions."""
    outcome: Outcome
    cost: CellCost


def measure_fleet(base: Base, study: str, cells: Sequence[TrainedCell]) -> Iterator[WordingCell]:
    """Ask the adapters of a fleet, and yield their results."""
    questions = join_questions([cell.questions for cell in cells])
    slots = [slot for slot, cell in enumerate(cells) for _ in range(len(cell.questions))]
    with loaded_fleet(base, [cell.outcome.adapter for cell in cells]) as fleet:
        together = evaluate_fleet(fleet, questions, slots, drift=True, known=True)
        evaluations = together.by_slot(len(cells))
        answered = [_near_miss_answered(fleet, slot, cell) for slot, cell in enumerate(cells)]
    for cell, evaluation, share in zip(cells, evaluations, answered, strict=True):
        yield _describe(base, study, cell, evaluation, share)


def _near_miss_answered(fleet: Fleet, slot: int, cell: TrainedCell) -> float:
    """Return the share of near misses to which the reply is an answer that was taught."""
    chat, answers = fleet.base.chat, [fact.answer for fact in cell.facts.examples]
    prompts = [chat.direct_prompt_ids([Message("user", q)]) for q in cell.facts.near_misses]
    longest = max(len(prompt.answer_ids) for prompt in cell.questions.prompts)
    replies = generate(
        fleet.base,
        prompts,
        fleet=fleet,
        slots=[slot] * len(prompts),
        max_new_tokens=longest + _MORE_TOKENS,
    )
    taken = [any(is_same_text(answer, reply) for answer in answers) for reply in replies]
    return sum(taken) / len(taken) if taken else 0.0


def _describe(
    base: Base, study: str, cell: TrainedCell, evaluation: Evaluation, near_miss_answered: float
) -> WordingCell:
    examples, outcome, (drift,) = cell.facts.examples, cell.outcome, evaluation.drift
    n_facts, n_held_out = len(examples), len(cell.facts.held_out)
    recalled = [int(is_recalled) for is_recalled in evaluation.recalled]
    held_out = iter(recalled[n_facts : n_facts + n_held_out])
    of_reversed = recalled[n_facts + n_held_out :]
    reworded = [[next(held_out) for _ in fact.held_out] for fact in examples]
    wordings = [len(example.questions) for example in cell.taught[:n_facts]]
    single = [hits for hits, n in zip(reworded, wordings, strict=True) if n == 1]
    return WordingCell(
        study=study,
        name=cell.spec.name,
        base=base.info.name,
        axes=cell.spec.axes,
        exposures_per_fact=outcome.exposures,
        steps=outcome.steps,
        stopped=outcome.stopped,
        recall=fmean(recalled[:n_facts]),
        recall_before=fmean(cell.questions.recalled_before[:n_facts]),
        recall_reworded=fmean(hit for hits in reworded for hit in hits),
        recall_reworded_single=fmean(h for hits in single for h in hits) if single else None,
        recall_reversed=fmean(of_reversed) if of_reversed else None,
        near_miss_answered=near_miss_answered,
        n_held_out=n_held_out,
        n_reversed=len(of_reversed),
        n_near_misses=len(cell.facts.near_misses),
        bits_stored=sum(evaluation.bits[:n_facts]),
        trainable_parameters=count_trainable(base, outcome.job),
        kl_to_base_nats=drift.kl_to_base_nats,
        known_before=len(drift.known_before or ()),
        known_after=len(drift.known_after or ()),
        per_fact=WordingFactResults(
            recalled=recalled[:n_facts],
            reworded=[round(fmean(hits), 4) for hits in reworded],
            wordings=wordings,
        ),
        hashes=CellHashes(
            model=base.info.sha256,
            data=hash_examples(cell.questions.examples),
            taught=hash_examples(cell.taught),
            code=code_hash(),
        ),
        versions=software_versions(base),
        cost=cell.cost,
    )
