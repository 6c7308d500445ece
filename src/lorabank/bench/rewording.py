"""Bench of asking in other words: what a memory answers right, wrongly, and leaves alone.

Facts of the second thousand entries of WikiBigEdit, zsRE and CounterFact (LORABANK_DATA), phone
books and airport codes are stored and asked as taught, in their other wording, as people type,
and about what is not stored (wording_data.py). CounterFact's other wordings put unrelated sentences
in front, and its questions are statements to complete: nothing was tuned on them.

    exact     the bank's lookup of stored examples (`--with exact`), without any module
    trigram   the peer: the nearest stored question by character trigrams, whatever it is
    bank      a written bank as its users ask it, for the small sets (rewording_bank.py)
    adapter   its modules by their weights alone, behind the gate
"""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any

from lorabank.bench.rewording_bank import Arm, Told, measure_writing, written_arms
from lorabank.bench.wording_data import (
    TYPED,
    Asked,
    StoredFact,
    ask_facts,
    code_facts,
    phone_facts,
    read_edits,
)
from lorabank.engine.backbone.base import Base
from lorabank.engine.inference.embedder import load_embedder
from lorabank.engine.settings import SOUND, TrainSettings
from lorabank.errors import UnavailableError
from lorabank.retrieval.stored_questions import StoredQuestions, probability
from lorabank.retrieval.trigrams import TrigramIndex, fold
from lorabank.retrieval.wordings import token_rarity
from lorabank.study.data_folder import data_folder
from lorabank.tasks.ordinary_texts import QUESTIONS as ORDINARY

_log = logging.getLogger(__name__)
_EDITS = ("wikibigedit", "zsre", "counterfact")
_FIRST_ENTRY = 1000  # those before were fitted on
_BINS = 10


@dataclass(frozen=True, slots=True)
class WordingSizes:
    """Sizes of the wording bench."""

    facts: int = 960
    """Facts in the large sets; the small ones have a tenth."""
    questions: int = 2400
    """Questions of a set, drawn evenly from each kind; ordinary ones are always asked."""
    written_questions: int = 120
    """Questions of a set that a written bank is asked, drawn evenly from each kind."""
    facts_each: int = 24
    """Facts in a module of a written bank; 0 to write none."""
    embeds: bool = True
    """Whether meaning is compared too; otherwise words alone."""
    timed: int = 48
    """Questions of each set that are asked one by one for their time."""
    seed: int = 0
    """Seed of phone books, typing slips, drawn questions and training."""
    settings: TrainSettings = SOUND


def bench_wording(base: Base, *, pairs: int, sizes: WordingSizes) -> dict[str, Any]:
    """Measure all arms on all sets.

    Args:
        pairs: not used; the questions themselves are repeated measurements.

    Raises:
        UsageError: LORABANK_DATA is not set.
    """
    rows, settings = [], replace(sizes.settings, seed=sizes.seed)
    for data, facts in _fact_sets(sizes):
        all_questions = ask_facts(facts, seed=sizes.seed)
        ordinary = [q for q in all_questions if q.kind == "ordinary"]
        others = [q for q in all_questions if q.kind != "ordinary"]
        questions = [*draw_questions(others, sizes.questions), *ordinary]
        exact = _exact_arm(base, facts, embeds=sizes.embeds)
        for name, arm in (("exact", exact), ("trigram", _trigram_arm(facts))):
            rows.append(_row(data, facts, questions, name, arm, sizes))
        if sizes.facts_each and len(facts) <= _n_small(sizes):
            stored = [q for q in all_questions if q.without is None]
            fewer = draw_questions(stored, sizes.written_questions)
            n, embeds = sizes.facts_each, sizes.embeds
            with written_arms(base, facts, settings, facts_each=n, embeds=embeds) as arms:
                rows += [_row(data, facts, fewer, *named, sizes) for named in arms.items()]
    costs = measure_writing(base, settings, facts=sizes.facts_each) if sizes.facts_each else {}
    return {"bench": "wording", "settings": {"seed": sizes.seed}, **costs, "results": rows}


def draw_questions(questions: Sequence[Asked], most: int) -> list[Asked]:
    """Return about as many questions as asked for, the same share of every kind, in their order."""
    of_kind: dict[str, list[int]] = defaultdict(list)
    for i, question in enumerate(questions):
        of_kind[question.kind].append(i)
    share = min(1.0, most / len(questions))
    chosen: list[int] = []
    for indices in of_kind.values():
        n = max(1, round(share * len(indices)))
        chosen += [indices[k * len(indices) // n] for k in range(n)]
    return [questions[i] for i in sorted(chosen)]


def _row(
    data: str,
    facts: Sequence[StoredFact],
    questions: Sequence[Asked],
    name: str,
    arm: Arm,
    sizes: WordingSizes,
) -> dict[str, Any]:
    """Ask one arm; return its row of the results."""
    _log.info("%s, %d facts: %d questions with %s", data, len(facts), len(questions), name)
    shares = _measure(arm, facts, questions)
    seconds = _time(arm, questions, sizes.timed)
    return {"data": data, "facts": len(facts), "arm": name, **shares, "ask_p50_s": seconds}


def _n_small(sizes: WordingSizes) -> int:
    return max(2, sizes.facts // 10)


def _fact_sets(sizes: WordingSizes) -> Iterator[tuple[str, list[StoredFact]]]:
    """Yield the name and the facts of each set."""
    folder, small = data_folder("edits"), _n_small(sizes)
    for n in (small, sizes.facts):
        for name in _EDITS:
            path = folder / f"{name}_2k.json"
            yield name, read_edits(path, _FIRST_ENTRY, n, seed=sizes.seed)
        yield "phone book", phone_facts(n // 2, seed=1000 + sizes.seed)
    yield "airport codes", code_facts(min(48, small), seed=sizes.seed)


def _exact_arm(base: Base, facts: Sequence[StoredFact], *, embeds: bool) -> Arm:
    """Return the lookup of stored examples, with an embedder if there is one."""
    embed = None
    try:
        embed = load_embedder().embed if embeds else None
    except UnavailableError as error:
        _log.warning("by words alone: %s", error)
    tokenizer, stored_texts = base.chat.tokenizer, [fact.question for fact in facts]
    stored = StoredQuestions(
        stored_texts,
        token_rarity(lambda word: len(tokenizer(word, add_special_tokens=False)["input_ids"])),
        vectors=embed(stored_texts) if embed else None,
        embed=embed,
    )

    def same_answer(a: int, b: int) -> bool:
        return facts[a].answer == facts[b].answer

    threshold = stored.calibrate(list(ORDINARY), same_answer=same_answer)

    def tell(questions: Sequence[Asked]) -> list[Told]:
        without = [frozenset([a.without] if a.without is not None else []) for a in questions]
        texts = [a.question for a in questions]
        replies = []
        near = stored.match(texts, same_answer=same_answer, without=without)
        for text, matches in zip(texts, near, strict=True):
            if not matches:
                replies.append(Told(None))
                continue
            best = matches[0]
            is_equal = fold(text) == fold(stored_texts[best.row])
            is_stored = best.score >= threshold or is_equal
            answer = facts[best.row].answer if is_stored else None
            replies.append(Told(answer, probability(best.score)))
        return replies

    return tell


def _trigram_arm(facts: Sequence[StoredFact]) -> Arm:
    """Return the peer, which always answers."""
    index = TrigramIndex([fold(fact.question) for fact in facts])

    def tell(questions: Sequence[Asked]) -> list[Told]:
        replies = []
        for question in questions:
            scores = index.scores(fold(question.question))
            if question.without is not None:
                scores[question.without] = -1.0
            replies.append(Told(facts[int(scores.argmax())].answer))
        return replies

    return tell


def _measure(arm: Arm, facts: Sequence[StoredFact], questions: Sequence[Asked]) -> dict[str, Any]:
    """Return shares of right and wrong answers by kind of question, and the calibration error."""
    right: dict[str, list[float]] = defaultdict(list)
    wrong: dict[str, list[float]] = defaultdict(list)
    sure: list[tuple[float, bool]] = []
    for question, reply in zip(questions, arm(questions), strict=True):
        answers = reply.answer is not None
        is_right = (
            reply.answer is not None
            and question.fact is not None
            and reply.answer.strip() == facts[question.fact].answer.strip()
        )
        kinds = [question.kind, *(["typed_badly"] if question.kind in TYPED[:4] else [])]
        for kind in kinds:
            right[kind].append(is_right)
            wrong[kind].append(answers and not is_right)
        if answers and reply.p is not None:
            sure.append((reply.p, is_right))

    def share(values: Sequence[float]) -> float | None:
        return round(fmean(values), 4) if values else None

    shares: dict[str, Any] = {}
    for kind in ("taught", "reworded", "typed_badly", *TYPED):
        shares |= {kind: share(right[kind]), f"{kind}_wrong": share(wrong[kind])}
    for kind in ("near_miss", "relation", "left_out", "ordinary"):
        shares[f"{kind}_answered"] = share(wrong[kind])
    return {**shares, "calibration_error": calibration_error(sure), "reliability": _curve(sure)}


def calibration_error(sure: Sequence[tuple[float, bool]]) -> float | None:
    """Return the expected calibration error of answers, in ten bins of probability.

    Args:
        sure: (probability, whether the answer is right) of each answer.
    """
    if not sure:
        return None
    gaps = [len(answers) * abs(_mean_p(answers) - _share_right(answers)) for answers in _bins(sure)]
    return round(sum(gaps) / len(sure), 4)


def _curve(sure: Sequence[tuple[float, bool]]) -> list[list[float]]:
    """Return the reliability curve: mean probability, share right and answers of each bin."""
    return [
        [round(_mean_p(answers), 4), round(_share_right(answers), 4), len(answers)]
        for answers in _bins(sure)
    ]


def _bins(sure: Sequence[tuple[float, bool]]) -> list[list[tuple[float, bool]]]:
    bins: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for p, is_right in sure:
        bins[min(_BINS - 1, int(p * _BINS))].append((p, is_right))
    return [bins[i] for i in sorted(bins)]


def _mean_p(answers: Sequence[tuple[float, bool]]) -> float:
    return fmean(p for p, _ in answers)


def _share_right(answers: Sequence[tuple[float, bool]]) -> float:
    return fmean(is_right for _, is_right in answers)


def _time(arm: Arm, questions: Sequence[Asked], n: int) -> float:
    """Return the median seconds of a question by itself."""
    seconds = []
    for question in questions[:: max(1, len(questions) // n)][:n]:
        started = time.perf_counter()
        arm([question])
        seconds.append(time.perf_counter() - started)
    return round(median(seconds), 5)
