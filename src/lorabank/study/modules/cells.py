"""What a cell of a study about modules finds: partition, routing, merging; each with its control.

The control is the same question with another module, one that was not taught it (partition), or
with the same merge when the question's own module is not part of it (merging). Scores are kept per
question with their document, so that intervals can respect that a document's questions are alike.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from lorabank.bank.route.routers import Oracle, Router, TextRouter, routing_accuracy
from lorabank.bank.route.spectral_router import SpectralRouter
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.inference.answer_readings import AnswerReading
from lorabank.engine.learn import hash_examples, software_versions
from lorabank.study.capacity.measure import code_hash
from lorabank.study.folder import FORMAT
from lorabank.study.modules.desk import RECALL, Desk
from lorabank.study.modules.library import Library
from lorabank.study.modules.merges import length, merged
from lorabank.study.spec import CellSpec

_CANDIDATES = 5
_HEARD = 3  # candidates the gate hears


@dataclass(frozen=True, slots=True)
class Found:
    """What one cell measured."""

    readings: Sequence[AnswerReading]
    control: Sequence[AnswerReading] = ()
    """Empty where there is no module that was not taught."""
    also: Mapping[str, Any] = field(default_factory=dict)


def measure_cell(desk: Desk, cell: CellSpec, study: str) -> dict[str, Any]:
    """The JSON object of one cell, its cost aside."""
    values, library, base = cell.values, desk.library, desk.base
    found = _MEASURES[str(values["measure"])](desk, values)
    scores, control = desk.scores(found.readings), desk.scores(found.control)
    records = [version.record for version in library.bank.modules()]
    questions = library.questions
    return {
        "format": FORMAT,
        "study": study,
        "name": cell.name,
        "spec": {**values, "base": base.info.name},
        "seed": values["seed"],
        "metric": desk.metric,
        "score": fmean(scores),
        "control": fmean(control) if control else None,
        "oracle": fmean(desk.scores(desk.read(desk.own))),
        "bare": fmean(desk.scores(desk.bare)),
        "gain": fmean(desk.gains(found.readings)),
        "control_gain": fmean(desk.gains(found.control)) if control else None,
        "oracle_gain": fmean(desk.gains(desk.read(desk.own))),
        **found.also,
        "n_questions": len(questions),
        "n_taught": sum(record["facts"] for record in records),
        "taught_recall": fmean(record["recall"] for record in records),
        "exposures_per_fact": fmean(record["exposures_per_fact"] for record in records),
        "examples_trained": sum(r["facts"] * r["exposures_per_fact"] for r in records),
        "trainable_parameters": sum(record["trainable_parameters"] for record in records),
        "kl_to_base_nats": fmean(record["kl_to_base_nats"] for record in records),
        "per_question": {
            "document": [question.document for question in questions],
            "score": [round(score, 5) for score in scores],
            "control": [round(score, 5) for score in control],
            "gain": [round(gain, 5) for gain in desk.gains(found.readings)],
        },
        "hashes": {
            "model": base.info.sha256,
            "data": hash_examples([question.example for question in questions]),
            "code": code_hash(),
        },
        "versions": software_versions(base),
    }


def partition(desk: Desk, values: Mapping[str, Any]) -> Found:
    """Every question answered by the module that was taught its document."""
    control: Sequence[AnswerReading] = ()
    if len(desk.library.names) > 1:
        control = desk.read(desk.others(values["seed"]))
    texts = {}
    if values["new_tokens"]:
        texts = {"texts": desk.written(desk.own, values["new_tokens"])}
    return Found(desk.read(desk.own), control, texts)


def routing(desk: Desk, values: Mapping[str, Any]) -> Found:
    """Every question answered by the module a router names first, or by whom the gate lets."""
    library = desk.library
    asked = [question.example.question for question in library.questions]
    right = [question.module for question in library.questions]
    router = make_router(library, str(values["router"]))
    routed = router.route(asked, _CANDIDATES)
    if values["gated"]:
        answers = library.bank.ask_all(asked, router=router, n_candidates=_HEARD)
        chosen = [answer.module for answer in answers]
        heard = [[candidate.module for candidate in few[:_HEARD]] for few in routed]
        handled = {kind: fmean(a.kind == kind for a in answers) for kind in ("bare", "abstained")}
    else:
        chosen = [few[0].module if few else None for few in routed]
        heard = [[name] if name else [] for name in chosen]
        handled = {}
    seats = [None if name is None else library.names.index(name) for name in chosen]
    readings = desk.read(seats)
    scores, own = desk.scores(readings), desk.scores(desk.read(desk.own))
    also = {
        "routing": {
            "top1": routing_accuracy(routed, right),
            "top5": routing_accuracy(routed, right, k=_CANDIDATES),
            "answered_by_own": fmean(c == r for c, r in zip(chosen, right, strict=True)),
            "regret": fmean(own) - fmean(scores),
            **handled,
        }
    }
    if desk.metric == RECALL:
        also["errors"] = _errors(scores, chosen, heard, right)
    control = desk.read(desk.others(values["seed"]))
    texts = {}
    if values["new_tokens"]:
        texts = {"texts": desk.written(seats, values["new_tokens"])}
    return Found(readings, control, {**also, **texts})


def merging(desk: Desk, values: Mapping[str, Any]) -> Found:
    """Every question answered by a merge of its module and others drawn at random.

    Modules stand in a circle, in a drawn order; each is merged with the ones after it. The control
    is the merge of the ones after it, without it.
    """
    library, n = desk.library, int(values["merged"])
    bank, k = library.bank, len(library.names)
    adapters = bank.reader.load_adapters([bank.store.current(name) for name in library.names])
    circle = list(range(k))
    random.Random(f"subset/{values['subset']}").shuffle(circle)
    merges, ratios = [], []
    for place in range(k):
        parts = [adapters[circle[(place + i) % k]] for i in range(n)]
        merges.append(merged(parts, values))
        ratios.append(length(merges[-1]) / fmean(map(length, parts)))
    place_of = {seat: place for place, seat in enumerate(circle)}
    with loaded_fleet(desk.base, merges) as fleet:
        readings = desk.read_with(fleet, [place_of[own] for own in desk.own])
        control: Sequence[AnswerReading] = ()
        if n < k:
            without = [(place_of[own] + 1) % k for own in desk.own]
            control = desk.read_with(fleet, without)
    return Found(readings, control, {"norm_ratio": fmean(ratios)})


def make_router(library: Library, name: str) -> Router:
    """A router of the library's bank, by name; the oracle is told by the questions."""
    bank = library.bank
    if name == "oracle":
        told = {question.example.question: question.module for question in library.questions}
        return Oracle(told, bank.texts)
    if name in ("bm25", "dense", "hybrid"):
        return TextRouter(bank.texts, method=name)
    return SpectralRouter(bank.reader, bank.texts, method=name)


def _errors(
    scores: Sequence[float],
    chosen: Sequence[str | None],
    heard: Sequence[Sequence[str]],
    right: Sequence[str],
) -> dict[str, float]:
    """Shares of all questions that went wrong, by the stage where they did."""
    stages = {"routing": 0, "gate": 0, "reading": 0}
    for score, name, few, own in zip(scores, chosen, heard, right, strict=True):
        if score:
            continue
        stages["reading" if name == own else "gate" if own in few else "routing"] += 1
    return {stage: count / len(scores) for stage, count in stages.items()}


_MEASURES = {"partition": partition, "routing": routing, "merging": merging}
