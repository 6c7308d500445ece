"""PaperQA: what a paper's introduction says, asked ten times at each of three levels.

A folder holds `paperQA.json` (papers, each with an introduction and 30 evaluation questions: 10 on
stated facts, 10 on relations between them, 10 on the argument) and for each paper
`paper_{id}_QA40.jsonl`, 40 pairs to train on, from another writer than the evaluation questions.

The training questions begin with the number of their paper, and arXiv:2603.01097 puts it before
the evaluation questions too, routed or not. That gives the right module away, so it is taken off
here; `add_prefix` puts it back for a comparison with the published numbers.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from lorabank.errors import DataError
from lorabank.tasks.datasets import fields
from lorabank.tasks.examples import Example, Message, from_pair

LEVELS = (1, 2, 3)
N_PER_LEVEL = 10
N_TRAIN = 40

_PREFIX = re.compile(r"(?:In the Paper ID (\d+),|\[Paper ID: (\d+)\])\s*")  # natural, bracket


@dataclass(frozen=True, slots=True)
class Paper:
    """One document with what to train on and what to ask."""

    id: int
    title: str
    introduction: str
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    levels: tuple[int, ...]
    """Of each test question: 1 recall, 2 comprehension, 3 logical structure."""


def read_papers(folder: Path, *, with_prefix: bool = False) -> list[Paper]:
    """The papers of a folder, in the order of `paperQA.json`.

    Args:
        with_prefix: begin every question, of training and test, with its paper's number.

    Raises:
        DataError: a file that is missing or not in its published form, a paper that stands twice,
            other than 40 pairs or 10 questions a level, a training question of another paper, a
            question that stands twice, or in training and test.
    """
    path = folder / "paperQA.json"
    raw = fields.read_json(path)
    if not isinstance(raw, list) or not raw:
        raise DataError(f"{path}: must be a JSON list of papers that is not empty")
    papers = [_read_paper(folder, f"{path}, paper {i}", one) for i, one in enumerate(raw, start=1)]
    ids = Counter(paper.id for paper in papers)
    if twice := [i for i, times in ids.items() if times > 1]:
        raise DataError(f"{path}: id {twice[0]} stands {ids[twice[0]]} times; keep one paper of it")
    for file in sorted(folder.glob("paper_*_QA40.jsonl")):
        if file.name not in {_train_name(i) for i in ids}:
            raise DataError(f"{file}: its paper is not in {path.name}; the two must be of one set")
    return [add_prefix(paper) for paper in papers] if with_prefix else papers


def add_prefix(paper: Paper) -> Paper:
    """The same paper, its number before every question, as published."""
    return replace(
        paper, train=_prefixed(paper.id, paper.train), test=_prefixed(paper.id, paper.test)
    )


def _prefixed(paper_id: int, examples: Iterable[Example]) -> tuple[Example, ...]:
    return tuple(
        Example(
            (*e.prompt[:-1], Message("user", f"In the Paper ID {paper_id}, {e.question}")), e.answer
        )
        for e in examples
    )


def _read_paper(folder: Path, where: str, raw: object) -> Paper:
    paper_id = fields.whole_number(where, raw, "id")
    where = f"{where} (id {paper_id})"
    title, introduction = fields.text(where, raw, "title"), fields.text(where, raw, "introduction")
    questions = fields.items(where, raw, "QA")
    levels = tuple(fields.whole_number(at, one, "level") for at, one in questions)
    if Counter(levels) != dict.fromkeys(LEVELS, N_PER_LEVEL):
        had = ", ".join(f"{n} of level {level}" for level, n in sorted(Counter(levels).items()))
        raise DataError(
            f"{where}: QA must have {N_PER_LEVEL} questions of each level 1, 2, 3, got {had}"
        )
    asked: dict[str, str] = {}
    test = tuple(_read_pair(at, one, paper_id, asked) for at, one in questions)
    path = folder / _train_name(paper_id)
    train = tuple(
        _read_pair(f"{path}, line {line}", one, paper_id, asked)
        for line, one in fields.read_lines(path)
    )
    if len(train) != N_TRAIN:
        raise DataError(f"{path}: must have {N_TRAIN} questions, got {len(train)}; take it whole")
    return Paper(paper_id, title, introduction, train, test, levels)


def _read_pair(where: str, raw: object, paper_id: int, asked: dict[str, str]) -> Example:
    """A pair without its prefix; `asked` is where each question of this paper stood first."""
    question = fields.text(where, raw, "question")
    if found := _PREFIX.match(question):
        if int(found[1] or found[2]) != paper_id:
            raise DataError(f"{where}: the question is of another paper: {found[0].strip()!r}")
        question = question[found.end() :]
    if not question:
        raise DataError(f"{where}: question is only its prefix; the file has been altered")
    if question in asked:
        raise DataError(f"{where}: asks what {asked[question]} asks: {question[:60]!r}; keep one")
    asked[question] = where
    return from_pair(question, fields.text(where, raw, "answer"))


def _train_name(paper_id: int) -> str:
    return f"paper_{paper_id}_QA40.jsonl"
