"""Fit the weights that tell a rewording: `python -m lorabank.bench.wording_fit`.

Reads the first thousand entries of WikiBigEdit and zsRE in LORABANK_DATA and the families written
in wording_data.py, and prints the constants of retrieval/wording_weights.py. Rewordings and typed
forms are right for their own fact; near misses, other questions about the subject, ordinary
questions and rewordings of a fact that was taken out are wrong for every fact. The weights come
from a logistic regression on the three nearest stored questions, both classes weighing the same.
Scale and bias are then fitted on the best alone, so that its log-odds are those of being right
among these questions.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from lorabank.bench.wording_data import Asked, StoredFact, ask_facts, fitting_facts, read_edits
from lorabank.engine.backbone.base import load_base
from lorabank.engine.inference.embedder import load_embedder
from lorabank.retrieval.stored_questions import Match, StoredQuestions
from lorabank.retrieval.wordings import FEATURES, N_BY_WORDS, Rarity, token_rarity
from lorabank.study.data_folder import data_folder

_BASE = "smollm2-135m"
_FILES = ("wikibigedit_2k.json", "zsre_2k.json")
_COMPARED = 3
_PENALTY = 1e-4

Matched = tuple[Sequence[StoredFact], Sequence[Asked], Sequence[Sequence[Match]]]
"""Stored facts, questions asked of them, and the matches of each question."""


def fit(matched: Sequence[Matched], n_features: int) -> tuple[list[float], float]:
    """Return weights of the first `n_features` features and the bias."""
    rows, labels, shares = [], [], []
    for facts, questions, matches in matched:
        for question, near in zip(questions, matches, strict=True):
            for match in near[:_COMPARED]:
                rows.append(match.features[:n_features])
                labels.append(float(is_right(question, match, facts)))
                shares.append(len(questions) ** -0.5)
    x, y, share = np.array(rows), np.array(labels), np.array(shares)
    mean, spread = x.mean(0), x.std(0) + 1e-9
    for label in (0, 1):
        share[y == label] *= 0.5 / share[y == label].sum()
    w = _logistic((x - mean) / spread, y, share)
    weights = w[:-1] / spread
    bias = float(w[-1] - (weights * mean).sum())
    scale, shift = _scale_of_best(matched, weights, bias)
    return [float(value) for value in scale * weights], scale * bias + shift


def is_right(question: Asked, match: Match, facts: Sequence[StoredFact]) -> bool:
    """Return whether a stored question gives the answer to this question."""
    if question.fact is None:
        return False
    own, other = facts[question.fact], facts[match.row]
    return match.row == question.fact or (own.question, own.answer) == (
        other.question,
        other.answer,
    )


def match_all(
    facts: Sequence[StoredFact], questions: Sequence[Asked], rarity: Rarity, *, embeds: bool = True
) -> list[list[Match]]:
    """Return the matches of each question among the facts' questions."""
    stored_texts = [fact.question for fact in facts]
    embed = load_embedder().embed if embeds else None
    stored = StoredQuestions(
        stored_texts, rarity, vectors=embed(stored_texts) if embed else None, embed=embed
    )
    without = [frozenset([q.without] if q.without is not None else []) for q in questions]
    return stored.match(
        [q.question for q in questions],
        same_answer=lambda i, j: facts[i].answer == facts[j].answer,
        without=without,
    )


def _scale_of_best(
    matched: Sequence[Matched], weights: np.ndarray, bias: float
) -> tuple[float, float]:
    """Return scale and shift by which the log-odds of the best stored question are calibrated."""
    scores, labels, shares = [], [], []
    for facts, questions, matches in matched:
        for question, near in zip(questions, matches, strict=True):
            values = [float(weights @ m.features[: len(weights)]) + bias for m in near]
            if values:
                best = int(np.argmax(values))
                scores.append(values[best])
                labels.append(float(is_right(question, near[best], facts)))
                shares.append(len(questions) ** -0.5)
    share = np.array(shares) / sum(shares)
    w = _logistic(np.array(scores)[:, None], np.array(labels), share)
    return float(w[0]), float(w[1])


def _logistic(x: np.ndarray, y: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return weights and bias of a logistic regression, each row weighing its share."""

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = x @ w[:-1] + w[-1]
        error = share * (1 / (1 + np.exp(-np.clip(z, -50, 50))) - y)
        gradient = np.append(x.T @ error + 2 * _PENALTY * w[:-1], error.sum())
        value = (share * (np.logaddexp(0, z) - y * z)).sum() + _PENALTY * (w[:-1] ** 2).sum()
        return float(value), gradient

    solution: np.ndarray = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return solution


def _fact_sets(folder: Path) -> Iterator[list[StoredFact]]:
    """Yield small and large sets of facts."""
    for file in _FILES:
        for start in range(0, 960, 320):
            yield read_edits(folder / file, start, 96, seed=start)
        yield read_edits(folder / file, 0, 960, seed=0)
    for seed in range(3):
        yield fitting_facts(64, seed=seed)
    yield fitting_facts(200, seed=9)


def main() -> None:
    """Fit both sets of weights and write them."""
    folder = data_folder("edits")
    tokenizer = load_base(_BASE, device="cpu").chat.tokenizer
    rarity = token_rarity(lambda w: len(tokenizer(w, add_special_tokens=False)["input_ids"]))
    matched = []
    for seed, facts in enumerate(_fact_sets(folder)):
        questions = ask_facts(facts, seed=seed)
        questions = questions if len(questions) < 3000 else questions[::3]
        matched.append((facts, questions, match_all(facts, questions, rarity)))
        print(f"{len(facts)} facts, {len(questions)} questions", flush=True)
    for name, n in (("BY_WORDS", N_BY_WORDS), ("WITH_MEANING", len(FEATURES))):
        weights, bias = fit(matched, n)
        rounded = tuple(round(weight, 4) for weight in weights)
        print(f"{name} = Weights({round(bias, 4)}, {rounded})")


if __name__ == "__main__":
    main()
