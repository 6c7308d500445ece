"""Questions for what a text says in passing: what letters stand for, and how something is done.

"The National Trade Board (NTB)" says what NTB stands for, "to start it over, run x" and "run x to
start it over" how it is started over, and a line with a colon in front of one line of code too.
"""

import re
from collections.abc import Iterator

from lorabank.retrieval.terms import STOP_WORDS, words_of
from lorabank.retrieval.words import CAPITALS
from lorabank.synthesis.rules.sentence_questions import AskedPart
from lorabank.synthesis.rules.statements import Statement

_MOST_ANSWER_WORDS = 12
_MOST_PURPOSE_WORDS = 12
_LETTERS = re.compile(r"\(([A-Z][A-Za-z]?[A-Z]{1,4})s?\)")
_SMALL_WORDS = frozenset(("of", "the", "and", "for", "in", "on", "to", "with", "a"))
_ORDER = "run|use|execute|issue|call|type|enter|press|click|select|set|open|choose"
_TO_FIRST = re.compile(rf"(?:\w+, )?[Tt]o (?P<purpose>[a-z][^,:;]+), (?P<answer>(?:{_ORDER}) .+)$")
_ORDER_FIRST = re.compile(
    rf"(?P<answer>(?:{_ORDER}|{_ORDER.title()}) (?:[^ ]+ ){{1,6}}?)to (?P<purpose>[a-z].+)$"
)
_ANNOUNCED = re.compile(r"(?:^|[.!] |\b)[Tt]o (?P<purpose>[a-z][^,:;]*)(?:, [^:]*)?:$")
_CUT = re.compile(r"[,;:(\u2014]|\s[-\u2013]\s|\s(?:and|or|but|so that|because|which)\s")
_POINTING = frozenset(
    """
    it its this that these those they them their he she him her his here there such
    """.split()  # noqa: SIM905 - to be read as words
)


def questions_in_passing(statement: Statement) -> Iterator[AskedPart]:
    """Yield what letters in a sentence stand for, and how what it tells is done."""
    text = statement.text
    for letters in _LETTERS.finditer(text):
        if words := _stands_for(text[: letters.start()], letters[1]):
            yield AskedPart(f"What does {letters[1]} stand for?", words, "letters")
    for pattern in (_TO_FIRST, _ORDER_FIRST):
        if match := pattern.match(text.rstrip(".!")):
            answer = _first_clause(match["answer"])
            yield from _how(match["purpose"], answer, text)
            return


def questions_of_command(statement: Statement) -> Iterator[AskedPart]:
    """Yield how something is done, for a line with a colon and the line of code behind it."""
    sentence, code = statement.cells
    if match := _ANNOUNCED.search(sentence):
        yield from _how(match["purpose"], code, statement.text)


def _how(purpose: str, answer: str, text: str) -> Iterator[AskedPart]:
    purpose = _first_clause(purpose)
    words = words_of(purpose)
    is_told = bool(words) and words[0] not in STOP_WORDS and not set(words) & _POINTING
    is_short = len(words) <= _MOST_PURPOSE_WORDS and len(words_of(answer)) <= _MOST_ANSWER_WORDS
    if is_told and is_short and len(words) > 1 and answer in text and words_of(answer):
        yield AskedPart(f"How do I {purpose}?", answer, "how")


def _first_clause(text: str) -> str:
    end = _CUT.search(text)
    return (text[: end.start()] if end else text).strip()


def _stands_for(before: str, letters: str) -> str:
    """Return the words at the end of a text whose initials are these letters; "" for none."""
    words = before.split()
    initials, start = "", len(words)
    while start and len(initials) < len(letters):
        start -= 1
        word = words[start]
        if word.lower() in _SMALL_WORDS and word[0].upper() != letters[-len(initials) - 1]:
            continue
        initials = word.lstrip("“\"'(")[:1].upper() + initials
    phrase = " ".join(words[start:])
    is_name = bool(re.match(rf"[{CAPITALS}]", phrase)) and len(letters) > 1
    return phrase if initials == letters.upper() and is_name else ""
