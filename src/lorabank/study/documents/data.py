"""Long documents for studies: their text, what an adapter is taught of it, what is asked.

    chronicle   drawn. Taught: its single facts as questions. Asked: the same facts in other words,
                chains of them, and the order of events; the text has all of it
    books       public-domain books (LORABANK_DATA), their first tokens. Taught: the text itself, in
                passages, as nobody wrote questions; asked: the next sentence of the book's summary
                after the one before, which only likelihood can score
    the others  published tasks (context_tasks.py), those of their documents that are no longer.
                Taught: the text itself; asked: their questions, the first answer counting

Every example says in which part of the text its evidence is, so that chunks are taught their own.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any

from lorabank.errors import UsageError
from lorabank.retrieval.chunks import Chunk, chunk_document
from lorabank.retrieval.documents import Document, document_from_text
from lorabank.retrieval.indexed_texts import sentence_spans
from lorabank.study.documents.published import read_published
from lorabank.study.modules.library import data_folder
from lorabank.tasks.datasets import fields, gutenberg
from lorabank.tasks.datasets.long_documents import LongDocument
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.synthetic import chronicle, chronicle_questions
from lorabank.tasks.synthetic.chronicle_questions import MULTI, SINGLE, TEMPORAL, ChronicleQuestion

Count = Callable[[str], int]
_PASSAGE_TOKENS = 128  # of a text that is taught word for word
_WORDINGS = 1000  # added to the seed of questions that are asked rather than taught


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its answer."""

    example: Example
    kind: str
    evidence: tuple[str, ...] = ()
    """Sentences of the text it follows from; empty where nobody knows which."""


@dataclass(frozen=True, slots=True)
class Long:
    """One long document."""

    document: Document
    teaches: tuple[Asked, ...]
    """Empty where the text itself is taught."""
    asks: tuple[Asked, ...]


def read_long(values: Mapping[str, Any], count: Count) -> list[Long]:
    """The documents of a cell, drawn or read.

    Raises:
        UsageError: more are asked for than there are, or no data folder. DataError: bad files.
    """
    return _READERS.get(str(values["task"]), _published)(values, count)


def chunks_of(long: Long, values: Mapping[str, Any], count: Count) -> list[Chunk]:
    """Token-exact chunks, each beginning with the end of the one before."""
    size = int(values["chunk_tokens"])
    overlap = round(size * float(values["overlap"]))
    return chunk_document(long.document, size_tokens=size, overlap_tokens=overlap, count=count)


def lessons_of(long: Long, parts: Sequence[Chunk], count: Count) -> list[Example]:
    """What is taught of some chunks of a document, each lesson once; of all, of the document."""
    if long.teaches:
        whole = [one for one in long.teaches if any(is_in(one, part.text) for part in parts)]
        return [one.example for one in whole]
    lessons = (one for part in parts for one in _word_for_word(long.document, part, count))
    return list({one.question: one for one in lessons}.values())


def _word_for_word(document: Document, part: Chunk, count: Count) -> list[Example]:
    """The text of a chunk, passage by passage: one long answer would be learnt in few steps."""
    passages = chunk_document(
        document_from_text(document.name, part.text),
        size_tokens=_PASSAGE_TOKENS,
        overlap_tokens=0,
        count=count,
    )
    return [
        from_pair(
            f"What does “{document.title}” say from “{one.text[:40].strip()}” on, word for word?",
            one.text,
        )
        for one in passages
    ]


def is_in(asked: Asked, text: str) -> bool:
    """Whether a text has all the evidence."""
    flat = " ".join(text.split())
    return all(" ".join(sentence.split()) in flat for sentence in asked.evidence)


def _chronicles(values: Mapping[str, Any], count: Count) -> list[Long]:
    length = max(int(values["length"]), chronicle.MIN_LENGTH)

    def scaled(text: str) -> int:  # for rehearsals on a base that the shortest would not fit
        return count(text) * length // int(values["length"])

    found = []
    for number in range(int(values["documents"])):
        seed = int(values["seed"]) * 100 + number
        told = chronicle.build(length, seed=seed, count=scaled)
        document = document_from_text(f"chronicle-{seed}", chronicle.render_text(told))
        taught = chronicle_questions.draw_questions(told, SINGLE, seed=seed)
        known = {one.text for one in taught}
        asks: list[Asked] = []
        for kind in (SINGLE, MULTI, TEMPORAL):
            drawn = chronicle_questions.draw_questions(told, kind, seed=seed + _WORDINGS)
            others = [one for one in drawn if one.text not in known]
            asks += map(_asked, others[: int(values["questions"])])
        found.append(Long(document, tuple(map(_asked, taught)), tuple(asks)))
    return found


def _asked(question: ChronicleQuestion) -> Asked:
    (example,) = chronicle_questions.to_examples([question])
    return Asked(example, question.kind, question.evidence)


def _books(values: Mapping[str, Any], count: Count) -> list[Long]:
    path = data_folder("long") / "gutenberg.jsonl"
    rows = [(f"{path}, line {line}", raw) for line, raw in fields.read_lines(path)]
    n = int(values["documents"])
    if len(rows) < n:
        raise UsageError(f"{path} has {len(rows)} books, documents={n}; ask for fewer")
    return [_book(where, raw, values, count) for where, raw in rows[:n]]


def _book(where: str, raw: object, values: Mapping[str, Any], count: Count) -> Long:
    text = _first(gutenberg.clean(fields.text(where, raw, "normalized_text")), values, count)
    title = re.sub(r"\s+", " ", text[:60]).strip()
    summary = fields.text(where, raw, "summary").strip()
    sentences = [" ".join(summary[a:b].split()) for a, b in sentence_spans(summary)]
    asks = [
        Asked(from_pair(f"In “{title}”: {before} What is said next?", after), "summary")
        for before, after in pairwise(sentences)
    ]
    name = fields.text(where, raw, "doc_id")[:12]
    return Long(document_from_text(name, text), (), tuple(asks[: int(values["questions"])]))


def _first(text: str, values: Mapping[str, Any], count: Count) -> str:
    """The beginning of a text, as many whole sentences as have no more tokens than `length`."""
    length = int(values["length"])
    spans: Sequence[tuple[int, int]] = sentence_spans(text)
    low, high = 1, len(spans)
    while low < high:
        middle = (low + high + 1) // 2
        fits = count(text[: spans[middle - 1][1]]) <= length
        low, high = (middle, high) if fits else (low, middle - 1)
    return text[: spans[low - 1][1]]


def _published(values: Mapping[str, Any], count: Count) -> list[Long]:
    """Whole documents: a question may be about any part of one."""
    task, n, most = str(values["task"]), int(values["documents"]), int(values["length"])
    every = read_published(task)
    short = (one for one in every if count(one.text) <= most)
    found = [_asked_of(one, int(values["questions"])) for one in islice(short, n)]
    if len(found) < n:
        raise UsageError(
            f"{task} has {len(every)} documents, {len(found)} of them of at most {most:,} tokens; "
            f"got documents={n}: ask for fewer, or set a larger length"
        )
    return found


def _asked_of(one: LongDocument, n_questions: int) -> Long:
    """Its first questions of each kind that have an answer."""
    asks: dict[str, list[Asked]] = {}
    for question in one.questions:
        if question.answers:
            kind = question.kind or "question"
            asked = Asked(from_pair(question.prompt, question.answers[0]), kind)
            asks.setdefault(kind, []).append(asked)
    few = [asked for some in asks.values() for asked in some[:n_questions]]
    return Long(replace(document_from_text(one.name, one.text), title=one.title), (), tuple(few))


_READERS = {"chronicle": _chronicles, "books": _books}
