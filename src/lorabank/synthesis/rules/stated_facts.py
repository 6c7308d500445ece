"""A plain sentence as one fact: the question that it answers, and the answer.

The rules for documents read it first. What they leave out, because a document has no need of it, is
added here: "Kimu Gugu's phone number is …" and "The door code is …".
"""

import re

from lorabank.retrieval.terms import words_of
from lorabank.synthesis.rules.line_questions import questions_of_line
from lorabank.synthesis.rules.sentence_questions import AskedPart, questions_of
from lorabank.synthesis.rules.statements import StatementKind, statements_of
from lorabank.synthesis.sources import SourceText

_NOW = re.compile(r"(?:now|currently)\s+")
_MY = re.compile(r" My ")
_IS = re.compile(r"(?P<subject>.{2,90}?)\s(?P<verb>is|are)\s(?P<value>.+)", re.DOTALL)
_POSSESSIVE = re.compile(r"(?P<whom>.+?)(?:['’]s|(?<=s)['’])\s(?P<what>[^A-Z]+)")
_OWN = re.compile(r"(?:the|my|our|your)\s", re.IGNORECASE)
_MOST_WORDS = 8  # of a value that a sentence of these forms gives
_NEGATIVE = re.compile(r"\b(?:not|never|no|none)\b|n't\b", re.IGNORECASE)


def stated_facts(text: str) -> list[AskedPart]:
    """Return the questions that a sentence answers, with the answers; none where no rule fits."""
    sentence = " ".join(text.split())
    if not sentence.endswith((".", "!", "?")):
        sentence += "."
    statements = statements_of(SourceText("", "", "", "", "", sentence))
    if len([s for s in statements if s.kind is StatementKind.SENTENCE]) > 1:
        return []  # several sentences are several facts
    parts = [
        part
        for statement in statements
        for part in (
            questions_of(statement)
            if statement.kind is StatementKind.SENTENCE
            else questions_of_line(statement)
        )
    ]
    definitions = [part for part in parts if part.rule == "definition"]
    parts = definitions[:1] or parts or _of_attribute(sentence.rstrip(".!"))
    return [
        AskedPart(_MY.sub(" my ", part.question), _NOW.sub("", part.answer, count=1), part.rule)
        for part in parts
    ]


def _of_attribute(sentence: str) -> list[AskedPart]:
    """Return the question that "X's A is V" or "The A is V" answers."""
    match = _IS.fullmatch(sentence)
    if match is None or _NEGATIVE.search(sentence) or not words_of(match["value"]):
        return []
    if len(words_of(match["value"])) > _MOST_WORDS:
        return []
    subject, verb = match["subject"], match["verb"]
    if owned := _POSSESSIVE.fullmatch(subject):
        subject = f"the {owned['what']} of {owned['whom']}"
    elif _OWN.match(subject):
        subject = subject[0].lower() + subject[1:]
    else:
        return []
    return [AskedPart(f"What {verb} {subject}?", match["value"], "definition")]
