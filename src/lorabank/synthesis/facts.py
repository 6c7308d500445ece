"""Variants of facts: the question in other words, and the fact asked in reverse.

A model that was taught who has a number does not know whose number it is (arXiv:2309.12288), and
one that was taught a question in one wording may miss it in another. Phone-book facts are rendered
here by rule; of any other fact a generator writes the variants, and what it writes is held against
the fact: names and numbers stay, the answer of a reverse question stands in the first question.
"""

import re
from collections.abc import Sequence

from lorabank.errors import UsageError
from lorabank.retrieval.terms import STOP_WORDS, words_of
from lorabank.synthesis.formats import FormatKind
from lorabank.synthesis.item_checks import normalise, numbers_in
from lorabank.synthesis.replies import WrittenItem
from lorabank.synthesis.sources import SourceText
from lorabank.tasks.examples import Example
from lorabank.tasks.synthetic import phonebook

_NUMBER_ASKED = (
    "Which phone number does {name} have?",
    "Under which number can {name} be called?",
    "What number should be dialled to reach {name}?",
    "How is {name} reached by phone?",
)
_OWNER_ASKED = "Whose phone number is {number}?"
_WORD = re.compile(r"\w[\w'’-]*")


def sources_from_facts(document: str, facts: Sequence[Example]) -> list[SourceText]:
    """Return a source text for each fact.

    Raises:
        UsageError: a fact is a conversation rather than a question with its answer.
    """
    if long := [fact for fact in facts if len(fact.prompt) > 1]:
        raise UsageError(
            f"{document}: only a single question can be asked in other ways, got a conversation "
            f"that ends in {long[0].question[:60]!r}; leave such facts out"
        )
    return [
        SourceText(
            document=document,
            title=document,
            label=fact.question,
            document_label=document,
            section="",
            text=f"Question: {fact.question}\nAnswer: {fact.answer}",
            fact=fact,
        )
        for fact in facts
    ]


def variants_by_rule(fact: Example, kind: FormatKind, n: int) -> list[WrittenItem]:
    """Return up to `n` variants of a phone-book fact, made by rule; none of other facts."""
    entry = phonebook.parse_entry(fact.question, fact.answer)
    if entry is None:
        return []
    if kind is FormatKind.REVERSE:
        return [WrittenItem(_OWNER_ASKED.format(number=entry.number), entry.name)]
    return [WrittenItem(form.format(name=entry.name), entry.number) for form in _NUMBER_ASKED[:n]]


def refine_variant(
    item: WrittenItem, kind: FormatKind, fact: Example
) -> tuple[WrittenItem | None, str]:
    """Return the variant to train on and "", or None and the reason for refusing it."""
    if kind is FormatKind.PARAPHRASE:
        if normalise(item.question) == normalise(fact.question):
            return None, "the question as it was"
        if numbers_in(fact.question) != numbers_in(item.question) or not capitalised_words(
            fact.question
        ) <= set(words_of(item.question)):
            return None, "a paraphrase without the names and numbers of its question"
        if _has(item.question, fact.answer) and not _has(fact.question, fact.answer):
            return None, "a paraphrase that gives the answer away"
        return WrittenItem(item.question, fact.answer), ""
    if not _has(item.question, fact.answer):
        return None, "a reverse question that does not state the answer"
    if not _has(fact.question, item.answer):
        return None, "a reverse answer that is not in the question"
    if _has(item.question, item.answer):
        return None, "a reverse question that gives its answer away"
    return item, ""


def capitalised_words(question: str) -> set[str]:
    """Return the capitalised words of a question in lower case, without stop words."""
    telling = (word for word in _WORD.findall(question) if word[:1].isupper())
    return {part for word in telling if word.lower() not in STOP_WORDS for part in words_of(word)}


def _has(text: str, words: str) -> bool:
    return f" {normalise(words)} " in f" {normalise(text)} "
