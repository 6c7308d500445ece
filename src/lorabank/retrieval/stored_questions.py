"""The stored questions of a bank, and which of them a question is in other words.

The nearest by trigrams and, with an embedder, by meaning are compared word by word (wordings.py).
The score is the log-odds that question and stored question ask the same, by weights that were
fitted once (wording_weights.py).
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lorabank.retrieval.aspects import aspects
from lorabank.retrieval.trigrams import TrigramIndex, fold
from lorabank.retrieval.wording_weights import BY_WORDS, WITH_MEANING, Weights
from lorabank.retrieval.wordings import (
    FILLERS,
    FOUND,
    Rarity,
    WordReader,
    Words,
    asks_otherwise,
    capitalised,
    distinctive,
    explained,
    main_name,
    names_another,
    pair_features,
    residual_features,
    residuals,
    share_name,
)

PLAIN = 1.0
"""Least log-odds from which a stored question is plainly the one asked."""
MOST = 2.0
"""Most log-odds that are asked for: where names differ by a letter, or facts are stored twice, more
would refuse every slip and rewording."""
FALSE_MATCHES = 0.02
"""Share of questions whose fact is not stored that may be taken for a stored one."""
_N_CALIBRATION = 128
OTHERWISE = 8.0
"""Log-odds that are taken where the words that say what is asked for differ."""
N_COMPARED = 5
"""Stored questions that are compared word by word."""
N_READ = 3
"""Number of these whose residuals are embedded."""
N_BY_MEANING = 2
"""Number of these that are the nearest by embedding."""
GAP = "___"
"""Sign for the word left out of a sentence."""
Embed = Callable[[Sequence[str]], np.ndarray]
SameAnswer = Callable[[int, int], bool]


@dataclass(frozen=True, slots=True)
class Match:
    """A stored question that was compared with a question."""

    row: int
    """Place among the stored questions."""
    score: float
    """Log-odds that both ask the same."""
    features: tuple[float, ...]


def different_answers(_a: int, _b: int) -> bool:
    """Say that no two stored questions have an answer in common."""
    return False


class StoredQuestions:
    """Finds the stored question that a question is in other words."""

    def __init__(
        self,
        questions: Sequence[str],
        rarity: Rarity,
        *,
        vectors: np.ndarray | None = None,
        embed: Embed | None = None,
    ):
        """Index the texts of questions.

        Args:
            vectors: (questions, d), each of length 1; None compares by words alone.
            embed: returns such vectors of other texts; needed with `vectors`.
        """
        folded = [fold(question) for question in questions]
        self.questions = list(questions)
        self.vectors = vectors
        self._embed = embed
        self._index, self._reader = TrigramIndex(folded), WordReader.of_texts(folded, rarity)
        self._read: dict[int, Words] = {}

    @cached_property
    def _with_gap(self) -> frozenset[int]:
        """Places of the sentences with a gap: what fills one answers no other question."""
        return frozenset(i for i, text in enumerate(self.questions) if GAP in text)

    @cached_property
    def _known(self) -> frozenset[str]:
        """Words that stored questions have in capital letters."""
        return frozenset(word for text in self.questions for word in capitalised(text))

    def match(
        self,
        questions: Sequence[str],
        *,
        same_answer: SameAnswer = different_answers,
        without: Sequence[frozenset[int]] | None = None,
    ) -> list[list[Match]]:
        """Return the nearest stored questions of each question, the best first.

        Args:
            same_answer: whether two stored questions, by place, have an answer in common; those
                that share a name too are taken for wordings of one fact.
            without: for each question the stored ones that do not count, by place.
        """
        if not self.questions:
            return [[] for _ in questions]
        vectors = self._embed(questions) if self.vectors is not None and self._embed else None
        compared = []
        for i, question in enumerate(questions):
            vector = None if vectors is None else vectors[i]
            left_out = without[i] if without else frozenset()
            if GAP not in question:
                left_out |= self._with_gap
            compared.append(self._compare(question, vector, same_answer, left_out))
        if vectors is not None:
            self._add_residuals(compared)
        weights = BY_WORDS if vectors is None else WITH_MEANING
        return [
            sorted(
                (Match(c.row, c.score(weights), tuple(c.features)) for c in rows),
                key=lambda match: (-match.score, match.row),
            )
            for rows in compared
        ]

    def calibrate(
        self, unknown: Sequence[str], *, same_answer: SameAnswer = different_answers
    ) -> float:
        """Return the log-odds from which a stored question is plainly the one asked.

        At most FALSE_MATCHES of a sample of the stored questions reach it when they are taken out
        with all that equal them or have their answer, unless that takes more than MOST.

        Args:
            unknown: questions that nothing stored answers.
        """
        rng = random.Random(f"stored questions/{len(self.questions)}")
        rows = rng.sample(range(len(self.questions)), min(_N_CALIBRATION, len(self.questions)))
        places: dict[str, set[int]] = {}
        for i, question in enumerate(self.questions):
            places.setdefault(fold(question), set()).add(i)
        texts = [*(self.questions[i] for i in rows), *unknown]
        without = [frozenset(places[fold(self.questions[i])]) for i in rows]
        without += [frozenset()] * len(unknown)
        reached = []
        for i, matches in enumerate(self.match(texts, same_answer=same_answer, without=without)):
            others = [m for m in matches if i >= len(rows) or not same_answer(rows[i], m.row)]
            if others:
                reached.append(others[0].score)
        if not reached:
            return PLAIN
        quantile = float(np.quantile(reached, 1 - FALSE_MATCHES, method="higher"))
        return min(MOST, max(PLAIN, math.nextafter(quantile, math.inf)))

    def difference(self, question: str, stored: str) -> tuple[str, str]:
        """Return what stands only in the stored question, and only in the question.

        Each is the name around the rarest word that the other text lacks, or these words; empty
        where the other text lacks nothing of weight.
        """
        a, b = self._reader.read(question), self._reader.read(stored)
        in_b, in_a = explained(a, b)
        return distinctive(stored, b, in_a), distinctive(question, a, in_b)

    def name_in(self, text: str) -> str:
        """Return the name that a text is about; empty where it has none."""
        return main_name(text, self._reader.read(text), self._known)

    def has_name(self, name: str) -> bool:
        """Return whether stored questions have a word of a name in capital letters."""
        return bool(self._known & set(fold(name).split()))

    def explains(self, stored: str, text: str) -> bool:
        """Return whether a stored question has every word of weight of a text, or asks for it."""
        a, b = self._reader.read(text), self._reader.read(stored)
        in_b, _ = explained(a, b)
        rest = [w for w, f in zip(a.words, in_b, strict=True) if f < FOUND]
        rest = [word for word in rest if not aspects([word]) & aspects(b.words)]
        return set(rest) <= FILLERS

    def may_ask(self, question: str, rows: Sequence[int]) -> bool:
        """Return whether a question may ask one of some stored questions, by their places.

        It cannot where it has a name or number of its own beside each of the nearest.
        """
        trigrams, own = self._index.scores(fold(question)), self._reader.read(question)
        for row in sorted(rows, key=lambda row: -trigrams[row])[:N_COMPARED]:
            stored, near = self._words(row), float(trigrams[row])
            if not names_another(pair_features(own, stored, near, 0.0)):
                return True
        return False

    def _compare(
        self,
        question: str,
        vector: np.ndarray | None,
        same_answer: SameAnswer,
        left_out: frozenset[int],
    ) -> list["_Compared"]:
        """Return the nearest stored questions with their features, the residual's still missing."""
        trigrams = self._index.scores(fold(question))
        meaning = None if vector is None or self.vectors is None else self.vectors @ vector
        rows = self._nearest(trigrams, meaning, left_out)
        own = self._reader.read(question)
        compared = []
        for row in rows:
            stored = self._words(row)
            others = [
                float(trigrams[other])
                for other in rows
                if other != row
                and not (share_name(stored, self._words(other)) and same_answer(other, row))
            ]
            lead = float(trigrams[row]) - max(others, default=0.0)
            features = pair_features(own, stored, float(trigrams[row]), lead)
            compared.append(_Compared(row, own, stored, features))
        compared.sort(key=lambda c: (-BY_WORDS.log_odds(c.features), c.row))
        if meaning is not None:
            compared = compared[:N_READ]
            for c in compared:
                c.features.append(float(meaning[c.row]))
        return compared

    def _nearest(
        self, trigrams: np.ndarray, meaning: np.ndarray | None, left_out: frozenset[int]
    ) -> list[int]:
        """Return the places of the nearest stored questions, by trigrams and by meaning."""
        n = N_COMPARED + len(left_out)
        rows = [row for row in _best(trigrams, n) if row not in left_out]
        if meaning is not None:
            similar = [row for row in _best(meaning, n) if row not in left_out]
            rows = [*rows[: N_COMPARED - N_BY_MEANING], *similar[:N_BY_MEANING], *rows]
        return list(dict.fromkeys(rows))[:N_COMPARED]

    def _add_residuals(self, compared: Sequence[Sequence["_Compared"]]) -> None:
        """Append how alike the texts are without the rare words they share."""
        pairs = [(c, *residuals(c.question, c.stored)) for rows in compared for c in rows]
        texts = list(dict.fromkeys(t for _, a, b in pairs if a != b for t in (a, b)))
        vectors = dict(zip(texts, self._embed(texts), strict=True)) if texts and self._embed else {}
        for c, a, b in pairs:
            similar = 1.0 if a == b else float(vectors[a] @ vectors[b])
            c.features += residual_features(similar, c.features)

    def _words(self, row: int) -> Words:
        if row not in self._read:
            self._read[row] = self._reader.read(self.questions[row])
        return self._read[row]


@dataclass(slots=True)
class _Compared:
    """A stored question beside a question, with its features so far."""

    row: int
    question: Words
    stored: Words
    features: list[float]

    def score(self, weights: Weights) -> float:
        """Return the log-odds that both ask the same."""
        differs = asks_otherwise(self.question, self.stored, self.features)
        return weights.log_odds(self.features) - OTHERWISE * differs


def _best(scores: np.ndarray, k: int) -> list[int]:
    """Return the places of the k greatest, the first of equals first."""
    k = min(k, len(scores))
    top = np.argpartition(-scores, k - 1)[:k]
    return [int(i) for i in top[np.lexsort((top, -scores[top]))]]


def probability(log_odds: float) -> float:
    """Return the probability of log-odds."""
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, log_odds))))
