"""QuALITY: long articles with four-way questions, half of them hard for a reader in a hurry.

Read from a folder, `source/article_{i}.txt` and `eval/article_{i}.jsonl` with `{question, options,
answer, hard}` on each line, or from one JSONL file of rows `{article, question, options, answer,
hard}`, whose articles are numbered in the order of their texts. `answer` counts options from 0.
From arXiv:2112.08608 (questions CC BY 4.0); the validation part has 115 articles and 2,086
questions. Replies are read by `letters`, in the published way or a right one.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from lorabank.errors import DataError, UsageError
from lorabank.tasks.datasets import checksums, fields
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.scoring.letters import LETTERS

N_ARTICLES, N_QUESTIONS = 115, 2086


@dataclass(frozen=True, slots=True)
class QualityQuestion:
    """One question with its four options."""

    question: str
    options: tuple[str, ...]
    answer: str
    """A letter."""
    is_hard: bool


@dataclass(frozen=True, slots=True)
class Article:
    """One document."""

    number: int
    text: str
    questions: tuple[QualityQuestion, ...]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Share right, 0..1: the mean over articles of theirs, as published."""

    all: float
    hard: float | None
    """Over articles that have a hard question; None if none has."""


def read_articles(path: Path, *, is_part: bool = False) -> list[Article]:
    """The articles of a folder or file, by number.

    Args:
        is_part: allow other than the 115 articles and 2,086 questions of the validation part.

    Raises:
        DataError: a file that is missing, cannot be read or is not as its checksum, a field that is
            missing or of another type, an answer that is no option, an article that stands twice,
            or another number of articles or questions.
    """
    checksums.verify(path if path.is_dir() else path.parent)
    articles = _from_folder(path) if path.is_dir() else _from_file(path)
    texts = Counter(article.text for article in articles)
    if twice := [one.number for one in articles if texts[one.text] > 1]:
        raise DataError(f"{path}: articles {twice[0]} and {twice[1]} are one text; keep one")
    n_questions = sum(len(article.questions) for article in articles)
    if not is_part and (len(articles), n_questions) != (N_ARTICLES, N_QUESTIONS):
        raise DataError(
            f"{path}: the validation part has {N_ARTICLES} articles and {N_QUESTIONS:,} questions, "
            f"got {len(articles):,} and {n_questions:,}; download it again, or say is_part"
        )
    return articles


def to_example(question: QualityQuestion) -> Example:
    """Asked for the letter alone."""
    options = [f"{of}: {text}" for of, text in zip(LETTERS, question.options, strict=True)]
    task = "Reply with the letter of the correct option and nothing else."
    return from_pair("\n".join([question.question, *options, task]), question.answer)


def accuracy(articles: Sequence[Article], chosen: Sequence[Sequence[str | None]]) -> Accuracy:
    """How many letters are right.

    Args:
        chosen: the letters of each article's replies, as either rule of `letters` reads them.

    Raises:
        UsageError: no articles, or other than one letter for each question: a question that was
            not asked is not one answered wrong.
    """
    wanted = [len(article.questions) for article in articles]
    if not wanted or [len(letters) for letters in chosen] != wanted:
        raise UsageError(
            f"each of {sum(wanted):,} questions of {len(wanted)} articles, one at least, must have "
            f"a letter or None, got {sum(map(len, chosen)):,} for {len(chosen)} articles"
        )
    rights = [
        [(one.is_hard, one.answer == letter) for one, letter in zip(a.questions, of, strict=True)]
        for a, of in zip(articles, chosen, strict=True)
    ]
    hard = [right for of in rights if (right := [ok for is_hard, ok in of if is_hard])]
    return Accuracy(_macro([[ok for _, ok in of] for of in rights]), _macro(hard) if hard else None)


def _macro(rights: Iterable[Sequence[bool]]) -> float:
    return fmean(fmean(of) for of in rights)


def _from_folder(folder: Path) -> list[Article]:
    numbers = _numbers(folder / "source", ".txt")
    if numbers != (asked := _numbers(folder / "eval", ".jsonl")):
        odd = min(set(numbers) ^ set(asked))
        raise DataError(
            f"{folder}: source and eval must have the same articles, article {odd} is in one alone"
        )
    return [_read_article(folder, number) for number in numbers]


def _numbers(folder: Path, suffix: str) -> list[int]:
    names = [path.stem.removeprefix("article_") for path in folder.glob(f"article_*{suffix}")]
    if odd := [name for name in names if not name.isdecimal()]:
        raise DataError(f"{folder}/article_{odd[0]}{suffix}: must be article_, a number, {suffix}")
    if not names:
        raise DataError(f"{folder}: no files article_0{suffix}, article_1{suffix}, … in it")
    return sorted(map(int, names))


def _read_article(folder: Path, number: int) -> Article:
    source = folder / "source" / f"article_{number}.txt"
    path = folder / "eval" / f"article_{number}.jsonl"
    if not (text := fields.read_text(source).strip()):
        raise DataError(f"{source}: must be the text of an article, is empty")
    asked = [(f"{path}, line {line}", raw) for line, raw in fields.read_lines(path)]
    if not asked:
        raise DataError(f"{path}: no questions in it; give one line for each")
    return _article(number, text, asked)


def _from_file(path: Path) -> list[Article]:
    rows: dict[str, list[tuple[str, dict[str, object]]]] = {}
    for line, raw in fields.read_lines(path):
        where = f"{path}, line {line}"
        rows.setdefault(fields.text(where, raw, "article"), []).append((where, raw))
    if not rows:
        raise DataError(f"{path}: no questions in it; give one line for each")
    return [_article(number, text, rows[text]) for number, text in enumerate(sorted(rows))]


def _article(number: int, text: str, asked: Iterable[tuple[str, object]]) -> Article:
    """Its questions as they stand, if one should stand twice."""
    return Article(number, text, tuple(_read_question(where, raw) for where, raw in asked))


def _read_question(where: str, raw: object) -> QualityQuestion:
    question, options = fields.text(where, raw, "question"), fields.texts(where, raw, "options")
    if len(options) != len(LETTERS):
        raise DataError(f"{where}: options must be {len(LETTERS)} texts, got {len(options)}")
    answer = fields.whole_number(where, raw, "answer")
    if answer >= len(options):
        raise DataError(f"{where}: answer must be 0..{len(options) - 1}, got {answer}")
    is_hard = fields.field(where, raw, "hard")
    if not isinstance(is_hard, bool):
        raise DataError(f"{where}: hard must be true or false, got {is_hard!r}")
    return QualityQuestion(question, options, LETTERS[answer], is_hard)
