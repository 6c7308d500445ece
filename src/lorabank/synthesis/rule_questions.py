"""Questions with answers made of a document by rule, without any model.

What a passage states in a form that can be part for becomes a question: pairs, rows of tables,
steps, definitions, amounts, dates, names and pieces of code. Where that gives little, sentences
with a gap are added. Every answer stands in the document word for word, and every item has the
sentence that supports it. A question that two places of a document answer differently is part with
its heading, or not at all.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from lorabank.retrieval.terms import STOP_WORDS, words_of
from lorabank.synthesis.format_tasks import FormatTask
from lorabank.synthesis.formats import FormatKind
from lorabank.synthesis.item_checks import HeldOutQuestions, content_stems, normalise
from lorabank.synthesis.replies import WrittenItem
from lorabank.synthesis.results import RefusedExample
from lorabank.synthesis.rules.cloze_questions import cloze_of, word_frequencies
from lorabank.synthesis.rules.line_questions import questions_of_line
from lorabank.synthesis.rules.purpose_questions import questions_in_passing
from lorabank.synthesis.rules.sentence_questions import AskedPart, questions_of
from lorabank.synthesis.rules.statements import (
    Statement,
    StatementKind,
    is_telling,
    statements_of,
)
from lorabank.synthesis.sources import SourceText

MOST_BY_RULE = 96
"""Items made by rule of one document, unless another number is part for."""
_FEW = 2  # items of a passage, below which sentences with gaps are added
_MOST_CLOZE = 2  # of a passage
_FOREIGN = 8  # items of a passage in another language, whose sentences give only gaps
_MOST_OF_STATEMENT = 2  # items made of one sentence
_ENGLISH = 0.12  # share of English function words from which a document is read as English
_WORTH = {"how": 6, "letters": 6, "definition": 5, "number": 5, "date": 5, "reason": 5,
          "heading": 5, "pair": 4, "row": 4, "code": 4, "name": 3, "step": 2, "cloze": 1,
          "beginning": 0}  # fmt: skip
_BEGINNING = 8  # words that a document begins with


@dataclass(frozen=True, slots=True)
class _Draft:
    """A question before those of other places in the document are compared with it."""

    passage: int
    part: AskedPart
    statement: Statement


@dataclass(slots=True)
class FilledByRule:
    """Items that rules made and no task got."""

    refused: list[RefusedExample] = field(default_factory=list)
    n_left: int = 0
    """Acceptable items beyond the most that were wanted of a document."""


def fill_by_rule(
    tasks: Sequence[FormatTask], held_out: HeldOutQuestions, *, most: int = MOST_BY_RULE
) -> FilledByRule:
    """Add questions made by rule to the tasks for questions that lack some.

    The passages of a document take turns, so that all of it is part about.

    Args:
        most: most questions by rule of one document.
    """
    asking = [t for t in tasks if t.format.kind is FormatKind.QA and not t.source.fact]
    waiting = list(map(deque, make_by_rule([task.source for task in asking])))
    filled, n_made = FilledByRule(), Counter[str]()
    while any(waiting):
        for task, items in zip(asking, waiting, strict=True):
            while items:
                item, is_full = items.popleft(), len(task.items) >= task.format.count
                if is_full or n_made[task.source.document] >= most:
                    filled.n_left += 1
                    continue
                why = task.take(item, held_out)
                if not why:
                    n_made[task.source.document] += 1
                    break
                text = f"{item.question} {item.answer}"
                source = task.source
                filled.refused.append(
                    RefusedExample(why, task.format.kind, source.document, source.label, text)
                )
    return filled


def make_by_rule(sources: Sequence[SourceText]) -> list[list[WrittenItem]]:
    """Return the items of each passage, those most worth asking first."""
    of_document: defaultdict[str, list[int]] = defaultdict(list)
    for i, source in enumerate(sources):
        of_document[source.document].append(i)
    made: list[list[WrittenItem]] = [[] for _ in sources]
    for indices in of_document.values():
        for draft in _of_document(sources, indices):
            part = draft.part
            item = WrittenItem(part.question, part.answer, part.rule, draft.statement.text)
            made[draft.passage].append(item)
        if not any(made[i] for i in indices):
            made[indices[0]] += _beginning(sources[indices[0]])
    return made


def _of_document(sources: Sequence[SourceText], indices: Sequence[int]) -> list[_Draft]:
    statements = {i: statements_of(sources[i]) for i in indices}
    frequencies = word_frequencies(s.text for own in statements.values() for s in own)
    n_english = sum(n for word, n in frequencies.items() if word in STOP_WORDS)
    is_english = n_english >= _ENGLISH * max(1, frequencies.total())
    drafts = [
        _Draft(i, part, statement)
        for i, own in statements.items()
        for statement in own
        for part in _asked_of(statement, is_english=is_english)
    ]
    drafts = _without_disputes(drafts)
    n_made = Counter(draft.passage for draft in drafts)
    asked_about = {id(draft.statement) for draft in drafts}
    cloze = [
        _Draft(i, part, statement)
        for i, own in statements.items()
        if n_made[i] < (_FEW if is_english else _FOREIGN)
        for statement in own
        if statement.kind is StatementKind.SENTENCE and id(statement) not in asked_about
        for part in cloze_of(statement, frequencies)
    ]
    n_cloze = Counter[int]()
    for draft in _without_disputes(cloze):
        if n_cloze[draft.passage] < (_MOST_CLOZE if is_english else _FOREIGN):
            n_cloze[draft.passage] += 1
            drafts.append(draft)
    # A value that the same kind of line has everywhere ("Required: false") tells little.
    common = Counter((d.part.rule, normalise(d.part.answer)) for d in drafts)

    def worth(draft: _Draft) -> float:
        n = common[draft.part.rule, normalise(draft.part.answer)]
        return _WORTH[draft.part.rule] - 2.0 * (n > 2)

    return sorted(drafts, key=lambda draft: -worth(draft))


def _asked_of(statement: Statement, *, is_english: bool) -> Iterator[AskedPart]:
    """Yield what a statement is part for, with its subject named and answers as they stand."""
    if statement.kind is not StatementKind.SENTENCE:
        made = questions_of_line(statement)
    elif is_english:
        made = chain(questions_in_passing(statement), questions_of(statement))
    else:
        return
    n = 0
    for part in made:
        answer = _verbatim(part.answer, statement.text)
        is_general = part.rule == "letters"
        question = part.question if is_general else _with_subject(part.question, statement)
        is_given = f" {normalise(answer)} " in f" {normalise(question)} "
        if not normalise(answer) or is_given:
            continue
        n += 1
        if statement.kind is StatementKind.SENTENCE and n > _MOST_OF_STATEMENT:
            return
        yield replace(part, question=question, answer=answer)


def _verbatim(answer: str, text: str) -> str:
    """Return an answer with the apostrophes its text has; "" if it does not stand there."""
    for candidate in (answer, answer.replace("'", "’")):
        if candidate in text:
            return candidate
    return ""


def _with_subject(question: str, statement: Statement) -> str:
    """Return the question with its subject in front, if no word of the question is of that."""
    subject = statement.subject
    if statement.kind is not StatementKind.SENTENCE or not is_telling(subject):
        return question
    if set(content_stems(subject)) & set(content_stems(question)):
        return question
    return f"{subject}: {question[0].lower()}{question[1:]}"


def _without_disputes(drafts: Sequence[_Draft]) -> list[_Draft]:
    """Return one draft of each question; those with two answers name their heading, or go."""
    for _ in range(2):
        answers: defaultdict[str, set[str]] = defaultdict(set)
        for draft in drafts:
            answers[normalise(draft.part.question)].add(normalise(draft.part.answer))
        drafts = [
            draft if len(answers[normalise(draft.part.question)]) == 1 else _with_heading(draft)
            for draft in drafts
        ]
    first: dict[str, _Draft] = {}
    for draft in drafts:
        key = normalise(draft.part.question)
        if len(answers[key]) == 1:
            first.setdefault(key, draft)
    return list(first.values())


def _with_heading(draft: _Draft) -> _Draft:
    heading, question = draft.statement.heading, draft.part.question
    if not heading or normalise(heading) in normalise(question):
        return draft
    question = f"{question.rstrip('?')}, in “{heading}”?"
    return replace(draft, part=replace(draft.part, question=question))


def _beginning(source: SourceText) -> list[WrittenItem]:
    """Return a question for the first words of a document of which nothing else can be part."""
    words = source.text.split()[:_BEGINNING]
    text = " ".join(words)
    question = f"What does {source.document_label} begin with?"
    return [WrittenItem(question, text, "beginning", text)] if words_of(text) else []
