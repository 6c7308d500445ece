"""SQuAD: Wikipedia passages, each with the questions people asked about it.

A JSONL file, one passage a line: `{title, context, questions: [{question, answer}, …]}`, with `id`
in the file of all passages and with `completions` in files of synthetic training texts, where a
model was given the passage and asked for implications, rewrites or questions with answers of its
own. Passages and questions from SQuAD 1.1 (arXiv:1606.05250, CC BY-SA 4.0), completions from
SEAL (arXiv:2506.10943).
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lorabank.errors import DataError
from lorabank.tasks.datasets import fields
from lorabank.tasks.examples import Example, from_pair


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage with its questions, and the texts written from it where the file has them."""

    id: int
    """The file's; its place in the file, from 0, where the file gives none."""
    title: str
    """Of the article, which many passages share."""
    text: str
    questions: tuple[Example, ...]
    """As they stand: a question may come twice, with the same answer or another."""
    completions: tuple[str, ...] = ()
    """What a model wrote, one text for each time it was asked."""


def read_passages(path: Path) -> list[Passage]:
    """The passages of a file, in file order.

    Files of completions give no ids, so theirs count places and mean other passages than the ids
    of the file of all; match those by `text`.

    Raises:
        DataError: a file that cannot be read, a field that is missing or empty, an answer that its
            passage does not contain, a passage or an id that stands twice.
    """
    passages = [
        _read_passage(place, f"{path}, line {line}", raw)
        for place, (line, raw) in enumerate(fields.read_lines(path))
    ]
    if not passages:
        raise DataError(f"{path}: no passages in it; give one line for each")
    ids = Counter(passage.id for passage in passages)
    bodies = Counter(passage.text for passage in passages)
    for passage in passages:
        if ids[passage.id] > 1:
            raise DataError(f"{path}: id {passage.id} stands {ids[passage.id]} times; keep one")
        if bodies[passage.text] > 1:
            raise DataError(f"{path}: a passage stands twice: {passage.text[:60]!r}; keep one")
    return passages


def gold_answers(passage: Passage) -> dict[str, tuple[str, ...]]:
    """Each question once, in the order first asked, with every answer given to it.

    To train on, where each prompt may stand once, take the first answer; to score, all of them.
    """
    found: dict[str, dict[str, None]] = {}
    for example in passage.questions:
        found.setdefault(example.question, {})[example.answer] = None
    return {question: tuple(answers) for question, answers in found.items()}


def _read_passage(place: int, where: str, raw: dict[str, object]) -> Passage:
    context = fields.text(where, raw, "context")
    questions = tuple(
        from_pair(fields.text(at, one, "question"), fields.text(at, one, "answer"))
        for at, one in fields.items(where, raw, "questions")
    )
    for n, example in enumerate(questions, start=1):
        if example.answer not in context:  # every answer of SQuAD 1.1 is a span of its passage
            raise DataError(
                f"{where}, questions {n}: the answer {example.answer[:60]!r} is not in the "
                "context; one of the two has been altered"
            )
    return Passage(
        fields.whole_number(where, raw, "id") if "id" in raw else place,
        fields.text(where, raw, "title"),
        context,
        questions,
        fields.texts(where, raw, "completions") if "completions" in raw else (),
    )
