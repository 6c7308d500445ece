"""What a cell of a study about long documents finds: gains by kind of question, answers, harm.

A small base says few answers whole, so the gain is the sensitive measure: nats per token by which
the gold answer is likelier than to the bare model without text. The control is a cell of its own,
`random`: in each question's place another document's adapter, or as many of its chunks'.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lorabank.engine.adapters.adapter import Adapter
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.evaluation.drift import kl_to_base
from lorabank.engine.evaluation.evaluate import gains
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import AnswerReading
from lorabank.engine.inference.generate import GenerationOptions, generate
from lorabank.engine.learn import hash_examples, software_versions
from lorabank.study.capacity.measure import code_hash
from lorabank.study.documents.axes import CHUNK, DOCUMENT, MERGED, NONE, way_of
from lorabank.study.documents.exam import Exam, Put, put_as
from lorabank.study.folder import FORMAT
from lorabank.study.modules.merges import length, merged
from lorabank.tasks.control import draw_irrelevant_modules
from lorabank.tasks.scoring.text_metrics import rouge_l, token_f1

_METRICS = {"token_f1": token_f1, "rouge_l": rouge_l}
_TOGETHER = 16  # adapters in one fleet
_HARM_OF = 8  # adapters whose harm is measured, drawn from all that answer
_DIGITS = 5


@dataclass(frozen=True, slots=True)
class Seats:
    """Who answers: adapters, and of each question the place of its own among them."""

    adapters: tuple[Adapter, ...]
    places: tuple[int, ...]
    norm_ratio: float | None = None
    """Of merges: their length over that of their parts."""
    first: tuple[int, ...] = ()
    """Of each question the chunk named first, where the router was asked."""


def measure_cell(exam: Exam, values: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object of one cell, its name and cost aside."""
    puts = [put_as(exam, i, values) for i in range(len(exam.asked))]
    seats = seats_of(exam, values)
    written = _chosen(exam, int(values["written"]))
    readings, replies, harm = _asked_of(exam, puts, seats, written, values["new_tokens"])
    gained = gains(exam.bare(), readings)
    golds = [exam.asked[i].example.answer for i in written]
    scores = {
        name: [metric(reply, gold) for reply, gold in zip(replies, golds, strict=True)]
        for name, metric in _METRICS.items()
        if written
    }
    kinds = [one.kind for one in exam.asked]
    right = [exam.is_right(i, c) for i, c in enumerate(seats.first)]
    return {
        "way": way_of(values),
        "gain": fmean(gained),
        "recall": fmean(reading.recalled for reading in readings),
        "by_kind": {
            kind: fmean(gain for gain, one in zip(gained, kinds, strict=True) if one == kind)
            for kind in dict.fromkeys(kinds)
        },
        "n_questions": len(kinds),
        "texts": {name: fmean(found) for name, found in scores.items()},
        "prompt_tokens": fmean(len(one.probe.prompt_ids) for one in puts),
        "norm_ratio": seats.norm_ratio,
        "routed_right": None if not right or None in right else fmean(map(bool, right)),
        "kl_to_base_nats": fmean(harm) if harm else None,
        "library": told_of(exam, values),
        "per_question": {
            "document": exam.own,
            "kind": kinds,
            "gain": [round(gain, _DIGITS) for gain in gained],
            "recalled": [reading.recalled for reading in readings],
        },
        "per_written": {
            "place": written,
            **{name: [round(x, _DIGITS) for x in found] for name, found in scores.items()},
        },
        **provenance(exam),
    }


def provenance(exam: Exam) -> dict[str, Any]:
    """What a cell was measured on and by."""
    return {
        "format": FORMAT,
        "hashes": {
            "model": exam.base.info.sha256,
            "data": hash_examples([one.example for one in exam.asked]),
            "code": code_hash(),
        },
        "versions": software_versions(exam.base),
    }


def told_of(exam: Exam, values: Mapping[str, Any]) -> dict[str, Any]:
    """Of the adapters a cell reads: how many, how large, how well taught, at what cost."""
    shared = {"chunks": fmean(map(len, exam.library.chunks))}
    if values["adapter"] == NONE:
        return shared
    taught = exam.library.taught[kind_of(values)]
    return {**shared, **taught.told, "train_seconds": taught.seconds}


def kind_of(values: Mapping[str, Any]) -> str:
    """Which adapters of a library a cell reads."""
    return DOCUMENT if values["adapter"] == DOCUMENT else CHUNK


def seats_of(exam: Exam, values: Mapping[str, Any]) -> Seats:
    """The adapter that answers each question; none for the bare model."""
    way, n = values["adapter"], len(exam.asked)
    if way == NONE:
        return Seats((), ())
    own = exam.own
    if values["random"]:
        pairs = list(zip(exam.questions, own, strict=True))
        own = draw_irrelevant_modules(
            range(len(exam.library.longs)), pairs, seed=int(values["seed"])
        )
    if way == DOCUMENT:
        return Seats(exam.library.whole(), tuple(own))
    k = int(values["k"]) if way == MERGED else 1
    by_document = [exam.library.of_chunks(d) for d in range(len(exam.library.longs))]
    found: dict[tuple[int, ...], int] = {}
    adapters: list[Adapter] = []
    ratios: list[float] = []
    places, first = [], []
    for i in range(n):
        there = by_document[own[i]]
        if values["random"]:
            drawn = random.Random(f"chunks/{values['seed']}/{exam.questions[i]}")
            some = drawn.sample(sorted(there), min(k, len(there)))
        else:
            some = exam.rank(i, str(values["router"]), sorted(there))[:k]
            first.append(some[0])
        key = (own[i], *some)
        if key not in found:
            found[key] = len(adapters)
            parts = [there[c] for c in some]
            adapters.append(merged(parts, values) if way == MERGED else parts[0])
            ratios.append(length(adapters[-1]) / fmean(map(length, parts)))
        places.append(found[key])
    ratio = fmean(ratios) if way == MERGED else None
    return Seats(tuple(adapters), tuple(places), ratio, tuple(first))


def _asked_of(
    exam: Exam, puts: Sequence[Put], seats: Seats, written: Sequence[int], new_tokens: int | None
) -> tuple[list[AnswerReading], list[str], list[float]]:
    """Readings of all questions, replies to those that are written out, and the adapters' harm."""
    if not seats.adapters:
        return exam.read(puts), _replies(exam, [puts[i] for i in written], new_tokens), []
    readings: dict[int, AnswerReading] = {}
    replies: dict[int, str] = {}
    harm: list[float] = []
    n = len(seats.adapters)
    drawn = set(random.Random(f"harm/{n}").sample(range(n), min(n, _HARM_OF)))
    for start in range(0, len(seats.adapters), _TOGETHER):
        some = seats.adapters[start : start + _TOGETHER]
        mine = [i for i, place in enumerate(seats.places) if 0 <= place - start < len(some)]
        slots = [seats.places[i] - start for i in mine]
        with loaded_fleet(exam.base, some) as fleet:
            found = exam.read([puts[i] for i in mine], fleet, slots)
            readings |= dict(zip(mine, found, strict=True))
            told = [(i, slot) for i, slot in zip(mine, slots, strict=True) if i in set(written)]
            said = _replies(
                exam, [puts[i] for i, _ in told], new_tokens, fleet, [slot for _, slot in told]
            )
            replies |= dict(zip([i for i, _ in told], said, strict=True))
            if here := sorted(place - start for place in drawn if 0 <= place - start < len(some)):
                harm += kl_to_base(exam.base, fleet, here)
    return [readings[i] for i in range(len(puts))], [replies[i] for i in written], harm


def _replies(
    exam: Exam,
    puts: Sequence[Put],
    new_tokens: int | None,
    fleet: Fleet | None = None,
    slots: Sequence[int] | None = None,
) -> list[str]:
    if not puts:
        return []
    return generate(
        exam.base,
        [one.probe.prompt_ids for one in puts],
        fleet=fleet,
        slots=slots,
        max_new_tokens=int(new_tokens or 0),
        options=GenerationOptions(prefix=[one.prefix for one in puts]),
    )


def _chosen(exam: Exam, n: int) -> list[int]:
    """Of each document so many questions, of all kinds in turn."""
    counts: dict[tuple[int, str], int] = {}
    order = []
    for i, one in enumerate(exam.asked):
        key = (exam.own[i], one.kind)
        order.append((exam.own[i], counts.setdefault(key, 0), i))
        counts[key] += 1
    found = []
    for document in range(len(exam.library.longs)):
        found += [i for d, _, i in sorted(order) if d == document][:n]
    return sorted(found)
