"""Long documents for studies: their text, what an adapter is taught of it, what is asked.

    chronicle   drawn. Taught: its single facts as questions. Asked: the same facts in other words,
                chains of them, and the order of events; all of it follows from the text
    books       public-domain books, as far as `length` goes. Taught: the text itself, in passages,
                as there are no questions to it; asked: the next sentence of the book's summary
                after the one before, which only likelihood can score
    the others  published tasks (published.py), those of their documents that are short enough.
                Taught: the text itself; asked: their questions, the first answer counting

Questions to chronicles come with their evidence, so that chunks are taught their own facts.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise

from lorabank.errors import UsageError
from lorabank.retrieval.chunks import Chunk, chunk_document
from lorabank.retrieval.documents import Document, document_from_text
from lorabank.retrieval.sentences import sentence_spans
from lorabank.study.data_folder import data_folder
from lorabank.study.documents.axes import DocumentsAxes
from lorabank.study.documents.published import read_published
from lorabank.tasks import fields
from lorabank.tasks.datasets import gutenberg
from lorabank.tasks.datasets.long_documents import LongDocument
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.synthetic import chronicle, chronicle_questions
from lorabank.tasks.synthetic.chronicle_questions import MULTI, SINGLE, TEMPORAL

CountTokens = Callable[[str], int]
_PASSAGE_TOKENS = 128  # of a text that is taught word for word
_ASKED_SEED = 1000  # added to the seed of questions that are asked rather than taught


@dataclass(frozen=True, slots=True)
class DocumentQuestion:
    """A question about a long document, with its answer."""

    example: Example
    kind: str
    evidence: tuple[str, ...] = ()
    """Sentences of the text that the answer follows from; empty where they are not known."""

    def evidence_in(self, text: str) -> int:
        """Return how many of the evidence sentences a text has."""
        flat = " ".join(text.split())
        return sum(" ".join(sentence.split()) in flat for sentence in self.evidence)

    def has_all_evidence(self, text: str) -> bool:
        """Return whether a text has all evidence sentences."""
        return self.evidence_in(text) == len(self.evidence)


@dataclass(frozen=True, slots=True)
class StudyDocument:
    """A long document, what is taught of it and what is asked about it."""

    document: Document
    teaches: tuple[DocumentQuestion, ...]
    """Empty where the text itself is taught."""
    asks: tuple[DocumentQuestion, ...]


def read_documents(axes: DocumentsAxes, count: CountTokens) -> list[StudyDocument]:
    """Return the documents of a cell, drawn or read from files.

    Raises:
        UsageError: the cell has more documents than there are, or there is no data folder.
        DataError: files that are missing or damaged.
    """
    return _READERS.get(axes.task, _read_published)(axes, count)


def chunks_of(document: StudyDocument, axes: DocumentsAxes, count: CountTokens) -> list[Chunk]:
    """Return chunks of exactly so many tokens, each beginning with the end of the one before."""
    overlap = round(axes.chunk_tokens * axes.overlap)
    return chunk_document(
        document.document, size_tokens=axes.chunk_tokens, overlap_tokens=overlap, count=count
    )


def examples_of(
    document: StudyDocument, chunks: Sequence[Chunk], count: CountTokens
) -> list[Example]:
    """Return what is taught of some chunks of a document, each example once."""
    if document.teaches:
        return [
            question.example
            for question in document.teaches
            if any(question.has_all_evidence(chunk.text) for chunk in chunks)
        ]
    examples = (e for chunk in chunks for e in _word_for_word(document.document, chunk, count))
    return list({example.question: example for example in examples}.values())


def _word_for_word(document: Document, chunk: Chunk, count: CountTokens) -> list[Example]:
    """Return the text of a chunk in passages: one long answer would be learnt in few steps."""
    passages = chunk_document(
        document_from_text(document.name, chunk.text),
        size_tokens=_PASSAGE_TOKENS,
        overlap_tokens=0,
        count=count,
    )
    return [
        from_pair(
            f"What does “{document.title}” say from “{passage.text[:40].strip()}” on, "
            "word for word?",
            passage.text,
        )
        for passage in passages
    ]


def _draw_chronicles(axes: DocumentsAxes, count: CountTokens) -> list[StudyDocument]:
    length = max(axes.length, chronicle.MIN_LENGTH)

    def scaled(text: str) -> int:  # tests have a base that the shortest chronicle would not fit
        return count(text) * length // axes.length

    documents = []
    for number in range(axes.documents):
        seed = axes.seed * 100 + number
        story = chronicle.build(length, seed=seed, count=scaled)
        document = document_from_text(f"chronicle-{seed}", chronicle.render_text(story))
        taught = chronicle_questions.draw_questions(story, SINGLE, seed=seed)
        taught_texts = {question.text for question in taught}
        asks: list[DocumentQuestion] = []
        for kind in (SINGLE, MULTI, TEMPORAL):
            drawn = chronicle_questions.draw_questions(story, kind, seed=seed + _ASKED_SEED)
            others = [question for question in drawn if question.text not in taught_texts]
            asks += map(_from_chronicle, others[: axes.questions])
        teaches = tuple(map(_from_chronicle, taught))
        documents.append(StudyDocument(document, teaches, tuple(asks)))
    return documents


def _from_chronicle(question: chronicle_questions.ChronicleQuestion) -> DocumentQuestion:
    (example,) = chronicle_questions.to_examples([question])
    return DocumentQuestion(example, question.kind, question.evidence)


def _read_books(axes: DocumentsAxes, count: CountTokens) -> list[StudyDocument]:
    path = data_folder("long") / "gutenberg.jsonl"
    rows = [(f"{path}, line {line}", raw) for line, raw in fields.read_lines(path)]
    if len(rows) < axes.documents:
        raise UsageError(
            f"{path} has {len(rows)} books, got documents={axes.documents}; ask for fewer"
        )
    return [_read_book(place, raw, axes, count) for place, raw in rows[: axes.documents]]


def _read_book(place: str, raw: object, axes: DocumentsAxes, count: CountTokens) -> StudyDocument:
    whole = gutenberg.clean(fields.text(place, raw, "normalized_text"))
    text = _first_sentences(whole, axes.length, count)
    title = re.sub(r"\s+", " ", text[:60]).strip()
    summary = fields.text(place, raw, "summary").strip()
    sentences = [" ".join(summary[a:b].split()) for a, b in sentence_spans(summary)]
    asks = [
        DocumentQuestion(from_pair(f"In “{title}”: {before} What is said next?", after), "summary")
        for before, after in pairwise(sentences)
    ]
    name = fields.text(place, raw, "doc_id")[:12]
    return StudyDocument(document_from_text(name, text), (), tuple(asks[: axes.questions]))


def _first_sentences(text: str, max_tokens: int, count: CountTokens) -> str:
    """Return the beginning of a text: as many whole sentences as fit, at least one."""
    spans: Sequence[tuple[int, int]] = sentence_spans(text)
    low, high = 1, len(spans)
    while low < high:
        middle = (low + high + 1) // 2
        fits = count(text[: spans[middle - 1][1]]) <= max_tokens
        low, high = (middle, high) if fits else (low, middle - 1)
    return text[: spans[low - 1][1]]


def _read_published(axes: DocumentsAxes, count: CountTokens) -> list[StudyDocument]:
    """Return whole documents, as a question may be about any part of one."""
    published = read_published(axes.task)
    short = (document for document in published if count(document.text) <= axes.length)
    documents = [_from_published(d, axes.questions) for d in islice(short, axes.documents)]
    if len(documents) < axes.documents:
        raise UsageError(
            f"{axes.task} has {len(published)} documents, {len(documents)} of them of at most "
            f"{axes.length:,} tokens; got documents={axes.documents}: ask for fewer, or set a "
            "larger length"
        )
    return documents


def _from_published(document: LongDocument, n_questions: int) -> StudyDocument:
    """Return a document with its first questions of each kind that have an answer."""
    asks: dict[str, list[DocumentQuestion]] = {}
    for question in document.questions:
        if question.answers:
            kind = question.kind or "question"
            example = from_pair(question.prompt, question.answers[0])
            asks.setdefault(kind, []).append(DocumentQuestion(example, kind))
    first = [question for questions in asks.values() for question in questions[:n_questions]]
    text = replace(document_from_text(document.name, document.text), title=document.title)
    return StudyDocument(text, (), tuple(first))


_READERS: Mapping[str, Callable[[DocumentsAxes, CountTokens], list[StudyDocument]]] = {
    "chronicle": _draw_chronicles,
    "books": _read_books,
}
