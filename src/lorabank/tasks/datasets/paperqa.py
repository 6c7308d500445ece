"""PaperQA: introductions of papers, with ten questions at each of three levels.

A folder holds `paperQA.json` (papers, each with an introduction and 30 evaluation questions: 10 on
stated facts, 10 on relations between them, 10 on the argument) and for each paper
`paper_{id}_QA40.jsonl`, 40 pairs to train on, from another writer than the evaluation questions.

The training questions begin with the number of their paper, and arXiv:2603.01097 puts it before
the evaluation questions too. The number gives the right module away, so it is removed here;
`with_prefix` puts it back to compare with the published numbers.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from lorabank.errors import DataError
from lorabank.tasks import fields
from lorabank.tasks.examples import Example, Message, from_pair
from lorabank.tasks.fields import Text, WholeNumber

LEVELS = (1, 2, 3)
N_PER_LEVEL = 10
N_TRAIN = 40

_PREFIX = re.compile(r"(?:In the Paper ID (\d+),|\[Paper ID: (\d+)\])\s*")  # natural, bracket


class _Pair(fields.Record):
    question: Text
    answer: Text


class _TestPair(_Pair):
    level: WholeNumber


class _Paper(fields.Record):
    id: WholeNumber
    title: Text
    introduction: Text
    QA: Annotated[list[_TestPair], fields.NOT_EMPTY]


@dataclass(frozen=True, slots=True)
class Paper:
    """A paper with what to train on and what to ask."""

    id: int
    title: str
    introduction: str
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    levels: tuple[int, ...]
    """Level of each test question: 1 recall, 2 comprehension, 3 logical structure."""


def read_papers(folder: Path, *, with_prefix: bool = False) -> list[Paper]:
    """Read the papers of a folder, in the order of `paperQA.json`.

    Args:
        with_prefix: begin every question, of training and test, with its paper's number.

    Raises:
        DataError: a file is missing or not in its published form, a paper occurs twice, a paper
            has other than 40 pairs or 10 questions a level, a training question names another
            paper, or a question occurs twice, or in training and test.
    """
    path = folder / "paperQA.json"
    papers = [_read_paper(folder, where, raw) for where, raw in fields.read_records(path, "paper")]
    counts = Counter(paper.id for paper in papers)
    if repeated := [paper_id for paper_id, times in counts.items() if times > 1]:
        raise DataError(
            f"{path}: id {repeated[0]} occurs {counts[repeated[0]]} times; keep one paper of it"
        )
    for file in sorted(folder.glob("paper_*_QA40.jsonl")):
        if file.name not in {_train_name(paper_id) for paper_id in counts}:
            raise DataError(f"{file}: its paper is not in {path.name}; the two must be of one set")
    return list(map(_add_prefix, papers)) if with_prefix else papers


def _add_prefix(paper: Paper) -> Paper:
    """Return the same paper with its number before every question, as published."""
    return replace(
        paper,
        train=_prefix_questions(paper.id, paper.train),
        test=_prefix_questions(paper.id, paper.test),
    )


def _prefix_questions(paper_id: int, examples: Iterable[Example]) -> tuple[Example, ...]:
    return tuple(
        Example(
            (*e.prompt[:-1], Message("user", f"In the Paper ID {paper_id}, {e.question}")), e.answer
        )
        for e in examples
    )


def _read_paper(folder: Path, where: str, raw: object) -> Paper:
    where = fields.name_record(where, raw, "id")
    record = fields.parse(_Paper, where, raw)
    levels = tuple(pair.level for pair in record.QA)
    if Counter(levels) != dict.fromkeys(LEVELS, N_PER_LEVEL):
        counts = ", ".join(f"{n} of level {level}" for level, n in sorted(Counter(levels).items()))
        raise DataError(
            f"{where}: QA must have {N_PER_LEVEL} questions of each level 1, 2, 3, got {counts}"
        )
    first_places: dict[str, str] = {}
    test = tuple(
        _to_example(f"{where}, QA {number}", pair, record.id, first_places)
        for number, pair in enumerate(record.QA, start=1)
    )
    path = folder / _train_name(record.id)
    train = []
    for line, row in fields.read_lines(path):
        pair = fields.parse(_Pair, f"{path}, line {line}", row)
        train.append(_to_example(f"{path}, line {line}", pair, record.id, first_places))
    if len(train) != N_TRAIN:
        raise DataError(
            f"{path}: must have {N_TRAIN} questions, got {len(train)}; take the whole file"
        )
    return Paper(record.id, record.title, record.introduction, tuple(train), test, levels)


def _to_example(where: str, pair: _Pair, paper_id: int, first_places: dict[str, str]) -> Example:
    """Return a pair without its prefix.

    Args:
        first_places: where each question of this paper occurred first; this question is added.
    """
    question = pair.question
    if prefix := _PREFIX.match(question):
        if int(prefix[1] or prefix[2]) != paper_id:
            raise DataError(f"{where}: the question is of another paper: {prefix[0].strip()!r}")
        question = question[prefix.end() :]
    if not question:
        raise DataError(f"{where}: question is only its prefix; the file has been altered")
    if question in first_places:
        first = first_places[question]
        raise DataError(f"{where}: asks what {first} asks: {question[:60]!r}; keep one")
    first_places[question] = where
    return from_pair(question, pair.answer)


def _train_name(paper_id: int) -> str:
    return f"paper_{paper_id}_QA40.jsonl"
