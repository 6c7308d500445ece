"""LongBench v2: questions that need the whole of a long text, each with four options.

The file is one JSON list of 503 questions, `{_id, domain, sub_domain, difficulty, length, question,
choice_A, choice_B, choice_C, choice_D, answer, context}`. Contexts have 8 thousand to 2 million
words, which `length` calls short, medium or long; 462 of them are distinct. `data.json` is on the
Hugging Face hub, data set `zai-org/LongBench-v2` (Apache-2.0). The first LongBench has `input` and
`answers` in place of the options and is another task. From arXiv:2412.15204.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from lorabank.errors import DataError
from lorabank.tasks import fields
from lorabank.tasks.datasets import checksums
from lorabank.tasks.datasets import long_documents as longdoc
from lorabank.tasks.datasets.long_documents import LongDocument, LongQuestion
from lorabank.tasks.fields import Text
from lorabank.tasks.scoring.letters import LETTERS

DIFFICULTIES = {"easy": 192, "hard": 311}
LENGTHS = {"short": 180, "medium": 215, "long": 108}
PUBLISHED = {
    "15d61c22d92c96900b3c4948b6aeea218d3214b676a65df48e7b8555604c7fe2": "data.json",
}


class LongBenchQuestion(fields.Record):
    """A question with its text, which other questions may share."""

    id: Text = Field(alias="_id")
    domain: Text
    sub_domain: Text
    difficulty: Annotated[Text, fields.one_of(*DIFFICULTIES)]
    length: Annotated[Text, fields.one_of(*LENGTHS)]
    question: Text
    choice_A: Text
    choice_B: Text
    choice_C: Text
    choice_D: Text
    answer: Annotated[Text, fields.one_of(*LETTERS)]
    context: Text

    @property
    def options(self) -> tuple[str, ...]:
        """Texts of the options, A first."""
        return (self.choice_A, self.choice_B, self.choice_C, self.choice_D)


def read_questions(path: Path, *, allow_other_version: bool = False) -> list[LongBenchQuestion]:
    """Read the questions of the file, in file order.

    Args:
        allow_other_version: accept another file than the published one, such as a part of it.

    Raises:
        DataError: the file cannot be read, is half-downloaded, altered or not as its checksum, a
            field is missing or has a value it cannot have, an id occurs twice, or the numbers of
            questions differ from those published.
    """
    checksums.verify(path.parent)
    if path.suffix == ".jsonl":  # as the files of the first LongBench are
        for line, raw in fields.read_lines(path):
            _read_question(f"{path}, line {line}", raw)
        raise DataError(f"{path}: must be one JSON list, as data.json of LongBench v2 is")
    questions = [_read_question(where, raw) for where, raw in fields.read_records(path, "question")]
    longdoc.refuse_duplicates(path, "_id", (question.id for question in questions))
    if not allow_other_version:
        lengths = Counter(question.length for question in questions)
        counts = lengths + Counter(question.difficulty for question in questions)
        published = LENGTHS | DIFFICULTIES
        if counts != published:
            raise DataError(
                f"{path}: must have {_list_counts(published)} questions, got "
                f"{_list_counts(counts)}; it is a part or another version: download it again, or "
                "pass allow_other_version"
            )
        checksums.verify_published(path, PUBLISHED)
    return questions


def to_documents(questions: Sequence[LongBenchQuestion]) -> list[LongDocument]:
    """Return each text once with all questions about it, named after the first of them."""
    by_context: dict[str, list[LongBenchQuestion]] = {}
    for question in questions:
        by_context.setdefault(question.context, []).append(question)
    return [
        LongDocument(group[0].id, group[0].sub_domain, text, tuple(map(_to_long_question, group)))
        for text, group in by_context.items()
    ]


def _to_long_question(question: LongBenchQuestion) -> LongQuestion:
    prompt = _format_prompt(question)
    return LongQuestion(prompt, (question.answer,), question.options, question.domain)


def _format_prompt(question: LongBenchQuestion) -> str:
    """Ask for the sentence that the published score reads; it ignores a letter alone."""
    options = [f"{letter}: {text}" for letter, text in zip(LETTERS, question.options, strict=True)]
    form = 'Reply with one sentence, "The correct answer is (X)", with its letter in place of X.'
    return "\n".join([question.question, *options, form])


def _read_question(where: str, raw: object) -> LongBenchQuestion:
    if isinstance(raw, dict) and "choice_A" not in raw and "answers" in raw:
        raise DataError(f"{where}: a record of the first LongBench; take data.json of LongBench v2")
    return fields.parse(LongBenchQuestion, where, raw)


def _list_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))
