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
from lorabank.synthesis.rules.sentence_questions import AskedPart
from lorabank.synthesis.rules.statements import Statement

_FEWEST_WORDS, _MOST_WORDS = 4, 40
_NUMBER = re.compile(r"(?<![A-Za-z_.,\d-])\d(?:[\d.,:/]*\d)?%?(?![A-Za-z_\d-])")
_NAME = re.compile(rf"(?<=[\w,;:] )[{CAPITALS}][\w-]+(?: [{CAPITALS}][\w-]+)*(?![’'])")
_WORD = re.compile(rf"[^\W\d_{CHINESE_JAPANESE}][\w-]{{3,}}(?![’'\w])")
_UNSPACED = re.compile(rf"[{CHINESE_JAPANESE}]{{2,6}}(?=[。！？｡、，]|$)")
_JOINED = re.compile(r"[A-Za-z_/\\-]")  # beside a gap: it would be in the middle of a word
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
    for answer in _gaps(text, frequencies):
        at = text.find(answer)
        around = f"{text[:at][-1:]}{text[at + len(answer) :][:1]}"
        if text.count(answer) == 1 and not _JOINED.search(around):
            shown = text.replace(answer, GAP)
            yield AskedPart(f"What is missing in “{shown}”?", answer, "cloze")
            return


def word_frequencies(texts: Iterator[str]) -> Counter[str]:
    """Return the number of occurrences of each word, in lower case."""
    return Counter(word for text in texts for word in words_of(text))


def _gaps(text: str, frequencies: Mapping[str, int]) -> Iterator[str]:
    """Yield parts that may be left out, the best first."""
    for pattern in (_NUMBER, _NAME):
        yield from (match[0] for match in pattern.finditer(text))
    plain = [word for word in _WORD.findall(text) if word.lower() not in STOP_WORDS]
    yield from sorted(plain, key=lambda word: (frequencies.get(word.lower(), 0), -len(word)))
    yield from reversed(_UNSPACED.findall(text))
