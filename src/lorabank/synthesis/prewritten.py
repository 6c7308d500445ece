"""A generator of texts that exist already: PaperQA's questions, SQuAD's completions.

A folder with `paperQA.json` gives its papers and the forty questions with answers GPT-4.1 wrote of
each (tasks/paperqa.py). A JSONL file of SQuAD passages with `completions` gives the passages and
what a model wrote of each (tasks/squad.py): the format it is asked for as is the format it is read
in. Both are documents too, so that one path can be read from and written to.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from lorabank.engine.models.model_cache import file_sha256
from lorabank.errors import DataError
from lorabank.retrieval.chunks import Chunk
from lorabank.retrieval.documents import Document
from lorabank.retrieval.words import count_words
from lorabank.synthesis.formats import FormatKind
from lorabank.synthesis.generators import Finish, Reply, Request
from lorabank.synthesis.prompts import KEYS
from lorabank.synthesis.replies import parse_labelled_lines, split_numbered
from lorabank.tasks import fields
from lorabank.tasks.datasets.paperqa import read_papers
from lorabank.tasks.datasets.squad import read_passages
from lorabank.tasks.examples import Example

_PAPERS = "paperQA.json"


@dataclass(frozen=True, slots=True)
class PrewrittenPassage:
    """A passage and the texts that were written about it."""

    name: str
    title: str
    text: str
    pairs: tuple[Example, ...] = ()
    texts: tuple[str, ...] = ()


def is_prewritten(path: Path) -> bool:
    """Return whether a path has one of the two forms, rather than documents or facts."""
    if path.suffix == ".jsonl":
        first = next(fields.read_lines(path), None)
        return first is not None and "context" in first[1]
    return (path / _PAPERS).is_file()


def read_prewritten(path: Path) -> list[PrewrittenPassage]:
    """Return the passages of a folder or file.

    Raises:
        DataError: it has neither of the two forms, or cannot be read.
    """
    if path.is_dir():
        if not (path / _PAPERS).is_file():
            raise DataError(f"{path}: a folder of written texts must have {_PAPERS} in it")
        papers = read_papers(path)
        return [
            PrewrittenPassage(f"paper-{p.id}", p.title, p.introduction, p.train) for p in papers
        ]
    if path.suffix != ".jsonl":
        raise DataError(
            f"{path}: written texts are a .jsonl file of passages with completions, or a folder "
            f"with {_PAPERS}; got {path.suffix or 'no suffix'}"
        )
    return [
        PrewrittenPassage(
            f"{p.title}/{p.id}", p.title.replace("_", " "), p.text, texts=p.completions
        )
        for p in read_passages(path)
    ]


def chunks_of_passages(passages: Sequence[PrewrittenPassage]) -> list[Chunk]:
    """Return each passage as a document of one chunk."""
    documents = [
        Document(p.name, hashlib.sha256(p.text.encode()).hexdigest(), p.title, p.text, ())
        for p in passages
    ]
    return [Chunk(d, (), 0, len(d.text), count_words(d.text)) for d in documents]


@final
class PrewrittenGenerator:
    """A generator that answers a request with what a file has about its passage."""

    is_file = True
    writes_json = True

    def __init__(self, passages: Sequence[PrewrittenPassage], *, name: str):
        self._of = {_flat(passage.text): passage for passage in passages}
        self.name = name

    @classmethod
    def of(cls, path: Path) -> "PrewrittenGenerator":
        """Return a generator of the texts in a folder or file.

        Raises:
            DataError: as `read_written`, or passages alone.
        """
        passages = read_prewritten(path)
        if not any(passage.pairs or passage.texts for passage in passages):
            raise DataError(f"{path}: has passages, but nothing that was written of them")
        hashed = path / _PAPERS if path.is_dir() else path
        return cls(passages, name=f"file:{path.name}@{file_sha256(hashed)[:16]}")

    def complete(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Yield a reply to each request; it is a failure if the file has nothing for it."""
        for request in requests:
            wanted = _flat(request.passage)
            match = self._of.get(wanted) or next(
                (passage for text, passage in self._of.items() if wanted in text), None
            )
            items = _items(match, FormatKind(request.kind)) if match else []
            if items:
                yield Reply(request, json.dumps(items, ensure_ascii=False), Finish.STOP)
            else:
                what = f"no {request.kind} of it" if match else "no such passage"
                yield Reply(request, "", Finish.FAILED, reason=f"{self.name} has {what}")


def _items(passage: PrewrittenPassage, kind: FormatKind) -> list[dict[str, str]]:
    if kind is FormatKind.QA:
        items = [{"question": e.question, "answer": e.answer} for e in passage.pairs]
        for text in passage.texts:
            # The prompt they were written from ended with the first question's label.
            started = text if text.startswith("Question") else f"Question 1: {text}"
            reading = parse_labelled_lines(started, kind)
            items += [{"question": i.question, "answer": i.answer} for i in reading.items]
            items += [{"unread": fault} for _, fault in reading.rejected]
        return items
    texts = passage.texts
    if kind in (FormatKind.SUMMARY, FormatKind.REWRITE):
        texts = tuple(part for text in texts for part in split_numbered(text))
    return [{KEYS[kind][0]: text} for text in texts] if kind in KEYS else []


def _flat(text: str) -> str:
    return " ".join(text.split())
