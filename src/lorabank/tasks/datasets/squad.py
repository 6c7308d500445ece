"""SQuAD: Wikipedia passages, each with the questions people asked about it.

A JSONL file, one passage a line: `{title, context, questions: [{question, answer}, …]}`. The file
of all passages has an `id` on each line. Files of synthetic training texts have `completions`:
texts that a model wrote when given the passage and asked for implications, rewrites, or questions
with answers. Passages and questions from SQuAD 1.1 (arXiv:1606.05250, CC BY-SA 4.0), completions
from SEAL (arXiv:2506.10943).
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from lorabank.errors import DataError
from lorabank.tasks import fields
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.fields import Text, Texts, WholeNumber


class _Pair(fields.Record):
    question: Text
    answer: Text


class _Passage(fields.Record):
    context: Text
    questions: Annotated[list[_Pair], fields.NOT_EMPTY]
    id: WholeNumber = -1  # not in files of completions
    title: Text
    completions: Texts = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage with its questions, and the texts written from it where the file has them."""

    id: int
    """Id in the file; where the file has none, the passage's index in it, from 0."""
    title: str
    """Title of the article, which many passages share."""
    text: str
    questions: tuple[Example, ...]
    """Questions as they stand: one may occur twice, with the same answer or another."""
    completions: tuple[str, ...] = ()
    """Texts that a model wrote, one for each time it was asked."""


def read_passages(path: Path) -> list[Passage]:
    """Read the passages of a file, in file order.

    Files of completions have no ids. Their indices are not the ids of the file of all passages;
    match the two by `text`.

    Raises:
        DataError: the file cannot be read, a field is missing or empty, a passage does not contain
            an answer, or a passage or an id occurs twice.
    """
    passages = [
        _read_passage(index, f"{path}, line {line}", raw)
        for index, (line, raw) in enumerate(fields.read_lines(path))
    ]
    if not passages:
        raise DataError(f"{path}: no passages in it; write one line for each")
    ids = Counter(passage.id for passage in passages)
    texts = Counter(passage.text for passage in passages)
    for passage in passages:
        if ids[passage.id] > 1:
            raise DataError(f"{path}: id {passage.id} occurs {ids[passage.id]} times; keep one")
        if texts[passage.text] > 1:
            raise DataError(f"{path}: a passage occurs twice: {passage.text[:60]!r}; keep one")
    return passages


def _read_passage(index: int, where: str, raw: dict[str, object]) -> Passage:
    record = fields.parse(_Passage, where, raw)
    for number, pair in enumerate(record.questions, start=1):
        if pair.answer not in record.context:  # every answer of SQuAD 1.1 is a span of its passage
            raise DataError(
                f"{where}, questions {number}: the answer {pair.answer[:60]!r} is not in the "
                "context; one of the two has been altered"
            )
    return Passage(
        record.id if "id" in raw else index,
        record.title,
        record.context,
        tuple(from_pair(pair.question, pair.answer) for pair in record.questions),
        record.completions,
    )
