"""What judged answers come to: every mean with its interval, and how far to trust the judge.

Answers about one document are alike, so intervals are a bootstrap over documents and the answers of
each, given from three documents on; a document counts by its answers, as it does in the mean. A
judge is held against token F1 and against a second judge: rank correlation, which a judge that
always says the same cannot have, mean difference, and Cohen's kappa with quadratic weights.
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
from lorabank.tasks.datasets import fields
from lorabank.tasks.scoring.text_metrics import METRICS

_METRICS = ("token_f1", "rouge_l", "bleu", "exact_match")


@dataclass(frozen=True, slots=True)
class MeanScore:
    """Of one measure, over the answers that have it."""

    mean: float
    low: float | None
    high: float | None
    """95 %, over documents; None below three of them."""
    n: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of a judge's scores with other numbers for the same answers."""

    n: int
    spearman: float | None
    """None where one of the two never varies."""
    kappa: float | None = None
    """Cohen's, weighted by the square of the distance; of two judges."""
    mean_difference: float | None = None
    """Absolute, in points of 0..10; of two judges."""


def read_answers(path: Path) -> list[JudgedAnswer]:
    """A JSONL file of answers: question, gold (a text or a list), answer; perhaps document, gain.

    Raises:
        DataError: a file that cannot be read, is empty, or lacks a field.
    """
    answers = [_read_answer(f"{path}, line {line}", raw) for line, raw in fields.read_lines(path)]
    if not answers:
        raise DataError(f"{path}: no answers in it; give one JSON object a line")
    return answers


def summarise(
    answers: Sequence[JudgedAnswer], judged: JudgeOutcome, second: JudgeOutcome | None = None
) -> dict[str, Any]:
    """All of it as JSON: `scores` and `metrics` by name, `agreement` by with whom, `missing`."""
    scores = [mark.score for mark in judged.judgements]
    metrics: dict[str, list[float | None]] = {
        name: [METRICS[name](one.text, one.golds) for one in answers] for name in _METRICS
    }
    f1 = metrics["token_f1"]
    metrics["gain"] = [one.gain for one in answers]
    told: dict[str, Any] = {
        "judge": judged.judge,
        "answers": len(answers),
        "documents": len({one.document for one in answers}),
        "score": _told(_mean(answers, scores)),
        "missing": dict(judged.missing),
        "metrics": {
            name: _told(found)
            for name, values in metrics.items()
            if (found := _mean(answers, values))
        },
        "agreement": {"token_f1": asdict(_agreement(scores, f1))},
        "calls": judged.calls,
        "kept": judged.cached_replies,
        "prompt_tokens": judged.prompt_tokens,
        "completion_tokens": judged.completion_tokens,
    }
    if second is not None:
        others = [mark.score for mark in second.judgements]
        told["second"] = {
            "judge": second.judge,
            "score": _told(_mean(answers, others)),
            "missing": dict(second.missing),
            "agreement": {"token_f1": asdict(_agreement(others, f1))},
        }
        told["agreement"]["second"] = asdict(_agreement(scores, others, are_judges=True))
    return told


def _read_answer(where: str, raw: Mapping[str, Any]) -> JudgedAnswer:
    gold = raw.get("gold")
    golds = fields.texts(where, raw, "gold") if isinstance(gold, list) else None
    text = raw.get("answer")
    if not isinstance(text, str):  # an empty answer is one, and may be judged
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
    known = [value for some in clusters.values() for value in some]
    if not known:
        return None
    found = bootstrap_mean(list(clusters.values()), by_size=True)
    low, high = (None, None) if found is None else (found.low, found.high)
    return MeanScore(fmean(known), low, high, len(known))


def _agreement(
    scores: Sequence[int | None], others: Sequence[float | None], *, are_judges: bool = False
) -> Agreement:
    pairs = [
        (float(a), float(b))
        for a, b in zip(scores, others, strict=True)
        if a is not None and b is not None
    ]
    mine, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    varies = len(set(mine)) > 1 and len(set(theirs)) > 1
    rank = float(spearmanr(mine, theirs).statistic) if varies else None
    if not are_judges or not pairs:
        return Agreement(len(pairs), rank)
    apart = fmean(abs(a - b) for a, b in pairs)
    return Agreement(len(pairs), rank, _kappa(mine, theirs), apart)


def _kappa(mine: ArrayLike, theirs: ArrayLike) -> float | None:
    """1 minus squared distance seen over that of pairs drawn at random, by means and variances."""
    a, b = np.asarray(mine, dtype=float), np.asarray(theirs, dtype=float)
    by_chance = float(a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    # One and the same score throughout leaves nothing to agree on.
    return 1 - float(((a - b) ** 2).mean()) / by_chance if by_chance else None


def _told(found: MeanScore | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)
