"""Excerpts: the documents a bank stores, in chunks that can be searched, read and cited.

A chunk is scored by its words and by its meaning, as a module is (retrieval/index.py). The index is
derived from the bank and kept beside it: forgetting clears it, and a change of the bank rebuilds it
without computing an embedding twice.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from lorabank.bank.route.text_index import ModuleTexts
from lorabank.bank.route.word_coverage import count_document_frequencies, measure_coverage
from lorabank.bank.stored_text import load_documents
from lorabank.bank.write.document_drafts import token_counter
from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.retrieval import chunks
from lorabank.retrieval.chunks import Chunk
from lorabank.retrieval.documents import Document
from lorabank.retrieval.index import SearchHit, TextIndex
from lorabank.retrieval.indexed_texts import split_into_passages
from lorabank.strict_json import parse_json

SIZE_TOKENS = 256
OVERLAP_TOKENS = 32
N_EXCERPTS = 3
"""Passages that are read together as one context."""
LEAST_SIMILARITY = 0.2
"""Cosine below which a chunk that shares no term with the question does not count as found."""
_NAME, _VECTORS = "excerpts", "excerpt-vectors"


@dataclass(frozen=True, slots=True)
class Citation:
    """A place in a document where an answer can be looked up."""

    document: str
    heading: str
    """Heading above the passage; empty for a whole document."""
    start: int
    """First character, counted in the document's text."""
    end: int
    """Character after the last one."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A chunk that fits a question."""

    module: str
    """Module that stores the document; the first by name if several do."""
    chunk: Chunk
    score: float
    """Score of the index; comparable within one question."""
    coverage: float
    """Share of the question's words in the chunk, weighted by rarity."""
    content_coverage: float
    """Share of the question's content words in the chunk, each counting one."""

    @property
    def text(self) -> str:
        """Return the chunk as a model reads it: after its heading, unless it contains that."""
        chunk = self.chunk
        head = "" if not chunk.heading or chunk.heading in chunk.text else f"{chunk.heading}\n"
        return head + chunk.text

    @property
    def citation(self) -> Citation:
        chunk = self.chunk
        return Citation(chunk.document.name, chunk.heading, chunk.start, chunk.end)


@dataclass(slots=True)
class _IndexedChunks:
    """The chunks of one generation of the bank."""

    modules: list[str] = field(default_factory=list)
    """Module of each chunk."""
    chunks: list[Chunk] = field(default_factory=list)
    frequencies: dict[str, int] = field(default_factory=dict)
    """Number of chunks that contain each stem."""
    index: TextIndex | None = None
    seconds: float = 0.0
    """Time to build the index."""


class Excerpts:
    """A search index over a bank's documents that follows the bank as it changes."""

    def __init__(self, texts: ModuleTexts, base: Base):
        """Prepare the index; nothing is read before the first search.

        Args:
            texts: text index of the bank's modules, which has the embedder.
            base: model whose tokens measure the chunks.
        """
        self.texts, self.count_tokens = texts, token_counter(base)
        self._state = ""
        self._chunks = _IndexedChunks()

    def __len__(self) -> int:
        """Return the number of chunks."""
        return len(self._current().chunks)

    @property
    def build_seconds(self) -> float:
        """Return the seconds it took to index the documents; known embeddings cost nothing."""
        return self._current().seconds

    @property
    def documents(self) -> list[Document]:
        """Return each document once, in order."""
        chunks = self._current().chunks
        return list({chunk.document.sha256: chunk.document for chunk in chunks}.values())

    def require_text(self, mode: str) -> None:
        """Refuse a mode that reads text if the bank stores none.

        Raises:
            UsageError: no module stores a document.
        """
        if not len(self):
            raise UsageError(
                f"--with {mode} needs text, and no module of this bank keeps any; write documents "
                "(`lorabank write NAME FILE.md …`), or ask --with adapter or none"
            )

    def search(self, questions: Sequence[str], *, k: int = N_EXCERPTS) -> list[list[Excerpt]]:
        """Return the `k` chunks that fit each question best; fewer, or none, where nothing fits."""
        indexed = self._current()
        if indexed.index is None:
            return [[] for _ in questions]
        embedder = self.texts.embedder() if indexed.index.vectors is not None else None
        vectors = embedder.embed(questions) if embedder else [None] * len(questions)
        excerpts = []
        for question, vector in zip(questions, vectors, strict=True):
            hits = indexed.index.search(question, vector, k=k)
            excerpts.append([self._excerpt(indexed, question, hit) for hit in hits if _fits(hit)])
        return excerpts

    def frequencies(self) -> tuple[dict[str, int], int]:
        """Return the number of chunks that have each stem, and the number of chunks."""
        indexed = self._current()
        return indexed.frequencies, len(indexed.chunks)

    def measure_coverage(self, question: str, text: str) -> tuple[float, float]:
        """Return coverage and content coverage of a question by a text (word_coverage.py).

        Words are weighted by their rarity among the chunks.
        """
        indexed = self._current()
        n = len(indexed.chunks)
        return measure_coverage(question, [text], frequencies=indexed.frequencies, n_modules=n)

    def _excerpt(self, indexed: _IndexedChunks, question: str, hit: SearchHit) -> Excerpt:
        i = int(hit.name)
        chunk = indexed.chunks[i]
        return Excerpt(
            indexed.modules[i], chunk, hit.score, *self.measure_coverage(question, chunk.text)
        )

    def _current(self) -> _IndexedChunks:
        state = self.texts.store.modules_state
        if state != self._state:
            documents = self._documents()
            self._chunks = self.texts.derive(
                _NAME,
                lambda: self._build(documents),
                encode=_encode,
                decode=lambda content: self._decode(content, documents),
            )
            self._state = state
        return self._chunks

    def _documents(self) -> dict[str, tuple[str, Document]]:
        """Return by hash the module that stores a document, and the document."""
        by_hash: dict[str, tuple[str, Document]] = {}
        for version in self.texts.store.current_versions():
            for document in load_documents(self.texts.store, version):
                by_hash.setdefault(document.sha256, (version.module, document))
        return by_hash

    def _decode(self, content: bytes, documents: dict[str, tuple[str, Document]]) -> _IndexedChunks:
        """Return what `_encode` encoded.

        Raises:
            ValueError: it was built without an embedder, and there is one. Errors of decoding.
        """
        head, _, body = content.partition(b"\n")
        own = parse_json(head)
        index = TextIndex.from_bytes(body) if body else None
        if index is not None and index.vectors is None and self.texts.embedder() is not None:
            raise ValueError("it was built without an embedding model")
        indexed = _IndexedChunks(
            frequencies=own["frequencies"], index=index, seconds=own["seconds"]
        )
        for sha256, headings, start, end, n_tokens in own["spans"]:
            module, document = documents[sha256]
            indexed.modules.append(module)
            indexed.chunks.append(Chunk(document, tuple(headings), start, end, n_tokens))
        if index and not all(int(name) < len(indexed.chunks) for name in index.names):
            raise ValueError("its index is of other chunks")
        return indexed

    def _build(self, documents: dict[str, tuple[str, Document]]) -> _IndexedChunks:
        indexed, started = _IndexedChunks(), time.perf_counter()
        for module, document in documents.values():
            document_chunks = chunks.chunk_document(
                document,
                size_tokens=SIZE_TOKENS,
                overlap_tokens=OVERLAP_TOKENS,
                count=self.count_tokens,
            )
            indexed.chunks += document_chunks
            indexed.modules += [module] * len(document_chunks)
        indexed.frequencies, _ = count_document_frequencies([c.text] for c in indexed.chunks)
        # The index takes each chunk for a module; leading zeros keep the names in order.
        keys = split_into_passages(
            (f"{i:09}", "text", chunk.text) for i, chunk in enumerate(indexed.chunks)
        )
        if keys.passages:
            vectors = self.texts.embed_sentences(keys.sentences, file=_VECTORS)
            indexed.index = TextIndex(keys, vectors=vectors)
        indexed.seconds = time.perf_counter() - started
        return indexed


def _fits(hit: SearchHit) -> bool:
    """Return whether a chunk shares a word with the question or is similar to it."""
    return (
        hit.score_parts.get("bm25", 0.0) > 0
        or hit.score_parts.get("dense", 0.0) >= LEAST_SIMILARITY
    )


def _encode(indexed: _IndexedChunks) -> bytes:
    spans = [(c.document.sha256, c.headings, c.start, c.end, c.n_tokens) for c in indexed.chunks]
    own = {"spans": spans, "frequencies": indexed.frequencies, "seconds": indexed.seconds}
    body = b"" if indexed.index is None else indexed.index.to_bytes()
    return json.dumps(own).encode() + b"\n" + body
