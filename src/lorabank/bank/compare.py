"""Comparison of all modes of answering on the same questions, and from when each pays.

Quality is measured on all questions in shared batches, with intervals clustered by document. Time
is measured on a few questions asked one by one, after everything that is made once was made. What
is made once is reported apart: training, calibration, the index, the prefill of documents.
arXiv:2603.01097 (its question 15) leaves training out of its latencies and reads the same document
again for every question.
"""

import logging
import math
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
from lorabank.planning.break_even import cheaper_range
from lorabank.tasks import fields
from lorabank.tasks.csv_rows import read_csv
from lorabank.tasks.scoring.text_metrics import exact_match, token_f1

_log = logging.getLogger(__name__)
ALL_MODES = (*MODES, AUTO)
N_TIMED = 8


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question with its gold answer."""

    question: str
    answer: str | None
    """Gold answer; None if nothing in the bank answers it, so that abstaining is right."""
    document: str = ""
    """Document it is about, by which intervals are clustered; empty for a question by itself."""


@dataclass(frozen=True, slots=True)
class ScoreWithInterval:
    """A mean over questions with its 95 % interval."""

    mean: float
    low: float | None
    """Lower end; None with fewer than three documents."""
    high: float | None
    """Upper end; None with fewer than three documents."""


@dataclass(frozen=True, slots=True)
class ModeResult:
    """The measurements of one mode."""

    mode: str
    token_f1: ScoreWithInterval
    exact: ScoreWithInterval
    prompt_tokens: float
    """Mean number of prompt tokens."""
    first_token_ms: float
    """Median time to the first token of questions asked one by one."""
    total_ms: float
    """Median time to the whole answer of questions asked one by one."""
    once_s: dict[str, float]
    """Seconds spent before the first question: training, calibration, index, prefill."""
    abstained: int
    """Number of questions left without an answer."""
    used: dict[str, int]
    """Number of questions by the mode in which they were answered."""
    notes: dict[str, int]
    """Number of answers by their note."""
    break_even: dict[str, float | None]
    """Questions per document from which this mode takes less time in all than another one, by that
    mode; 0 if it does from the first question, None if it never does."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The results of all modes on the same questions."""

    questions: int
    documents: int
    """Number of documents in the bank, by which break-even is counted."""
    memories: tuple[ModeResult, ...]
    """Results of the modes."""
    left_out: dict[str, str]
    """Modes that cannot answer here, with the reason."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_questions(path: Path) -> list[LabelledQuestion]:
    """Read questions from a `.jsonl` or `.csv` file with question, answer and maybe document.

    An answer that is empty or null means that nothing in the bank answers the question.

    Raises:
        DataError: no such file, or a record without question or answer.
    """
    questions = []
    for line, record in _read_records(path):
        where = f"{path}, line {line}"
        question = fields.text(where, record, "question")
        is_answered = "answer" not in record or record["answer"] not in (None, "")
        answer = fields.text(where, record, "answer") if is_answered else None
        document = record.get("document") or ""
        if not isinstance(document, str):
            raise DataError(f"{where}: document must be text, got {document!r}")
        questions.append(LabelledQuestion(question, answer, document))
    if not questions:
        raise DataError(f"{path}: no questions in it; give one row or line for each")
    return questions


def compare(
    bank: Bank,
    questions: Sequence[LabelledQuestion],
    *,
    modes: Sequence[str] = ALL_MODES,
    n_timed: int = N_TIMED,
    max_new_tokens: int = 64,
) -> Comparison:
    """Ask all questions in every mode.

    A mode that cannot answer here (no text in the bank, a document that does not fit) is left out,
    with the reason.

    Args:
        n_timed: number of questions asked one by one for their times, spread over all.

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
        timed_answers = [_ask_cold(bank, text, mode, max_new_tokens) for text in timed]
        once_s = _measure_once(bank, mode, timed[0], max_new_tokens)
        measured.append(_summarise_mode(mode, questions, answers, timed_answers, once_s))
    by_mode = {result.mode: result for result in measured}
    for result in measured:
        for other in (ICL, RAG):
            if other in by_mode and other != result.mode:
                result.break_even[other] = _break_even(result, by_mode[other], n_documents)
    return Comparison(len(questions), n_documents, tuple(measured), left_out)


def score(
    questions: Sequence[LabelledQuestion], answers: Sequence[Answer], *, exact: bool = False
) -> ScoreWithInterval:
    """Score answers by token F1 or exact match; questions without an answer by abstention."""
    metric = exact_match if exact else token_f1
    clusters: dict[str, list[float]] = {}
    for i, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        if question.answer is None:
            value = float(answer.kind == "abstained")
        else:
            value = metric(answer.text, question.answer)
        clusters.setdefault(question.document or f"\0{i}", []).append(value)
    values = [value for cluster in clusters.values() for value in cluster]
    interval: Interval | None = bootstrap_mean(list(clusters.values()), by_size=True)
    return ScoreWithInterval(
        fmean(values), interval.low if interval else None, interval.high if interval else None
    )


def best_fixed(comparison: Comparison) -> ModeResult:
    """Return the mode with the best token F1, `auto` left out."""
    fixed = [result for result in comparison.memories if result.mode != AUTO]
    return max(fixed, key=lambda result: result.token_f1.mean)


def _read_records(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield (line number, record)."""
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        yield from fields.read_lines(path)
        return
    if suffix != ".csv":
        raise DataError(
            f"{path}: questions must be a .csv or .jsonl file, got {suffix or 'no suffix'}"
        )
    table = read_csv(path, single=("question", "answer", "document"))
    for line, row in table.rows:
        if len(row) < len(set(table.columns)):
            raise DataError(f"{path}, line {line}: has fewer columns than line 1")
        yield line, dict(row)


def _summarise_mode(
    mode: str,
    questions: Sequence[LabelledQuestion],
    answers: Sequence[Answer],
    timed_answers: Sequence[Answer],
    once_s: dict[str, float],
) -> ModeResult:
    """Return the result of a mode, without break-even yet."""
    return ModeResult(
        mode=mode,
        token_f1=score(questions, answers),
        exact=score(questions, answers, exact=True),
        prompt_tokens=fmean(answer.prompt_tokens for answer in answers),
        first_token_ms=1000 * median(answer.first_token_s for answer in timed_answers),
        total_ms=1000 * median(answer.seconds for answer in timed_answers),
        once_s=once_s,
        abstained=sum(answer.kind == "abstained" for answer in answers),
        used=dict(Counter(answer.used for answer in answers)),
        notes=dict(Counter(answer.note for answer in answers if answer.note)),
        break_even={},
    )


def _ask_cold(bank: Bank, question: str, mode: str, max_new_tokens: int) -> Answer:
    """Ask a question without any cached prefill of its prompt."""
    bank.base.prompt_cache = new_prompt_cache()
    return bank.ask(question, mode=mode, max_new_tokens=max_new_tokens)


def _measure_once(bank: Bank, mode: str, question: str, max_new_tokens: int) -> dict[str, float]:
    """Return the seconds of everything that a mode needs before the first question."""
    once_s: dict[str, float] = {}
    if ADAPTER in mode or mode == AUTO:
        # Modules that were written in one fleet all have the fleet's seconds in their records.
        fleets = {version.record.get("seconds", 0.0) for version in bank.modules()}
        once_s["training"] = float(sum(fleets))
    if mode in (ADAPTER, AUTO):
        gates = [bank.gate()] + [bank.text_gate()] * (mode == AUTO)
        once_s["calibration"] = sum(gate.seconds for gate in gates if gate)
    if RAG in mode or ICL in mode or mode == AUTO:
        once_s["index"] = bank.excerpts.build_seconds
    if ICL in mode:
        bank.base.document_cache.clear()
        cold, warm = (_time(bank, mode, question, max_new_tokens) for _ in range(2))
        once_s["prefill"] = max(0.0, cold - warm) * len(bank.excerpts.documents)
    return once_s


def _time(bank: Bank, mode: str, question: str, max_new_tokens: int) -> float:
    """Return the seconds that a question takes."""
    started = time.perf_counter()
    bank.ask(question, mode=mode, max_new_tokens=max_new_tokens)
    return time.perf_counter() - started


def _break_even(result: ModeResult, other: ModeResult, n_documents: int) -> float | None:
    """Return the questions per document from which a mode takes less time than another."""
    first, last = cheaper_range(
        sum(result.once_s.values()) / n_documents,
        result.total_ms / 1000,
        sum(other.once_s.values()) / n_documents,
        other.total_ms / 1000,
    )
    return first if last == math.inf and first < math.inf else None
