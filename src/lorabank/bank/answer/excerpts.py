"""Excerpts: the documents a bank keeps, in chunks that can be searched, read and cited.

A chunk counts by its words and by its meaning, as a module does (retrieval/index.py). The index is
derived from the bank and kept beside it: forgetting clears it, a change makes it anew, and an
embedding made once is not made again.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lorabank.bank.route.text_index import ModuleTexts
from lorabank.bank.route.word_coverage import count_document_frequencies, measure_coverage
from lorabank.bank.write.document_drafts import token_counter
from lorabank.bank.write.stored_text import load_documents
from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.retrieval import chunks
from lorabank.retrieval.chunks import Chunk
from lorabank.retrieval.documents import Document
from lorabank.retrieval.index import SearchHit, TextIndex
from lorabank.retrieval.indexed_texts import split_into_passages

SIZE_TOKENS = 256
OVERLAP_TOKENS = 32
N_EXCERPTS = 3
"""Read together as one context."""
LEAST_SIMILARITY = 0.2
"""Cosine below which a chunk that shares no term with the question does not count as found."""
_NAME, _VECTORS = "excerpts", "excerpts.npz"


@dataclass(frozen=True, slots=True)
class Citation:
    """Where to look an answer up."""

    document: str
    heading: str
    """Empty of a whole document."""
    start: int
    end: int
    """Characters of the document's text."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A chunk that fits a question."""

    module: str
    """Whose document it is from; the first by name if several keep it."""
    chunk: Chunk
    score: float
    """Comparable within one question."""
    coverage: float
    """Share of the question's words in the chunk, rare words counting more."""
    content_coverage: float
    """The same over words that carry meaning, each counting one."""

    @property
    def text(self) -> str:
        """As it is put to a model: with its heading, where it does not begin with it."""
        chunk = self.chunk
        head = "" if not chunk.heading or chunk.heading in chunk.text else f"{chunk.heading}\n"
        return head + chunk.text

    @property
    def citation(self) -> Citation:
        chunk = self.chunk
        return Citation(chunk.document.name, chunk.heading, chunk.start, chunk.end)


@dataclass(slots=True)
class _IndexedChunks:
    """All chunks of one generation of the bank."""

    modules: list[str] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    frequencies: dict[str, int] = field(default_factory=dict)
    index: TextIndex | None = None
    seconds: float = 0.0
    """It took to make."""


class Excerpts:
    """Searches a bank's documents; follows the bank as it changes."""

    def __init__(self, texts: ModuleTexts, base: Base):
        """Args: texts: of the bank's modules; base: whose tokens size the chunks."""
        self.texts, self.count_tokens = texts, token_counter(base)
        self._generation = -1
        self._held = _IndexedChunks()

    def __len__(self) -> int:
        """How many chunks there are."""
        return len(self._current().chunks)

    @property
    def build_seconds(self) -> float:
        """It took to cut, index and embed all of it; less where embeddings were known."""
        return self._current().seconds

    @property
    def documents(self) -> list[Document]:
        """Each once, in order."""
        held = self._current()
        return list({chunk.document.sha256: chunk.document for chunk in held.chunks}.values())

    def require_text(self, way: str) -> None:
        """Refuse to answer from text where there is none.

        Raises:
            UsageError: no module keeps a document.
        """
        if not len(self):
            raise UsageError(
                f"--with {way} needs text, and no module of this bank keeps any; write documents "
                "(`lorabank write NAME FILE.md …`), or ask --with adapter or none"
            )

    def search(self, questions: Sequence[str], *, k: int = N_EXCERPTS) -> list[list[Excerpt]]:
        """The `k` chunks that fit each question best; fewer, or none, where nothing does."""
        held = self._current()
        if held.index is None:
            return [[] for _ in questions]
        embedder = self.texts.embedder() if held.index.vectors is not None else None
        vectors = embedder.embed(questions) if embedder else [None] * len(questions)
        found = []
        for question, vector in zip(questions, vectors, strict=True):
            routed = held.index.search(question, vector, k=k)
            found.append([self._excerpt(held, question, one) for one in routed if _fits(one)])
        return found

    def measure_coverage(self, question: str, text: str) -> tuple[float, float]:
        """How much of a question is in a text (coverage.py), its words weighed by the chunks."""
        held = self._current()
        n = len(held.chunks)
        return measure_coverage(question, [text], frequencies=held.frequencies, n_modules=n)

    def _excerpt(self, held: _IndexedChunks, question: str, found: SearchHit) -> Excerpt:
        i = int(found.name)
        chunk = held.chunks[i]
        return Excerpt(
            held.modules[i], chunk, found.score, *self.measure_coverage(question, chunk.text)
        )

    def _current(self) -> _IndexedChunks:
        generation = self.texts.store.generation
        if generation != self._generation:
            documents = self._documents()
            self._held = self._load(documents) or self._build(documents)
            self._generation = generation
        return self._held

    def _documents(self) -> dict[str, tuple[str, Document]]:
        """By hash: the module that keeps it, and the document."""
        found: dict[str, tuple[str, Document]] = {}
        for version in self.texts.store.current_versions():
            for document in load_documents(self.texts.store, version):
                found.setdefault(document.sha256, (version.module, document))
        return found

    def _load(self, documents: dict[str, tuple[str, Document]]) -> _IndexedChunks | None:
        folder = self.texts.derived_folder(_NAME)
        try:
            own = json.loads((folder / "own.json").read_text("utf-8"))
            index = TextIndex.load(folder / "index") if own["spans"] else None
            held = _IndexedChunks(
                frequencies=own["frequencies"], index=index, seconds=own["seconds"]
            )
            for sha256, headings, start, end, n_tokens in own["spans"]:
                module, document = documents[sha256]
                held.modules.append(module)
                held.chunks.append(Chunk(document, tuple(headings), start, end, n_tokens))
        except (OSError, ValueError, KeyError):
            return None  # not there, or damaged: made again
        if index is not None and index.vectors is None and self.texts.embedder() is not None:
            return None  # made where there was no embedder
        return held

    def _build(self, documents: dict[str, tuple[str, Document]]) -> _IndexedChunks:
        held, started = _IndexedChunks(), time.perf_counter()
        for module, document in documents.values():
            some = chunks.chunk_document(
                document,
                size_tokens=SIZE_TOKENS,
                overlap_tokens=OVERLAP_TOKENS,
                count=self.count_tokens,
            )
            held.chunks += some
            held.modules += [module] * len(some)
        held.frequencies, _ = count_document_frequencies([c.text] for c in held.chunks)
        # Each chunk is to the index what a module is; the zeros keep their order.
        keys = split_into_passages(
            (f"{i:09}", "text", chunk.text) for i, chunk in enumerate(held.chunks)
        )
        if keys.passages:
            vectors = self.texts.embed_sentences(keys.sentences, kept=_VECTORS)
            held.index = TextIndex(keys, vectors=vectors)
        held.seconds = time.perf_counter() - started
        self.texts.write_derived_folder(_NAME, lambda folder: _save(held, folder))
        return held


def _fits(found: SearchHit) -> bool:
    return (
        found.score_parts.get("bm25", 0.0) > 0
        or found.score_parts.get("dense", 0.0) >= LEAST_SIMILARITY
    )


def _save(held: _IndexedChunks, folder: Path) -> None:
    spans = [(c.document.sha256, c.headings, c.start, c.end, c.n_tokens) for c in held.chunks]
    own = {"spans": spans, "frequencies": held.frequencies, "seconds": held.seconds}
    (folder / "own.json").write_text(json.dumps(own, ensure_ascii=False), "utf-8")
    if held.index is not None:
        held.index.save(folder / "index")
