"""Published tasks of long documents, as their files lie in the data folder.

    narrativeqa    books.jsonl, doc_{id}_eval.jsonl
    quality        source/article_{i}.txt and eval/article_{i}.jsonl
    infinitebench  longbook_qa_eng.jsonl
    longbench      data.json
    locomo         locomo10.json
    longmemeval    longmemeval_s.json

They are data (LORABANK_DATA), downloaded by whoever may, and checked when they are read.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from lorabank.study.data_folder import data_folder
from lorabank.tasks.datasets import (
    infinitebench,
    locomo,
    longbench,
    longmemeval,
    narrativeqa,
    quality,
)
from lorabank.tasks.datasets import long_documents as longdoc
from lorabank.tasks.datasets.long_documents import LongDocument


def read_published(task: str) -> list[LongDocument]:
    """All documents of a task, with their questions.

    Raises:
        UsageError: no data folder. DataError: files that are missing, half-downloaded or altered.
    """
    return PUBLISHED[task](data_folder(task))


def _narrativeqa(folder: Path) -> list[LongDocument]:
    books = narrativeqa.read_books(folder / "books.jsonl")
    questions = narrativeqa.read_questions_about(folder, books)
    return [longdoc.from_narrativeqa(book, questions[book.id]) for book in books]


def _quality(folder: Path) -> list[LongDocument]:
    return list(map(longdoc.from_quality, quality.read_articles(folder)))


def _longbench(folder: Path) -> list[LongDocument]:
    return longbench.to_documents(longbench.read_questions(folder / "data.json"))


def _locomo(folder: Path) -> list[LongDocument]:
    return list(map(locomo.to_document, locomo.read_conversations(folder / "locomo10.json")))


def _longmemeval(folder: Path) -> list[LongDocument]:
    questions = longmemeval.read_questions(folder / "longmemeval_s.json")
    return list(map(longmemeval.to_document, questions))


PUBLISHED: Mapping[str, Callable[[Path], list[LongDocument]]] = {
    "narrativeqa": _narrativeqa,
    "quality": _quality,
    "infinitebench": lambda folder: infinitebench.read_books(folder / "longbook_qa_eng.jsonl"),
    "longbench": _longbench,
    "locomo": _locomo,
    "longmemeval": _longmemeval,
}
