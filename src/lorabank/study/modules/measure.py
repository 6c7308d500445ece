"""Measures a cell of a study about modules: by partition, routing or merging."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from lorabank.bank.answer.modes import ADAPTER
from lorabank.bank.route.routers import Oracle, Router, TextRouter, routing_accuracy
from lorabank.bank.route.spectral_router import SpectralRouter
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.evaluation.evaluate import Evaluation, evaluate_fleet
from lorabank.engine.learn import hash_examples, software_versions
from lorabank.study.cells import CellClock, CellHashes
from lorabank.study.code_hash import code_hash
from lorabank.study.merges import adapter_norm, merge_parts
from lorabank.study.modules.axes import ModulesAxes
from lorabank.study.modules.cells import (
    ErrorShares,
    ModulesCell,
    ModulesQuestions,
    RoutingShares,
)
from lorabank.study.modules.library import ModuleLibrary
from lorabank.study.modules.reader import RECALL, LibraryReader, Slots
from lorabank.study.plan import CellSpec

_ROUTED = 5  # modules that the router names
_GATED = 3  # of them, modules that the gate compares
_DIGITS = 5


@dataclass(frozen=True, slots=True)
class ModulesEvaluation:
    """The answers that a cell's way of answering gives, and its control."""

    answers: Evaluation
    control: Evaluation | None
    """None where every module was taught all questions."""
    texts: dict[str, float] | None = None
    routing: RoutingShares | None = None
    errors: ErrorShares | None = None
    norm_ratio: float | None = None


def measure_cell(
    reader: LibraryReader, cell: CellSpec[ModulesAxes], study: str, clock: CellClock
) -> ModulesCell:
    """Return the result of one cell."""
    axes, library, base = cell.axes, reader.library, reader.base
    evaluation = _MEASURES[axes.measure](reader, axes)
    answers, control = evaluation.answers, evaluation.control
    own = reader.evaluate_own()
    scores = reader.scores(answers)
    control_scores = reader.scores(control) if control else []
    records = [version.record for version in library.bank.modules()]
    return ModulesCell(
        study=study,
        name=cell.name,
        base=base.info.name,
        axes=axes,
        metric=reader.metric,
        score=fmean(scores),
        control=fmean(control_scores) if control else None,
        oracle=fmean(reader.scores(own)),
        bare=fmean(reader.scores(reader.evaluate_bare())),
        gain=fmean(answers.gains),
        control_gain=fmean(control.gains) if control else None,
        oracle_gain=fmean(own.gains),
        norm_ratio=evaluation.norm_ratio,
        routing=evaluation.routing,
        errors=evaluation.errors,
        texts=evaluation.texts,
        n_questions=len(library.questions),
        n_taught=sum(record["facts"] for record in records),
        taught_recall=fmean(record["recall"] for record in records),
        exposures_per_fact=fmean(record["exposures_per_fact"] for record in records),
        examples_trained=sum(r["facts"] * r["exposures_per_fact"] for r in records),
        trainable_parameters=sum(record["trainable_parameters"] for record in records),
        kl_to_base_nats=fmean(record["kl_to_base_nats"] for record in records),
        per_question=ModulesQuestions(
            document=[question.document for question in library.questions],
            score=[round(score, _DIGITS) for score in scores],
            control=[round(score, _DIGITS) for score in control_scores],
            gain=[round(gain, _DIGITS) for gain in answers.gains],
        ),
        hashes=CellHashes(
            model=base.info.sha256,
            data=hash_examples([question.example for question in library.questions]),
            code=code_hash(),
        ),
        versions=software_versions(base),
        cost=clock.cost(),
    )


def evaluate_partition(reader: LibraryReader, axes: ModulesAxes) -> ModulesEvaluation:
    """Have every question answered by the module that was taught its document."""
    control = None
    if len(reader.library.module_names) > 1:
        control = reader.evaluate(reader.other_slots(axes.seed))
    texts = _text_scores(reader, reader.own_slots, axes)
    return ModulesEvaluation(reader.evaluate_own(), control, texts)


def evaluate_routing(reader: LibraryReader, axes: ModulesAxes) -> ModulesEvaluation:
    """Have every question answered by the module that a router or the gate chooses."""
    library = reader.library
    questions = [question.example.question for question in library.questions]
    own_modules = [question.module for question in library.questions]
    router = make_router(library, axes.router)
    routed = router.route(questions, _ROUTED)
    bare = abstained = None
    if axes.gated:
        answers = library.bank.ask_all(questions, mode=ADAPTER, router=router, n_candidates=_GATED)
        chosen = [answer.module for answer in answers]
        candidates = [[route.module for route in routes[:_GATED]] for routes in routed]
        bare = fmean(answer.kind == "bare" for answer in answers)
        abstained = fmean(answer.kind == "abstained" for answer in answers)
    else:
        chosen = [routes[0].module if routes else None for routes in routed]
        candidates = [[name] if name else [] for name in chosen]
    slot_of = {name: slot for slot, name in enumerate(library.module_names)}
    slots = [None if name is None else slot_of[name] for name in chosen]
    evaluation = reader.evaluate(slots)
    scores, own_scores = reader.scores(evaluation), reader.scores(reader.evaluate_own())
    return ModulesEvaluation(
        evaluation,
        control=reader.evaluate(reader.other_slots(axes.seed)),
        texts=_text_scores(reader, slots, axes),
        routing=RoutingShares(
            top1=routing_accuracy(routed, own_modules),
            top5=routing_accuracy(routed, own_modules, k=_ROUTED),
            answered_by_own=fmean(a == b for a, b in zip(chosen, own_modules, strict=True)),
            regret=fmean(own_scores) - fmean(scores),
            bare=bare,
            abstained=abstained,
        ),
        errors=_error_shares(scores, chosen, candidates, own_modules)
        if reader.metric == RECALL
        else None,
    )


def evaluate_merging(reader: LibraryReader, axes: ModulesAxes) -> ModulesEvaluation:
    """Have every question answered by a merge of its module and others drawn at random.

    The modules form a circle in a drawn order; each is merged with the ones after it. The control
    is the merge of the ones after it, without it.
    """
    library = reader.library
    bank, n_modules = library.bank, len(library.module_names)
    versions_of_modules = [bank.store.current(name) for name in library.module_names]
    adapters = bank.reader.load_adapters(versions_of_modules)
    circle = list(range(n_modules))
    random.Random(f"subset/{axes.subset}").shuffle(circle)
    merges, ratios = [], []
    for place in range(n_modules):
        parts = [adapters[circle[(place + i) % n_modules]] for i in range(axes.merged)]
        merges.append(merge_parts(parts, axes))
        ratios.append(adapter_norm(merges[-1]) / fmean(map(adapter_norm, parts)))
    place_of = {module: place for place, module in enumerate(circle)}
    places = [place_of[own] for own in reader.own_slots]
    with loaded_fleet(reader.base, merges) as fleet:
        answers = evaluate_fleet(fleet, reader.questions, places)
        control = None
        if axes.merged < n_modules:
            next_places = [(place + 1) % n_modules for place in places]
            control = evaluate_fleet(fleet, reader.questions, next_places)
    return ModulesEvaluation(answers, control, norm_ratio=fmean(ratios))


def make_router(library: ModuleLibrary, name: str) -> Router:
    """Return a router of the library's bank; the oracle knows each question's module."""
    bank = library.bank
    if name == "oracle":
        modules = {question.example.question: question.module for question in library.questions}
        return Oracle(modules, bank.texts)
    if name in ("bm25", "dense", "hybrid"):
        return TextRouter(bank.texts, method=name)
    return SpectralRouter(bank.reader, bank.texts, method=name)


def _text_scores(reader: LibraryReader, slots: Slots, axes: ModulesAxes) -> dict[str, float] | None:
    return reader.text_scores(slots, axes.new_tokens) if axes.new_tokens else None


def _error_shares(
    scores: Sequence[float],
    chosen: Sequence[str | None],
    candidates: Sequence[Sequence[str]],
    own_modules: Sequence[str],
) -> ErrorShares:
    """Return the shares of all questions that went wrong, by the stage where they did."""
    counts = {"routing": 0, "gate": 0, "reading": 0}
    for score, module, names, own in zip(scores, chosen, candidates, own_modules, strict=True):
        if not score:
            stage = "reading" if module == own else "gate" if own in names else "routing"
            counts[stage] += 1
    return ErrorShares(**{stage: count / len(scores) for stage, count in counts.items()})


_MEASURES: Mapping[str, Callable[[LibraryReader, ModulesAxes], ModulesEvaluation]] = {
    "partition": evaluate_partition,
    "routing": evaluate_routing,
    "merging": evaluate_merging,
}
