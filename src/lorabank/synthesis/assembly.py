"""From items to examples: every prompt once, and what documents disagree on kept apart.

A question that two documents answer alike is taught once. If they answer it differently both
answers are taught, each with its source in the question, and the two are reported. Within one
document the first answer stands.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lorabank.retrieval.terms import words_of
from lorabank.synthesis.coverage import measure
from lorabank.synthesis.facts import from_facts
from lorabank.synthesis.formats import Format, Kind
from lorabank.synthesis.pieces import Piece
from lorabank.synthesis.prompts import question_for
from lorabank.synthesis.quality import ASKING, numbers, plain
from lorabank.synthesis.results import Contradiction, MadeExample, RefusedExample, SynthesisOutcome
from lorabank.synthesis.tasks import Task
from lorabank.tasks.examples import from_pair
from lorabank.tasks.scoring.text_metrics import token_f1

_AGREEING = 0.5  # token F1 of two answers that say the same in other words


def facts_of(task: Task) -> list[Piece]:
    """The questions of a task with their answers, to make variants of."""
    pairs = [from_pair(item.question, item.answer) for item in task.chosen]
    of = task.piece
    return [
        replace(piece, title=of.title, work=of.work, section=of.section, start=of.start, end=of.end)
        for piece in from_facts(of.document, pairs)
    ]


def assemble(
    outcome: SynthesisOutcome,
    pieces: Sequence[Piece],
    formats: Sequence[Format],
    tasks: Sequence[Task],
) -> None:
    """Fill in the examples, what they cover, and what contradicts."""
    with_original = any(one.kind is Kind.ORIGINAL for one in formats)
    outcome.wanted = sum(task.format.count for task in tasks) + with_original * len(pieces)
    first: dict[str, tuple[MadeExample, Piece]] = {}
    disputed: set[str] = set()
    for made, piece in _all_made(pieces, tasks, with_original=with_original):
        earlier, of = first.setdefault(plain(made.prompt), (made, piece))
        if earlier is made:
            continue
        if agree(earlier.answer, made.answer):
            outcome.refused.append(_refused("said before", made, piece))
            continue
        outcome.contradictions.append(
            Contradiction(made.prompt, (earlier.answer, made.answer), (of.work, piece.work))
        )
        if earlier.document == made.document:
            outcome.refused.append(_refused("contradicts its own document", made, piece))
            continue
        disputed.add(plain(made.prompt))
        for one, its in ((earlier, of), (made, piece)):
            named = replace(one, prompt=according_to(its.work, one.prompt))
            first.setdefault(plain(named.prompt), (named, its))
    kept = [made for key, (made, _) in first.items() if key not in disputed]
    place = {piece.document: i for i, piece in enumerate(pieces)}
    outcome.made = sorted(kept, key=lambda made: (place[made.document], made.start))
    outcome.without = [one for one in place if one not in {made.document for made in kept}]
    for task in tasks:
        if task.format.kind is Kind.QA:
            outcome.coverage += measure(task.piece.text, task.chosen)


def agree(answer: str, other: str) -> bool:
    """Whether two answers say the same: alike in words, and in every number."""
    return numbers(answer) == numbers(other) and (
        plain(answer) == plain(other) or token_f1(answer, other) >= _AGREEING
    )


def according_to(work: str, question: str) -> str:
    start, rest = question[:1], question[1:]
    is_asking = words_of(question)[0] in ASKING
    return f"According to {work}, {start.lower() if is_asking else start}{rest}"


def _all_made(
    pieces: Sequence[Piece], tasks: Sequence[Task], *, with_original: bool
) -> Iterator[tuple[MadeExample, Piece]]:
    for piece in pieces if with_original else ():
        prompt = piece.fact.question if piece.fact else question_for(piece, Kind.ORIGINAL, 1)
        answer = piece.fact.answer if piece.fact else piece.text
        yield _made(piece, Kind.ORIGINAL, prompt, answer), piece
    for task in tasks:
        kind, piece = task.format.kind, task.piece
        for number, item in enumerate(task.chosen, start=1):
            prompt = item.question or question_for(piece, kind, number)
            yield _made(piece, kind, prompt, item.answer), piece


def _made(piece: Piece, kind: Kind, prompt: str, answer: str) -> MadeExample:
    return MadeExample(prompt, answer, kind, piece.document, piece.section, piece.start, piece.end)


def _refused(reason: str, made: MadeExample, piece: Piece) -> RefusedExample:
    text = f"{made.prompt} {made.answer}"
    return RefusedExample(reason, made.format, made.document, piece.label, text)
