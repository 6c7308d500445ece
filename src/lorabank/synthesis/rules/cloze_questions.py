"""Sentences with a gap: the last resort, which works in any language.

The part left out is a number, a name, or else the rarest long word of the sentence, and occurs in
it once. The whole sentence is shown, so its subject is named wherever the sentence names it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from lorabank.retrieval.stored_questions import GAP
from lorabank.retrieval.terms import STOP_WORDS, words_of
from lorabank.retrieval.words import CAPITALS, CHINESE_JAPANESE
from lorabank.synthesis.rules.english_verbs import is_order, read_verb
from lorabank.synthesis.rules.sentence_questions import AskedPart
from lorabank.synthesis.rules.statements import Statement

_FEWEST_WORDS, _MOST_WORDS = 4, 40
_NUMBER = re.compile(r"(?<![A-Za-z_.,\d-])\d(?:[\d.,:/]*\d)?%?(?![A-Za-z_\d-])")
_NAME = re.compile(rf"(?<=[\w,;:] )[{CAPITALS}][\w-]+(?: [{CAPITALS}][\w-]+)*(?![’'])")
_WORD = re.compile(rf"[^\W\d_{CHINESE_JAPANESE}][\w-]{{4,}}(?![’'\w])")
_UNSPACED = re.compile(rf"[{CHINESE_JAPANESE}]{{2,6}}(?=[。！？｡、，]|$)")
_JOINED = re.compile(r"[A-Za-z_/\\-]")  # beside a gap: it would be in the middle of a word
_GOES_ON = re.compile(r"[.:@]\w")
_COMMON = 4  # occurrences of a name in a document, above which it tells nothing
_CONNECTING = frozenset(
    """
    despite instead however therefore although though while because unless until since another
    number step thing things some many several other such both either neither also very able
    possible always never often before after during between within without against about around
    """.split()  # noqa: SIM905 - to be read as words
)
_POINTING = frozenset(
    """
    it this that these those they he she its their his her such
    """.split()  # noqa: SIM905 - to be read as words
)


def cloze_of(statement: Statement, frequencies: Mapping[str, int]) -> Iterator[AskedPart]:
    """Yield the sentence with one part left out, if a part can be told.

    Args:
        frequencies: number of occurrences of each word in the document, in lower case.
    """
    text, words = statement.text, words_of(statement.text)
    is_fit = _FEWEST_WORDS <= len(words) <= _MOST_WORDS and words[0] not in _POINTING
    if not is_fit or text.endswith((":", "：", "?", "？")):
        return
    for answer in _gaps(statement, frequencies):
        at = text.find(answer)
        before, behind = text[:at], text[at + len(answer) :]
        is_joined = _JOINED.search(f"{before[-1:]}{behind[:1]}") or _GOES_ON.match(behind)
        if text.count(answer) == 1 and not is_joined:
            shown = text.replace(answer, GAP)
            yield AskedPart(f"What is missing in “{shown}”?", answer, "cloze")
            return


def word_frequencies(texts: Iterator[str]) -> Counter[str]:
    """Return the number of occurrences of each word, in lower case."""
    return Counter(word for text in texts for word in words_of(text))


def _gaps(statement: Statement, frequencies: Mapping[str, int]) -> Iterator[str]:
    """Yield parts that may be left out, the best first: none that says little.

    A name that is all over the document, a verb, an adverb or a connective fills no gap.
    """
    text = statement.text

    def occurrences(part: str) -> int:
        return min((frequencies.get(word, 0) for word in words_of(part)), default=0)

    yield from (match[0] for match in _NUMBER.finditer(text))
    yield from (code for code in statement.codes if words_of(code))
    yield from (name for name in _NAME.findall(text) if occurrences(name) <= _COMMON)
    plain = [word for word in _WORD.findall(text) if not _says_little(word.lower())]
    plain = [word for word in plain if occurrences(word) <= _COMMON]
    yield from sorted(plain, key=lambda word: (occurrences(word), -len(word)))
    yield from reversed(_UNSPACED.findall(text))


def _says_little(word: str) -> bool:
    is_verb = is_order(word) or read_verb(word, "users") is not None
    is_form = word.endswith(("ly", "ing", "ed"))
    return word in STOP_WORDS | _CONNECTING or is_verb or is_form
