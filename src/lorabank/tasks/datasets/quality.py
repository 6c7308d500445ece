"""QuALITY: long articles with four-way questions, half of them hard for a reader in a hurry.

Read from a folder, `source/article_{i}.txt` and `eval/article_{i}.jsonl` with `{question, options,
answer, hard}` on each line, or from one JSONL file of rows `{article, question, options, answer,
hard}`, whose articles are numbered in the order of their texts. `answer` counts options from 0.
From arXiv:2112.08608 (questions CC BY 4.0); the validation part has 115 articles and 2,086
questions. `letters.letter` reads which option a reply chooses.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated

from pydantic import AfterValidator, StrictBool

from lorabank.errors import DataError, UsageError
from lorabank.tasks import fields
from lorabank.tasks.datasets import checksums
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.fields import Text, Texts, WholeNumber
from lorabank.tasks.scoring.letters import LETTERS

N_ARTICLES, N_QUESTIONS = 115, 2086


def _check_options(options: tuple[str, ...]) -> tuple[str, ...]:
    if len(options) != len(LETTERS):
        raise fields.wrong(f"must be {len(LETTERS)} texts", len(options))
    return options


def _check_answer(answer: int) -> int:
    if answer >= len(LETTERS):
        raise fields.wrong(f"must be 0..{len(LETTERS) - 1}", answer)
    return answer


class _Question(fields.Record):
    question: Text
    options: Annotated[Texts, AfterValidator(_check_options)]
    answer: Annotated[WholeNumber, AfterValidator(_check_answer)]
    hard: StrictBool


@dataclass(frozen=True, slots=True)
class QualityQuestion:
    """A question with its four options."""

    question: str
    options: tuple[str, ...]
    answer: str
    """Letter of the right option."""
    is_hard: bool


@dataclass(frozen=True, slots=True)
class Article:
    """An article with the questions about it."""

    number: int
    text: str
    questions: tuple[QualityQuestion, ...]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares of right answers, 0..1: means over articles of each article's share, as published."""

    all: float
    hard: float | None
    """Mean over the articles that have a hard question; None if none has."""


def read_articles(path: Path, *, allow_other_version: bool = False) -> list[Article]:
    """Read the articles of a folder or file, by number.

    Args:
        allow_other_version: accept other than the 115 articles and 2,086 questions of the
            validation part.

    Raises:
        DataError: a file is missing, cannot be read or is not as its checksum, a field is missing
            or of another type, an answer is not an option, an article occurs twice, or the numbers
            of articles and questions differ from those published.
    """
    checksums.verify(path if path.is_dir() else path.parent)
    articles = _read_folder(path) if path.is_dir() else _read_file(path)
    texts = Counter(article.text for article in articles)
    if repeated := [article.number for article in articles if texts[article.text] > 1]:
        raise DataError(
            f"{path}: articles {repeated[0]} and {repeated[1]} are one text; keep one of them"
        )
    n_questions = sum(len(article.questions) for article in articles)
    is_whole = (len(articles), n_questions) == (N_ARTICLES, N_QUESTIONS)
    if not allow_other_version and not is_whole:
        raise DataError(
            f"{path}: the validation part has {N_ARTICLES} articles and {N_QUESTIONS:,} questions, "
            f"got {len(articles):,} and {n_questions:,}; download it again, or pass "
            "allow_other_version"
        )
    return articles


def to_example(question: QualityQuestion) -> Example:
    """Return the example that asks for the letter alone."""
    options = [f"{letter}: {text}" for letter, text in zip(LETTERS, question.options, strict=True)]
    task = "Reply with the letter of the correct option and nothing else."
    return from_pair("\n".join([question.question, *options, task]), question.answer)


def accuracy(articles: Sequence[Article], chosen: Sequence[Sequence[str | None]]) -> Accuracy:
    """Return the share of questions answered with the right letter.

    Args:
        chosen: for each article, the letter that each reply chooses, None where it chooses none.

    Raises:
        UsageError: there are no articles, or the numbers of letters and questions differ: a
            question that was not asked is not one that was answered wrong.
    """
    n_questions = [len(article.questions) for article in articles]
    if not n_questions or [len(letters) for letters in chosen] != n_questions:
        raise UsageError(
            f"each of {sum(n_questions):,} questions of {len(articles)} articles, one at least, "
            f"must have a letter or None, got {sum(map(len, chosen)):,} for {len(chosen)} articles"
        )
    all_shares, hard_shares = [], []
    for article, letters in zip(articles, chosen, strict=True):
        pairs = list(zip(article.questions, letters, strict=True))
        all_shares.append(fmean(question.answer == letter for question, letter in pairs))
        if hard := [question.answer == letter for question, letter in pairs if question.is_hard]:
            hard_shares.append(fmean(hard))
    return Accuracy(fmean(all_shares), fmean(hard_shares) if hard_shares else None)


def _read_folder(folder: Path) -> list[Article]:
    numbers = _list_numbers(folder / "source", ".txt")
    if unmatched := set(numbers) ^ set(_list_numbers(folder / "eval", ".jsonl")):
        raise DataError(
            f"{folder}: source and eval must have the same articles, article {min(unmatched)} is "
            "in one alone"
        )
    return [_read_article(folder, number) for number in numbers]


def _list_numbers(folder: Path, suffix: str) -> list[int]:
    """Return the numbers of the articles that have a file in a folder, sorted."""
    names = [path.stem.removeprefix("article_") for path in folder.glob(f"article_*{suffix}")]
    if wrong := [name for name in names if not name.isdecimal()]:
        raise DataError(
            f"{folder}/article_{wrong[0]}{suffix}: must be article_, a number, {suffix}"
        )
    if not names:
        raise DataError(f"{folder}: no files article_0{suffix}, article_1{suffix}, … in it")
    return sorted(map(int, names))


def _read_article(folder: Path, number: int) -> Article:
    source = folder / "source" / f"article_{number}.txt"
    path = folder / "eval" / f"article_{number}.jsonl"
    if not (text := fields.read_text(source).strip()):
        raise DataError(f"{source}: must be the text of an article, is empty")
    records = [(f"{path}, line {line}", raw) for line, raw in fields.read_lines(path)]
    if not records:
        raise DataError(f"{path}: no questions in it; write one line for each")
    return _make_article(number, text, records)


def _read_file(path: Path) -> list[Article]:
    by_text: dict[str, list[tuple[str, dict[str, object]]]] = {}
    for line, raw in fields.read_lines(path):
        where = f"{path}, line {line}"
        if "questions" in raw and "question" not in raw:
            raise DataError(
                f"{where}: an article with all its questions, as QuALITY.v1.0.1 has them; take "
                "rows of {article, question, options, answer, hard}, one for each question"
            )
        by_text.setdefault(fields.text(where, raw, "article"), []).append((where, raw))
    if not by_text:
        raise DataError(f"{path}: no questions in it; write one line for each")
    return [
        _make_article(number, text, by_text[text]) for number, text in enumerate(sorted(by_text))
    ]


def _make_article(number: int, text: str, records: Iterable[tuple[str, object]]) -> Article:
    """Return an article with its questions as they stand; one may occur twice."""
    return Article(number, text, tuple(_read_question(where, raw) for where, raw in records))


def _read_question(where: str, raw: object) -> QualityQuestion:
    record = fields.parse(_Question, where, raw)
    return QualityQuestion(record.question, record.options, LETTERS[record.answer], record.hard)
