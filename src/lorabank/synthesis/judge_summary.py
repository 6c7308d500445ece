"""Summary of judged answers: means with intervals, and agreement of the judge with other measures.

Answers about one document are correlated, so an interval is a bootstrap over documents and the
answers of each, given from three documents on; a document weighs by its number of answers. A judge
is compared with token F1 and with a second judge: rank correlation, mean difference, and Cohen's
kappa with quadratic weights.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import spearmanr

from lorabank.errors import DataError
from lorabank.lora.intervals import bootstrap_mean
from lorabank.synthesis.answer_judge import JudgedAnswer, JudgeOutcome
from lorabank.tasks import fields
from lorabank.tasks.scoring.text_metrics import METRICS

_METRICS = ("token_f1", "rouge_l", "bleu", "exact_match")


@dataclass(frozen=True, slots=True)
class MeanScore:
    """Mean of a measure over the answers that have it."""

    mean: float
    low: float | None
    high: float | None
    """Upper end of the 95 % interval over documents; both ends are None below three documents."""
    n: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of a judge's scores with other numbers for the same answers."""

    n: int
    spearman: float | None
    """Rank correlation; None where one of the two never varies."""
    kappa: float | None = None
    """Cohen's kappa of two judges, with quadratic weights."""
    mean_difference: float | None = None
    """Mean absolute difference of two judges, in points of 0..10."""


def read_answers(path: Path) -> list[JudgedAnswer]:
    """Read a JSONL file of answers.

    Fields: question, gold (a text or a list), answer; optional: document, gain.

    Raises:
        DataError: the file cannot be read, is empty, or lacks a field.
    """
    answers = [_read_answer(f"{path}, line {line}", raw) for line, raw in fields.read_lines(path)]
    if not answers:
        raise DataError(f"{path}: no answers in it; give one JSON object a line")
    return answers


def summarise(
    answers: Sequence[JudgedAnswer], judged: JudgeOutcome, second: JudgeOutcome | None = None
) -> dict[str, Any]:
    """Return the summary as JSON: means, metrics, agreement and answers without a score."""
    scores = [mark.score for mark in judged.judgements]
    metrics: dict[str, list[float | None]] = {
        name: [METRICS[name](answer.text, answer.golds) for answer in answers] for name in _METRICS
    }
    f1 = metrics["token_f1"]
    metrics["gain"] = [answer.gain for answer in answers]
    summary: dict[str, Any] = {
        "judge": judged.judge,
        "answers": len(answers),
        "documents": len({answer.document for answer in answers}),
        "score": _as_json(_mean(answers, scores)),
        "missing": dict(judged.missing),
        "metrics": {
            name: _as_json(mean)
            for name, values in metrics.items()
            if (mean := _mean(answers, values))
        },
        "agreement": {"token_f1": asdict(_agreement(scores, f1))},
        "calls": judged.calls,
        "kept": judged.cached_replies,
        "prompt_tokens": judged.prompt_tokens,
        "completion_tokens": judged.completion_tokens,
    }
    if second is not None:
        others = [mark.score for mark in second.judgements]
        summary["second"] = {
            "judge": second.judge,
            "score": _as_json(_mean(answers, others)),
            "missing": dict(second.missing),
            "agreement": {"token_f1": asdict(_agreement(others, f1))},
        }
        summary["agreement"]["second"] = asdict(_agreement(scores, others, are_judges=True))
    return summary


def _read_answer(where: str, raw: Mapping[str, Any]) -> JudgedAnswer:
    gold = raw.get("gold")
    golds = fields.texts(where, raw, "gold") if isinstance(gold, list) else None
    text = raw.get("answer")
    if not isinstance(text, str):  # an empty answer may be judged too
        raise DataError(f"{where}: answer must be a text, got {str(text)[:40]}")
    gain = raw.get("gain")
    if gain is not None and (isinstance(gain, bool) or not isinstance(gain, int | float)):
        raise DataError(f"{where}: gain must be a number, got {str(gain)[:40]}")
    if gain is not None and not math.isfinite(gain):
        raise DataError(f"{where}: gain must be finite, got {gain}; leave it out of this row")
    return JudgedAnswer(
        fields.text(where, raw, "question"),
        golds or (fields.text(where, raw, "gold"),),
        text,
        fields.text(where, raw, "document") if "document" in raw else "",
        None if gain is None else float(gain),
    )


def _mean(answers: Sequence[JudgedAnswer], values: Sequence[float | None]) -> MeanScore | None:
    clusters: dict[str, list[float]] = {}
    for answer, value in zip(answers, values, strict=True):
        if value is not None:
            clusters.setdefault(answer.document, []).append(float(value))
    known = [value for cluster in clusters.values() for value in cluster]
    if not known:
        return None
    interval = bootstrap_mean(list(clusters.values()), by_size=True)
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return MeanScore(fmean(known), low, high, len(known))


def _agreement(
    scores: Sequence[int | None], others: Sequence[float | None], *, are_judges: bool = False
) -> Agreement:
    pairs = [
        (float(a), float(b))
        for a, b in zip(scores, others, strict=True)
        if a is not None and b is not None
    ]
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    varies = len(set(first)) > 1 and len(set(second)) > 1
    rank = float(spearmanr(first, second).statistic) if varies else None
    if not are_judges or not pairs:
        return Agreement(len(pairs), rank)
    apart = fmean(abs(a - b) for a, b in pairs)
    return Agreement(len(pairs), rank, _kappa(first, second), apart)


def _kappa(first: ArrayLike, second: ArrayLike) -> float | None:
    """Return 1 minus the squared distance of the pairs over that of random pairs."""
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    by_chance = float(a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    # If all scores are the same, kappa is undefined.
    return 1 - float(((a - b) ** 2).mean()) / by_chance if by_chance else None


def _as_json(mean: MeanScore | None) -> dict[str, Any] | None:
    return None if mean is None else asdict(mean)
