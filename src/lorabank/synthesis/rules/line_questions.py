"""Questions made of lines that say one thing of another: pairs, rows of tables and steps.

Keys and heads are asked for by their own words, so this works in any language whose documents have
such lines.
"""

import re
from collections.abc import Iterator

from lorabank.retrieval.sentences import sentence_spans
from lorabank.retrieval.terms import words_of
from lorabank.synthesis.rules.english_verbs import is_order, read_verb
from lorabank.synthesis.rules.purpose_questions import questions_of_command
from lorabank.synthesis.rules.sentence_questions import AskedPart
from lorabank.synthesis.rules.statements import Statement, StatementKind

MOST_ANSWER_WORDS = 16
_MOST_REPLY_WORDS = 24  # of a sentence under a heading that asks
_CUT = re.compile(r"[,;:(]|\s[-\u2013\u2014]\s")
_LOOKS_LIKE_CODE = re.compile(r"^-{1,2}\w|[_/\\()<>=$]|\w\.\w|[a-z][A-Z]")
_IS_MEANING = re.compile(
    r"(?:an?|any|someone|somebody|those|people|persons|employees|users|members) (?:\w+ ){4}",
    re.IGNORECASE,
)
"""Beginning of a value that says what its key means."""
_NO_VALUE = frozenset(("", "-", "–", "—", "n/a", "none", "?", "true", "false", "yes", "no"))


def questions_of_line(statement: Statement) -> Iterator[AskedPart]:
    """Yield the questions that a pair, a row or a step answers."""
    if statement.kind is StatementKind.PAIR:
        yield from _of_pair(statement)
    elif statement.kind is StatementKind.ROW:
        yield from _of_row(statement)
    elif statement.kind is StatementKind.COMMAND:
        yield from questions_of_command(statement)
    elif statement.kind is StatementKind.ANSWER:
        question, text = statement.cells
        if 0 < len(words_of(text)) <= _MOST_REPLY_WORDS:
            yield AskedPart(question, text, "heading")
    elif statement.kind is StatementKind.STEP:
        number, text = statement.cells
        if 2 <= len(words_of(text)) <= MOST_ANSWER_WORDS:
            place = statement.heading or statement.subject
            yield AskedPart(f"What is step {number} of {place}?", text.rstrip("."), "step")


def shorten(value: str) -> str:
    """Return a value's first sentence, or its first clauses where that is long; "" for neither."""
    spans = sentence_spans(value)
    text = value[slice(*spans[0])].rstrip(" .") if spans else ""
    if len(words_of(text)) <= MOST_ANSWER_WORDS:
        return text
    for mark in reversed(list(_CUT.finditer(text))):
        clause = text[: mark.start()].rstrip()
        if 2 <= len(words_of(clause)) <= MOST_ANSWER_WORDS:
            return clause
    return ""


def _of_pair(statement: Statement) -> Iterator[AskedPart]:
    key, value = statement.cells
    answer = shorten(value)
    if answer.lower() in _NO_VALUE or not words_of(answer):
        return
    is_code = key in statement.codes or bool(_LOOKS_LIKE_CODE.search(key))
    words, subject = words_of(key), statement.subject
    if is_code:
        does = read_verb(answer.split()[0].lower(), "users") is not None
        yield AskedPart(
            f"What {'does' if does else 'is'} {key}{' do' if does else ''}?", answer, "pair"
        )
    elif len(words) > 1 and is_order(words[0]):
        yield AskedPart(f"How do I {key[:1].lower()}{key[1:]}?", answer, "how")
    elif _IS_MEANING.match(value):
        yield AskedPart(f"What does “{key}” mean?", answer, "pair")
    elif set(words) >= set(words_of(subject)) or not words_of(subject):
        yield AskedPart(f"What is {lower_first(key)}?", answer, "pair")
    else:
        yield AskedPart(
            f"What {_is_or_are(key)} the {lower_first(key)} of {subject}?", answer, "pair"
        )


def _of_row(statement: Statement) -> Iterator[AskedPart]:
    (first_head, *heads), (row, *cells) = statement.heads, statement.cells
    if row.lower() in _NO_VALUE:
        return
    thing = row if not first_head or first_head == row else f"{lower_first(first_head)} {row}"
    for head, cell in zip(heads, cells, strict=True):
        answer = shorten(cell)
        if answer.lower() in _NO_VALUE or not words_of(answer):
            continue
        if words_of(head):
            question = f"What {_is_or_are(head)} the {lower_first(head)} of {thing}?"
        else:
            question = f"What is {thing}?"
        yield AskedPart(question, answer, "row")


def _is_or_are(key: str) -> str:
    last = words_of(key)[-1]
    return "are" if last.endswith("s") and not last.endswith(("ss", "us", "is", "ps")) else "is"


def lower_first(words: str) -> str:
    """Return words with a small first letter, unless they are a name or an abbreviation."""
    first, *others = words.split(" ") or [""]
    is_name = not (first.isascii() and first[1:].islower())
    is_name = is_name or any(word[:1].isupper() for word in others)
    return words if is_name else words[:1].lower() + words[1:]
