"""Is a question a stored question in other words? What tells, as numbers.

A rewording keeps what is rare: names, numbers, the words that say what is asked. A near miss has
another name in the same words. So each word of one text is looked for in the other, letter by
letter, and the rarest that is not found counts. Rare is what the language rarely has (the base
model's tokenizer needs many tokens for it) and the stored questions rarely have.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import OSA
from rapidfuzz.process import cdist

from lorabank.retrieval.aspects import aspects
from lorabank.retrieval.contrasts import contradict
from lorabank.retrieval.terms import STOP_WORDS, stem
from lorabank.retrieval.trigrams import fold

FEATURES = (
    "trigrams",
    "lead",
    "name_new",
    "name_missing",
    "word_new",
    "word_missing",
    "share_new",
    "share_missing",
    "numbers",
    "aspect_new",
    "aspect_missing",
    "aspect_swapped",
    "aspect_synonym",
    "name_swapped",
    "word_swapped",
    "longer",
    "cosine",
    "residual",
    "residual_apart",
    "residual_swapped",
)
"""Names of the features, in their order; those from `cosine` on need embeddings."""
N_BY_WORDS = FEATURES.index("cosine")
FILLERS = STOP_WORDS | frozenset(
    """
    please pls plz tell know want need give find many much there any been being into s nq question
    name say let d ll re ve t hi hello hey thanks thank whats whos got get ask asking looking
    wie wer wann wo welche welcher welches welchem wem wen lautet ist sind hat der das dem den des
    ein eine einer und von vom zu im mir bitte sag el los las del es por favor que cual quien
    cuando donde como dime y su de la
    """.split()  # noqa: SIM905 - to be read as words
)
"""Words that say nothing of what is asked."""
_RARE = 0.75
"""Weight from which a word is taken for a name or number."""
FOUND = 0.6
"""Similarity from which a word of another text is the same word."""
_DIFFERS = 0.1
"""Weight from which a word that the other text lacks makes a difference."""
_ANOTHER = 0.7
"""Weight from which a name in the place of another makes another question."""
_SYNONYM = 0.8
"""Similarity of two words that ask for the same (aspects.py)."""
_LACKING = 0.12
"""Weight from which a word that one text lacks is worth naming."""
_NAME = re.compile(
    r"[^\W_a-z][\w.'’-]*(?:(?:,? (?:of|the|and|de|la|von|van|in) |,? )[^\W_a-z][\w.'’-]*)*"
)
"""Words side by side that begin with a capital letter or a digit, and small words between them."""
_ABBREVIATIONS = {
    "dept": "department",
    "tel": "telephone",
    "nr": "number",
    "num": "number",
    "addr": "address",
    "govt": "government",
    "uni": "university",
    "prof": "professor",
    "info": "information",
    "bday": "birthday",
    "dob": "birthday",
    "pop": "population",
}
_NUMBER_SIGN = re.compile(r"\bn[or]\.(?!\w)|№|#(?=\s?\d)", re.I)
ASKING = (
    frozenset({"when", "wann", "cuando"}),
    frozenset({"where", "wo", "donde"}),
    frozenset({"who", "whom", "whose", "wer", "wem", "wen", "quien"}),
    frozenset({"why", "warum"}),
    frozenset({"many", "viele", "cuantos", "cuantas"}),
)
"""Words that ask for a time, a place, a person, a reason or a count."""
Rarity = Callable[[str], float]
"""Rarity of a word in the language, 0.25 to 2; `token_rarity` makes one of a tokenizer."""


def token_rarity(count_tokens: Callable[[str], int]) -> Rarity:
    """Return rarity by the number of tokens a word takes, in lower case or capitalised."""
    cache: dict[str, float] = {}

    def rarity(word: str) -> float:
        if word not in cache:
            n = min(count_tokens(f" {word}"), count_tokens(f" {word.title()}"))
            cache[word] = 1.5 if any(c.isdigit() for c in word) else min(2.0, 0.25 + 0.75 * (n - 1))
        return cache[word]

    return rarity


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a text, in lower case, each once."""

    words: tuple[str, ...]
    weights: np.ndarray
    """(words,) rarity in the language times rarity among the stored questions."""
    is_name: np.ndarray
    """(words,) whether the word is rare enough for a name, or a number."""
    numbers: frozenset[str]


class WordReader:
    """Reads texts as weighted words, by the stored questions' frequencies."""

    def __init__(self, counts: Mapping[str, int], n: int, rarity: Rarity):
        """Weigh by counts.

        Args:
            counts: number of texts that have each stem.
            n: number of texts.
        """
        self._counts, self._n, self._rarity = counts, n, rarity

    @classmethod
    def of_texts(cls, folded: Sequence[str], rarity: Rarity) -> "WordReader":
        """Count the stems of texts, such as all stored questions, as `fold` returned them."""
        counts = Counter(s for text in folded for s in {stem(w) for w in text.split()})
        return cls(counts, len(folded), rarity)

    def read(self, text: str) -> Words:
        """Return the words of a text."""
        plain = fold(_NUMBER_SIGN.sub(" number ", text)).split()
        words = tuple(dict.fromkeys(_ABBREVIATIONS.get(word, word) for word in plain))
        names = capitalised(text)
        rarity = [
            0.05 if word in FILLERS else max(self._rarity(word), float(word in names))
            for word in words
        ]
        most = math.log((self._n + 1) / 0.5)
        stored = [
            math.log((self._n + 1) / (self._counts.get(stem(w), 0) + 0.5)) / most for w in words
        ]
        weights = np.array([r * (0.25 + 0.75 * s) for r, s in zip(rarity, stored, strict=True)])
        numbers = frozenset(w for w in words if any(c.isdigit() for c in w))
        return Words(
            words,
            weights,
            np.array([r >= _RARE for r in rarity], dtype=bool),
            numbers,
        )


def explained(a: Words, b: Words) -> tuple[np.ndarray, np.ndarray]:
    """Return how well each word of one text is found in the other, 0 to 1, both ways."""
    if not a.words or not b.words:
        return np.zeros(len(a.words)), np.zeros(len(b.words))
    similar = cdist(a.words, b.words, scorer=OSA.normalized_similarity)  # (words of a, of b)
    shared = np.clip((similar - 0.6) / 0.25, 0.0, 1.0)
    shared[similar == 1.0] = 1.0
    for i, word in enumerate(a.words):
        for j, other in enumerate(b.words):
            if word != other and (word.isdigit() or other.isdigit()):
                shared[i, j] = 0.0
            elif similar[i, j] >= 0.3 and stem(word) == stem(other):
                shared[i, j] = max(shared[i, j], 0.97)
    in_b, in_a = shared.max(1), shared.max(0)
    _explain_initials(a, b, in_b, in_a)
    _explain_initials(b, a, in_a, in_b)
    _explain_joined(a, b, in_b, in_a)
    _explain_joined(b, a, in_a, in_b)
    return in_b, in_a


def _explain_initials(a: Words, b: Words, in_b: np.ndarray, in_a: np.ndarray) -> None:
    """Count a word of a that is the initials of words side by side in b as found, and these."""
    initials = "".join(word[0] for word in b.words)
    for i, word in enumerate(a.words):
        start = initials.find(word) if 3 <= len(word) <= 6 and in_b[i] < 0.9 else -1
        if start >= 0:
            in_b[i] = 0.9
            in_a[start : start + len(word)] = np.maximum(in_a[start : start + len(word)], 0.9)


def _explain_joined(a: Words, b: Words, in_b: np.ndarray, in_a: np.ndarray) -> None:
    """Count a word of a that is two side by side in b as found, and these: WiFi and Wi-Fi."""
    for j, (first, second) in enumerate(itertools.pairwise(b.words)):
        joined = first + second
        if len(joined) >= 4 and joined in a.words:
            in_b[a.words.index(joined)] = 1.0
            in_a[j : j + 2] = 1.0


def names_another(features: Sequence[float]) -> bool:
    """Return whether two texts have each a rare name of its own, by `pair_features`."""
    return dict(zip(FEATURES, features, strict=False))["name_swapped"] > _ANOTHER


def asks_otherwise(question: Words, stored: Words, features: Sequence[float]) -> bool:
    """Return whether two texts ask for different things, by the words that say for what.

    One asks for a person, say, and the other for a time; or each has a rare name of its own; or
    their words exclude each other (contrasts.py); or each has a word that the other lacks, and they
    have no aspect in common.

    Args:
        features: as `pair_features` returned them.
    """
    own, known = (
        {kind for kind, asking in enumerate(ASKING) if asking & set(words.words)}
        for words in (question, stored)
    )
    by_name = dict(zip(FEATURES, features, strict=False))
    if (own and known and not own & known) or names_another(features):
        return True
    if contradict(question.words, stored.words):
        return True
    new = max(by_name["name_new"], by_name["word_new"])
    missing = max(by_name["name_missing"], by_name["word_missing"])
    if min(new, missing) < _DIFFERS:
        return False
    wanted, held = _aspects_of_pair(question, stored, *explained(question, stored))
    return bool(wanted | held) and not wanted & held


def pair_features(question: Words, stored: Words, trigrams: float, lead: float) -> list[float]:
    """Return the features of a question and a stored question that need no embeddings.

    Args:
        trigrams: their cosine by `TrigramIndex`.
        lead: how far that is above the best stored question of another fact.
    """
    in_stored, in_question = explained(question, stored)
    own, known = _aspects_of_pair(question, stored, in_stored, in_question)
    new_words = [w for w, f in zip(question.words, in_stored, strict=True) if f < FOUND]
    synonym = bool(aspects(new_words) & known)
    _explain_aspects(question, known, in_stored)
    _explain_aspects(stored, own, in_question)
    new = question.weights * (1 - in_stored)
    missing = stored.weights * (1 - in_question)
    name_new, word_new = _most(new, question.is_name)
    name_missing, word_missing = _most(missing, stored.is_name)
    n, m = len(question.words), len(stored.words)
    added, lacked = own - known, known - own
    return [
        trigrams,
        lead,
        name_new,
        name_missing,
        word_new,
        word_missing,
        float(new.sum() / max(1e-9, question.weights.sum())),
        float(missing.sum() / max(1e-9, stored.weights.sum())),
        float(min(2, len(question.numbers ^ stored.numbers))),
        float(bool(added)),
        float(bool(lacked)),
        float(bool(added and lacked)),
        float(synonym),
        min(name_new, name_missing),
        min(word_new, word_missing),
        (n - m) / max(n, m, 1),
    ]


def _aspects_of_pair(
    a: Words, b: Words, in_b: np.ndarray, in_a: np.ndarray
) -> tuple[frozenset[int], frozenset[int]]:
    """Return what two texts ask for; a word that is misspelt in one says there what it says in the
    other.

    Args:
        in_b: how well each word of a is found in b.
        in_a: how well each word of b is found in a.
    """
    shared = [w for w, f in zip((*a.words, *b.words), (*in_b, *in_a), strict=True) if f >= FOUND]
    both = aspects(shared)
    return aspects(a.words) | both, aspects(b.words) | both


def _explain_aspects(words: Words, others: frozenset[int], shared: np.ndarray) -> None:
    """Count words that ask for what the other text asks for, as `boss` and `report`, as found."""
    for i, word in enumerate(words.words):
        if shared[i] < FOUND and aspects([word]) & others:
            shared[i] = _SYNONYM


def residual_features(similar: float, features: Sequence[float]) -> list[float]:
    """Return the last features, by how similar the residuals are and the features before."""
    by_name = dict(zip(FEATURES, features, strict=False))
    apart = 1 - similar
    return [similar, apart * (1 - by_name["trigrams"]), apart * by_name["word_swapped"]]


def share_name(a: Words, b: Words) -> bool:
    """Return whether two texts have a rare word in common, or one of them has none."""
    names = [
        {word for word, is_name in zip(words.words, words.is_name, strict=True) if is_name}
        for words in (a, b)
    ]
    return not all(names) or bool(names[0] & names[1])


def residuals(question: Words, stored: Words) -> tuple[str, str]:
    """Return both texts without the rare words they share: what is asked, without of whom."""
    in_stored, in_question = explained(question, stored)

    def rest(words: Words, shared: np.ndarray) -> str:
        keeps = (shared < FOUND) | ~words.is_name
        return " ".join(w for w, keep in zip(words.words, keeps, strict=True) if keep) or "it"

    return rest(question, in_stored), rest(stored, in_question)


def distinctive(text: str, words: Words, shared: np.ndarray) -> str:
    """Return the name around the rarest word that was not found elsewhere, or all such words."""
    lacking = words.weights * (1 - shared)
    if lacking.max(initial=0.0) < _LACKING:
        return ""
    rarest = words.words[int(lacking.argmax())]
    first, *_ = text.split() or [""]
    for name in _NAME.finditer(text):
        # The first word of a sentence is capitalised whatever it is.
        phrase = name[0].removeprefix(f"{first} ") if fold(first) in FILLERS else name[0]
        if rarest in fold(phrase).split():
            return phrase
    keep = {w for w, value in zip(words.words, lacking, strict=True) if value >= _LACKING}
    return " ".join(word for word in text.split() if keep & set(fold(word).split())).rstrip("?.,!")


def main_name(text: str, words: Words, known: Collection[str] = ()) -> str:
    """Return the name that a text is about, as it is written there; empty where it has none.

    It is the phrase in capital letters whose words weigh most. In a text without capitals it is
    known words side by side, or rare ones where no word is known.

    Args:
        known: words that other texts have in capital letters, folded.
    """
    weight = dict(zip(words.words, words.weights, strict=True))
    rare = {w for w, is_name in zip(words.words, words.is_name, strict=True) if is_name}
    first, *_ = text.split() or [""]
    phrases = [] if text.isupper() else [name[0] for name in _NAME.finditer(text)]
    if phrases and text.startswith(phrases[0]) and not _names(fold(first).split(), rare | {*known}):
        phrases[0] = phrases[0].removeprefix(first).strip()  # a sentence begins with a capital
    if not any(phrases):
        marked = [(run, _names(fold(run).split(), known or rare)) for run in text.split()]
        groups = itertools.groupby(marked, key=lambda pair: bool(pair[1]))
        phrases = [" ".join(run for run, _ in group) for is_name, group in groups if is_name]
    phrases = [re.sub(r"['’]s$|[\W_]+$", "", phrase) for phrase in phrases if phrase]
    phrases = [p for p in phrases if p != text.rstrip("?!. ") or len(p.split()) > 1 or p.isascii()]
    best = max(
        enumerate(phrases),
        key=lambda pair: (sum(weight.get(w, 0.0) for w in fold(pair[1]).split()), pair[0]),
        default=(0, ""),
    )
    return "" if fold(best[1]) in ("", "i") else best[1]


def _names(words: Sequence[str], names: Collection[str]) -> list[str]:
    """Return the words that are names and neither fillers nor ask for anything."""
    return [w for w in words if w in names and w not in FILLERS and not aspects([w])]


def capitalised(text: str) -> set[str]:
    """Return the words that begin with a capital or a digit, folded; not the first of the text."""
    return {
        part
        for word in text.split()[1:]
        for part in fold(word).split()
        if (letters := word.lstrip("\"'(“‘«")) and not letters[0].islower()
    }


def _most(unexplained: np.ndarray, is_name: np.ndarray) -> tuple[float, float]:
    """Return the greatest weight among names and among other words."""
    return (
        float(unexplained[is_name].max(initial=0.0)),
        float(unexplained[~is_name].max(initial=0.0)),
    )
