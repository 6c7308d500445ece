"""Comparing memories: every way of answering on the same questions, and from when each pays.

Quality is measured on all questions in shared batches, with intervals clustered by document; time
on a few of them asked one by one, with everything that is made once made before. What is made once
is stated apart: training, calibration, the index, reading documents. arXiv:2603.01097 (its question
15) leaves training out of its latencies and reads the same document anew for every question.
"""

import csv
import io
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from lorabank.bank.answer.answers import Answer
from lorabank.bank.answer.modes import ADAPTER, AUTO, ICL, MODES, RAG
from lorabank.bank.bank import Bank
from lorabank.engine.backbone.caches import new_prompt_cache
from lorabank.errors import DataError, UsageError
from lorabank.lora.intervals import Interval, bootstrap_mean
from lorabank.tasks.datasets import fields
from lorabank.tasks.scoring.text_metrics import exact_match, token_f1

_log = logging.getLogger(__name__)
ALL_MODES = (*MODES, AUTO)
N_TIMED = 8


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question to compare by."""

    question: str
    answer: str | None
    """None: nothing in the bank answers it, and the right thing is to abstain."""
    document: str = ""
    """What it is about; questions on one document share its luck. Empty: it stands alone."""


@dataclass(frozen=True, slots=True)
class MeanScore:
    """A mean over questions, and its 95 % interval."""

    mean: float
    low: float | None
    high: float | None
    """None below three documents."""


@dataclass(frozen=True, slots=True)
class ModeResult:
    """One way of answering."""

    mode: str
    token_f1: MeanScore
    exact: MeanScore
    prompt_tokens: float
    """Mean."""
    first_token_ms: float
    total_ms: float
    """Medians of questions asked one by one."""
    once_s: dict[str, float]
    """Seconds spent before the first question: training, calibration, index, prefill."""
    abstained: int
    used: dict[str, int]
    """How often which way answered."""
    notes: dict[str, int]
    break_even: dict[str, float | None]
    """By the way it is held against: questions per document from which it takes less time in all;
    0 where it does from the first, None where it never does."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All memories on the same questions."""

    questions: int
    documents: int
    """Of the bank, that break-even is counted by."""
    memories: tuple[ModeResult, ...]
    left_out: dict[str, str]
    """Ways that cannot answer here, and why."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_questions(path: Path) -> list[LabelledQuestion]:
    """Questions from a `.jsonl` or `.csv` file with question, answer and perhaps document.

    An answer that is left empty, or null, says that nothing in the bank answers the question.

    Raises:
        DataError: no such file, or a record without question or answer.
    """
    items = []
    for line, record in _records(path):
        where = f"{path}, line {line}"
        question = fields.text(where, record, "question")
        is_answered = "answer" not in record or record["answer"] not in (None, "")
        answer = fields.text(where, record, "answer") if is_answered else None
        document = record.get("document") or ""
        if not isinstance(document, str):
            raise DataError(f"{where}: document must be text, got {document!r}")
        items.append(LabelledQuestion(question, answer, document))
    if not items:
        raise DataError(f"{path}: no questions in it; give one row or line for each")
    return items


def compare(
    bank: Bank,
    questions: Sequence[LabelledQuestion],
    *,
    modes: Sequence[str] = ALL_MODES,
    n_timed: int = N_TIMED,
    max_new_tokens: int = 64,
) -> Comparison:
    """Every way on all questions.

    A way that cannot answer here (no text in the bank, a document that does not fit) is left out,
    and why is said.

    Args: n_timed: questions asked one by one, spread over all; 1 or more.

    Raises:
        UsageError: no questions, or none to be timed.
    """
    if not questions or n_timed < 1:
        raise UsageError(
            f"compare needs at least 1 question and at least 1 timed question, got "
            f"{len(questions)} questions and n_timed={n_timed}"
        )
    texts = [labelled.question for labelled in questions]
    timed = texts[:: max(1, len(texts) // n_timed)][:n_timed]
    n_documents = max(1, len(bank.excerpts.documents) or len(bank.modules()))
    measured: list[ModeResult] = []
    left_out: dict[str, str] = {}
    for mode in modes:
        _log.info("asking %d questions with %s", len(questions), mode)
        try:
            answers = bank.ask_all(texts, mode=mode, max_new_tokens=max_new_tokens)
        except UsageError as error:
            left_out[mode] = str(error)
            continue
        alone = [_alone(bank, text, mode, max_new_tokens) for text in timed]
        once = _once(bank, mode, timed[0], max_new_tokens)
        measured.append(_summarise_mode(mode, questions, answers, alone, once))
    by_mode = {result.mode: result for result in measured}
    for result in measured:
        for other in (ICL, RAG):
            if other in by_mode and other != result.mode:
                result.break_even[other] = _break_even(result, by_mode[other], n_documents)
    return Comparison(len(questions), n_documents, tuple(measured), left_out)


def score(
    items: Sequence[LabelledQuestion], answers: Sequence[Answer], *, exact: bool = False
) -> MeanScore:
    """Token F1 or exact match; of a question without an answer, whether nothing was said."""
    metric = exact_match if exact else token_f1
    clusters: dict[str, list[float]] = {}
    for i, (item, answer) in enumerate(zip(items, answers, strict=True)):
        right = answer.kind == "abstained"
        value = float(right) if item.answer is None else metric(answer.text, item.answer)
        clusters.setdefault(item.document or f"\0{i}", []).append(value)
    values = [value for cluster in clusters.values() for value in cluster]
    interval: Interval | None = bootstrap_mean(list(clusters.values()), by_size=True)
    return MeanScore(
        fmean(values), interval.low if interval else None, interval.high if interval else None
    )


def best_fixed(comparison: Comparison) -> ModeResult:
    """The way that scores best of those that are the same for every question."""
    fixed = [memory for memory in comparison.memories if memory.mode != AUTO]
    return max(fixed, key=lambda memory: memory.token_f1.mean)


def _records(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """(line, record)"""
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        yield from fields.read_lines(path)
        return
    if suffix != ".csv":
        raise DataError(
            f"{path}: questions must be a .csv or .jsonl file, got {suffix or 'no suffix'}"
        )
    reader = csv.DictReader(io.StringIO(fields.read_text(path), newline=""), strict=True)
    try:
        for row in reader:
            if None in row.values():
                raise DataError(f"{path}, line {reader.line_num}: has fewer columns than line 1")
            yield reader.line_num, {str(name).strip(): value for name, value in row.items()}
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not a CSV row: {error}") from None


def _summarise_mode(
    way: str,
    items: Sequence[LabelledQuestion],
    answers: Sequence[Answer],
    alone: Sequence[Answer],
    once: dict[str, float],
) -> ModeResult:
    return ModeResult(
        mode=way,
        token_f1=score(items, answers),
        exact=score(items, answers, exact=True),
        prompt_tokens=fmean(answer.prompt_tokens for answer in answers),
        first_token_ms=1000 * median(answer.first_token_s for answer in alone),
        total_ms=1000 * median(answer.seconds for answer in alone),
        once_s=once,
        abstained=sum(answer.kind == "abstained" for answer in answers),
        used=dict(Counter(answer.used for answer in answers)),
        notes=dict(Counter(answer.note for answer in answers if answer.note)),
        break_even={},
    )


def _alone(bank: Bank, question: str, way: str, max_new_tokens: int) -> Answer:
    """A question as if it had not been asked before: nothing of its prompt is kept."""
    bank.base.prompt_cache = new_prompt_cache()
    return bank.ask(question, mode=way, max_new_tokens=max_new_tokens)


def _once(bank: Bank, way: str, question: str, max_new_tokens: int) -> dict[str, float]:
    """Seconds of what the way needs made before the first question."""
    once: dict[str, float] = {}
    if ADAPTER in way or way == AUTO:
        # Modules written in one fleet all have its seconds in their records.
        fleets = {version.record.get("seconds", 0.0) for version in bank.modules()}
        once["training"] = float(sum(fleets))
    if way in (ADAPTER, AUTO):
        judges = [bank.gate()] + [bank.text_gate()] * (way == AUTO)
        once["calibration"] = sum(judge.seconds for judge in judges if judge)
    if RAG in way or ICL in way or way == AUTO:
        once["index"] = bank.excerpts.build_seconds
    if ICL in way:
        bank.base.document_cache.clear()
        cold, warm = (_seconds(bank, way, question, max_new_tokens) for _ in range(2))
        once["prefill"] = max(0.0, cold - warm) * len(bank.excerpts.documents)
    return once


def _seconds(bank: Bank, way: str, question: str, max_new_tokens: int) -> float:
    started = time.perf_counter()
    bank.ask(question, mode=way, max_new_tokens=max_new_tokens)
    return time.perf_counter() - started


def _break_even(memory: ModeResult, other: ModeResult, n_documents: int) -> float | None:
    dearer = (sum(memory.once_s.values()) - sum(other.once_s.values())) / n_documents
    saved = (other.total_ms - memory.total_ms) / 1000
    if dearer <= 0:
        return 0.0 if saved >= 0 else None
    return dearer / saved if saved > 0 else None
