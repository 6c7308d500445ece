"""Quotes: the sentence of a text that answers a question, found and judged without any generation.

Parts of the text (quotable.py) are ranked by the words of the question that they have, weighted by
rarity, and by meaning. The best are compared with the question word by word: what of it the part
or what stands around it lacks, how near each word's meaning comes to one of the part's, and whether
the part has the kind of thing that is asked for. A logistic regression that was fitted once
(quote_weights.py) makes the probability that the quote holds the answer.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lorabank.retrieval.answer_kinds import has_kind
from lorabank.retrieval.aspects import aspects
from lorabank.retrieval.quotable import Quotable
from lorabank.retrieval.quote_weights import BY_WORDS, WITH_MEANING
from lorabank.retrieval.rerank import TokenVectors
from lorabank.retrieval.stored_questions import probability
from lorabank.retrieval.terms import stem
from lorabank.retrieval.trigrams import fold
from lorabank.retrieval.wordings import FILLERS, FOUND, WordReader, Words, explained

N_COMPARED = 6
"""Parts that are compared with a question word by word."""
MOST_QUOTED = 600
"""Characters of a quote up to which the next sentence is quoted too, if it points back."""
SHORT = 320
"""Characters of a quote up to which the next sentence of its paragraph is quoted too."""
FEATURES = (
    "cover",
    "cover_near",
    "lacking_name",
    "found",
    "lead",
    "misfits",
    "news",
    "cosine_lead",
    "meant",
)
"""Names of the features, in their order; those from `cosine_lead` on need embeddings."""
N_BY_WORDS = FEATURES.index("cosine_lead")
EMPTY = FILLERS | frozenset(
    """
    happen happens happened done doing go going use used using kind type sort called while if then
    way able
    """.split()  # noqa: SIM905 - to be read as words
)
"""Words of a question that say nothing of what is query."""
_POINTING = re.compile(
    r"\W*(?:\w+\W+){0,6}?(?:this|that|these|those|it|they|them|such|then|otherwise|instead|here|its|"
    r"their|he|she|his|her|if so|if not)\b",
    re.IGNORECASE,
)
_ITEM = re.compile(r"(?:[-*+•]|\d{1,3}[.)])\s")
_SYNONYM = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A quotable part with what stands around it."""

    quotable: Quotable
    before: str
    """Part in front of it under the same heading; empty for the first."""
    behind: str
    goes_on: Quotable | None
    """Next sentence of the paragraph, where it is quoted with this one."""
    tokens: TokenVectors | None = None
    """Tokens of what is quoted, read within the passage; None without an embedder."""

    @property
    def quoted(self) -> str:
        """Return the part and what goes on, as they are quoted."""
        own = self.quotable
        if self.goes_on is None:
            return own.shown
        return own.shown + own.document.text[own.end : self.goes_on.end]

    @property
    def end(self) -> int:
        return (self.goes_on or self.quotable).end

    def overlaps(self, other: "Part") -> bool:
        """Return whether both quote some of the same text."""
        a, b = self.quotable, other.quotable
        return a.document is b.document and a.start < other.end and b.start < self.end


@dataclass(frozen=True, slots=True, eq=False)
class Quote:
    """A part that was compared with a question."""

    part: Part
    p: float
    """Probability that it holds the answer."""
    features: tuple[float, ...]

    @property
    def named_features(self) -> dict[str, float]:
        return dict(zip(FEATURES, self.features, strict=False))


def parts_in_context(quotables: Sequence[Quotable]) -> list[Part]:
    """Return each part of a document with what stands around it, without tokens."""
    parts = []
    for i, own in enumerate(quotables):
        before = quotables[i - 1] if i else None
        behind = quotables[i + 1] if i + 1 < len(quotables) else None
        parts.append(
            Part(
                own,
                before.shown if before and before.headings == own.headings else "",
                behind.shown if behind and behind.headings == own.headings else "",
                behind if behind and _goes_on(own, behind) else None,
            )
        )
    return parts


def _goes_on(part: Quotable, following: Quotable) -> bool:
    between = part.document.text[part.end : following.start]
    is_next = part.end <= following.start and not between.strip() and between.count("\n") < 2
    length = following.end - part.start
    is_short = length <= (MOST_QUOTED if _POINTING.match(following.text) else SHORT)
    return is_next and is_short and not part.head and not _ITEM.match(following.text)


def rank_quotes(
    question: str, parts: Sequence[Part], reader: WordReader, tokens: TokenVectors | None = None
) -> list[Quote]:
    """Return the parts that answer a question best, the likeliest first.

    Args:
        reader: weighs words by their rarity in the text that was searched.
        tokens: the question's; None compares by words alone.
    """
    parts = [part for part in parts if not part.quoted.rstrip().endswith("?")]
    own = reader.read(question)
    weights = own.weights * np.array([word not in EMPTY for word in own.words], dtype=float)
    if not weights.any() or not parts:
        return []
    query = _Query(question, own, weights / weights.sum(), weights, tokens)
    cosines = np.array([query.cosine(part) for part in parts])
    covers = np.array([query.cover(part.quotable.shown) for part in parts])
    order = np.argsort(-(covers + cosines), kind="stable")[:N_COMPARED]
    found_share = query.cover(" . ".join(f"{p.quotable.place} . {p.quotable.shown}" for p in parts))
    compared = []
    for i in order:
        others = [j for j in order if not parts[i].overlaps(parts[j])]
        lead = covers[i] - max((covers[j] for j in others), default=0.0)
        in_part, in_near = query.explained(parts[i], reader)
        features = [
            float(query.shares @ in_part),
            float(query.shares @ in_near),
            query.lacking_name(in_near),
            found_share,
            float(lead),
            float(has_kind(question, parts[i].quoted) is False),
            query.news(parts[i].quoted),
        ]
        if tokens is not None:
            cosine_lead = cosines[i] - max((cosines[j] for j in others), default=0.0)
            meant = np.maximum(query.nearest(parts[i]), in_part)
            features += [float(cosine_lead), float(query.shares @ meant)]
        compared.append((parts[i], tuple(features)))
    fitted = BY_WORDS if tokens is None else WITH_MEANING
    quotes = [Quote(part, probability(fitted.log_odds(f)), f) for part, f in compared]
    return sorted(quotes, key=lambda quote: -quote.p)


@dataclass(frozen=True, slots=True, eq=False)
class _Query:
    """A question, read."""

    question: str
    words: Words
    shares: np.ndarray
    """(words,) weight of each word, 0 for those that say nothing; together 1."""
    weights: np.ndarray
    """(words,) the same, not normalised."""
    tokens: TokenVectors | None

    def cover(self, text: str) -> float:
        """Return the share of the question whose stems a text has."""
        stems = {stem(word) for word in fold(text).split()}
        held = [stem(word) in stems for word in self.words.words]
        return float(self.shares[held].sum())

    def cosine(self, part: Part) -> float:
        if self.tokens is None or part.tokens is None or not len(part.tokens.ids):
            return 0.0
        a, b = self.tokens.vectors.mean(0), part.tokens.vectors.mean(0)
        return float(a @ b / max(1e-9, np.linalg.norm(a) * np.linalg.norm(b)))

    def lacking_name(self, in_near: np.ndarray) -> float:
        """Return the greatest weight of a name or number that is not found.

        Args:
            in_near: (words,) how well each word is found.
        """
        lacking = self.weights * (1 - in_near)
        return float(lacking[self.words.is_name].max(initial=0.0))

    def news(self, text: str) -> float:
        """Return how much a text says beyond the question, 0 to 1."""
        known = {stem(word) for word in self.words.words}
        new = {stem(word) for word in fold(text).split() if word not in EMPTY} - known
        return min(1.0, math.log1p(len(new)) / 3)

    def explained(self, part: Part, reader: WordReader) -> tuple[np.ndarray, np.ndarray]:
        """Return how well each word is found in what is quoted, and in that or around it."""
        text = part.quoted
        near = " . ".join((part.quotable.place, part.before, text, part.behind))
        in_part, _ = explained(self.words, reader.read(text))
        in_near, _ = explained(self.words, reader.read(near))
        held = aspects(fold(text).split())
        for i, word in enumerate(self.words.words):
            if in_part[i] < FOUND and aspects([word]) & held:
                in_part[i] = in_near[i] = _SYNONYM
        return in_part, np.maximum(in_part, in_near)

    def nearest(self, part: Part) -> np.ndarray:
        """Return (words,): how near each word's tokens come to the most similar of the part."""
        nearest = np.zeros(len(self.words.words))
        if self.tokens is None or part.tokens is None or not len(part.tokens.ids):
            return nearest
        similar = (self.tokens.vectors @ part.tokens.vectors.T).max(1)
        place = {word: i for i, word in enumerate(self.words.words)}
        of_word: dict[int, list[float]] = {}
        for match in re.finditer(r"[^\W_]+", self.question):
            own = self.tokens.offsets
            inside = (own[:, 1] > match.start()) & (own[:, 0] < match.end())
            for word in fold(match[0]).split():
                if word in place:
                    of_word.setdefault(place[word], []).extend(similar[inside].tolist())
        for i, values in of_word.items():
            nearest[i] = float(np.mean(values)) if values else 0.0
        return nearest
