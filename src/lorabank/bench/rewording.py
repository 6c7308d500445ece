"""Bench of asking in other words: what a memory answers right, wrongly, and leaves alone.

Facts of the second thousand entries of WikiBigEdit, zsRE and CounterFact (LORABANK_DATA), phone
books and airport codes are stored and asked as taught, in their other wording, as people type,
and about what is not stored (wording_data.py). CounterFact's other wordings put unrelated sentences
in front, and its questions are statements to complete: nothing was tuned on them.

    exact     the bank's lookup of stored examples (`--with exact`), without any module
    trigram   the peer: the nearest stored question by character trigrams, whatever it is
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

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
    """Most questions of a set, drawn evenly from all; ordinary ones are always asked."""
    embeds: bool = True
    """Whether meaning is compared too; otherwise words alone."""
    timed: int = 48
    """Questions of each set that are asked one by one for their time."""
    seed: int = 0
    """Seed of phone books, typing slips and drawn questions."""


@dataclass(frozen=True, slots=True)
class Told:
    """An arm's answer to a question."""

    fact: int | None
    """Stored fact whose answer is given; None for no answer."""
    p: float | None = None
    """Probability that it is right; None for an arm that does not say."""


Arm = Callable[[Sequence[Asked]], list[Told]]


def bench_wording(base: Base, *, pairs: int, sizes: WordingSizes) -> dict[str, Any]:
    """Measure all arms on all sets.

    Args:
        pairs: not used; the questions themselves are repeated measurements.

    Raises:
        UsageError: LORABANK_DATA is not set.
    """
    rows = []
    for data, facts in _fact_sets(sizes):
        questions = ask_facts(facts, seed=sizes.seed)
        every = -(-len(questions) // sizes.questions)
        questions = [q for i, q in enumerate(questions) if i % every == 0 or q.kind == "ordinary"]
        exact = _exact_arm(base, facts, embeds=sizes.embeds)
        for name, arm in (("exact", exact), ("trigram", _trigram_arm(facts))):
            _log.info("%s, %d facts: %d questions with %s", data, len(facts), len(questions), name)
            row = {
                "data": data,
                "facts": len(facts),
                "arm": name,
                **_measure(arm, facts, questions),
            }
            rows.append({**row, "ask_p50_s": _time(arm, questions, sizes.timed)})
    return {"bench": "wording", "settings": {"seed": sizes.seed}, "results": rows}


def _fact_sets(sizes: WordingSizes) -> Iterator[tuple[str, list[StoredFact]]]:
    """Yield the name and the facts of each set."""
    folder, small = data_folder("edits"), max(2, sizes.facts // 10)
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
            replies.append(Told(best.row if is_stored else None, probability(best.score)))
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
            replies.append(Told(int(scores.argmax())))
        return replies

    return tell


def _measure(arm: Arm, facts: Sequence[StoredFact], questions: Sequence[Asked]) -> dict[str, Any]:
    """Return shares of right and wrong answers by kind of question, and the calibration error."""
    right: dict[str, list[float]] = defaultdict(list)
    wrong: dict[str, list[float]] = defaultdict(list)
    sure: list[tuple[float, bool]] = []
    for question, reply in zip(questions, arm(questions), strict=True):
        answers = reply.fact is not None
        is_right = (
            reply.fact is not None
            and question.fact is not None
            and facts[reply.fact].answer == facts[question.fact].answer
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
    return {**shares, "reversed": None, "calibration_error": calibration_error(sure)}


def calibration_error(sure: Sequence[tuple[float, bool]]) -> float | None:
    """Return the expected calibration error of answers, in ten bins of probability.

    Args:
        sure: (probability, whether the answer is right) of each answer.
    """
    if not sure:
        return None
    bins: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for p, is_right in sure:
        bins[min(_BINS - 1, int(p * _BINS))].append((p, is_right))
    gaps = [
        len(held) * abs(fmean(p for p, _ in held) - fmean(is_right for _, is_right in held))
        for held in bins.values()
    ]
    return round(sum(gaps) / len(sure), 4)


def _time(arm: Arm, questions: Sequence[Asked], n: int) -> float:
    """Return the median seconds of a question by itself."""
    seconds = []
    for question in questions[:: max(1, len(questions) // n)][:n]:
        started = time.perf_counter()
        arm([question])
        seconds.append(time.perf_counter() - started)
    return round(median(seconds), 5)
