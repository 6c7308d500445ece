"""Long documents with their questions, in one shape for every task that has them.

A study that compares memories of long documents (questions 12 to 14 of arXiv:2603.01097) needs a
text to read or to learn, and questions with what counts as an answer; where these came from is of
no concern to it. Tasks that are conversations are documents too, rendered with their dates. Scores
stay with the tasks, as each was published with its own.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lorabank.errors import DataError
from lorabank.tasks.datasets import narrativeqa, quality
from lorabank.tasks.synthetic import chronicle, chronicle_questions

NOT_MENTIONED = "Not mentioned in the text."  # "not mentioned" is what LoCoMo's score looks for

_REFUSAL = re.compile(
    r"(?:\bnot|\bnever|n[’']t) (?:\w+ ){0,2}(?:mentioned|stated|specified|provided|discussed|"
    r"described|known|available|recorded|answerable)\b"
    r"|\b(?:text|conversations?|history|chats?|chronicle|context|document|it)(?: does| do| did)?"
    r"(?: not|n[’']t) (?:\w+ )?(?:say|state|mention|specify|tell|discuss|provide)\b"
    r"|\bI (?:do|did)(?: not|n[’']t) (?:\w+ )?(?:know|have|see|find|recall)\b"
    r"|\b(?:no|not enough) (?:\w+ )?(?:information|mention|record|evidence|answer)\b"
    r"|\b(?:cannot|can[’']t|unable to|not possible to) (?:be )?(?:say|tell|answer|determine)"
    r"|\bunanswerable\b",
    re.IGNORECASE,
)
_BUT = re.compile(r"\b(?:but|however|though|although|still|probably|likely)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LongQuestion:
    """One thing to ask."""

    prompt: str
    """All the user's turn says but the document, options included."""
    answers: tuple[str, ...]
    """All that count as right, a letter where there are options; none if the text does not say."""
    options: tuple[str, ...] = ()
    """Their texts, of A first."""
    kind: str = ""
    """The task's own sort of question."""
    evidence: tuple[str, ...] = ()
    """Where the answer stands, as the task names it: sentences, turns or sessions."""


@dataclass(frozen=True, slots=True)
class LongDocument:
    """One text to remember."""

    name: str
    """No other of its task has it."""
    title: str
    text: str
    questions: tuple[LongQuestion, ...]


def is_refusal(reply: str) -> bool:
    """Whether a reply says that it does not know, and does not go on to guess.

    Of words alone: a refusal in words that are not listed here is not seen.
    """
    found = _REFUSAL.search(reply)
    return found is not None and not _BUT.search(reply, found.end())


def format_question(question: str, hint: str = "") -> str:
    """A question in words that want a short answer or `NOT_SAID`."""
    task = f"Give only the answer, in a few words; if the text does not say, reply: {NOT_MENTIONED}"
    return "\n".join(filter(None, [task, hint, f"Question: {question}"]))


def format_choices(question: str, options: Sequence[str]) -> str:
    """A question with four options, asked as `quality` asks."""
    return quality.to_example(
        quality.QualityQuestion(question, tuple(options), "A", False)
    ).question


def refuse_duplicates(where: object, what: str, names: Iterable[str]) -> None:
    """Nothing, if no name is twice among them.

    Raises:
        DataError: the first that is.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{where}: {what} {name!r} stands twice; keep one of it")
        seen.add(name)


def from_chronicle(
    told: chronicle.Chronicle, questions: Sequence[chronicle_questions.ChronicleQuestion]
) -> LongDocument:
    asked = tuple(
        LongQuestion(
            format_question(one.text),
            () if one.answer is None else (one.answer,),
            (),
            one.kind,
            one.evidence,
        )
        for one in questions
    )
    name = f"chronicle-{told.seed}"
    return LongDocument(name, f"Chronicle {told.seed}", chronicle.render_text(told), asked)


def from_narrativeqa(
    book: narrativeqa.Book, questions: Sequence[narrativeqa.NarrativeQuestion]
) -> LongDocument:
    examples = narrativeqa.to_examples(questions)
    asked = tuple(
        LongQuestion(example.question, one.answers)
        for example, one in zip(examples, questions, strict=True)
    )
    return LongDocument(book.id, book.id, book.text, asked)


def from_quality(article: quality.Article) -> LongDocument:
    asked = tuple(
        LongQuestion(
            quality.to_example(one).question,
            (one.answer,),
            one.options,
            "hard" if one.is_hard else "easy",
        )
        for one in article.questions
    )
    name = f"article_{article.number}"
    return LongDocument(name, f"Article {article.number}", article.text, asked)
