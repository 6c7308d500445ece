"""Looks up the chunks of a document that fit a question.

Chunks are looked for within the question's own document, as in arXiv:2603.01097, so that document
and chunk adapters are given equally much knowledge of where to look.
"""

import time
from collections.abc import Sequence

import numpy as np

from lorabank.engine.inference.embedder import Embedder, load_embedder
from lorabank.retrieval.index import TextIndex
from lorabank.retrieval.indexed_texts import split_into_passages
from lorabank.study.documents.axes import ORACLE
from lorabank.study.documents.library import DocumentLibrary


class ChunkSearch:
    """Ranks the chunks of a library's documents; indices are built once for each router."""

    def __init__(self, library: DocumentLibrary):
        self.library = library
        self.questions = [q for document in library.documents for q in document.asks]
        self.document_of = [d for d, doc in enumerate(library.documents) for _ in doc.asks]
        """Index of each question's document."""
        self._indices: dict[str, list[TextIndex]] = {}
        self._embedder: Embedder | None = None

    def rank(self, i: int, router: str, among: Sequence[int]) -> list[int]:
        """Return chunks of the document of question `i`, the one that fits best first.

        Args:
            among: the chunks that may be returned.
        """
        chunks = self.library.chunks[self.document_of[i]]
        if router == ORACLE:
            evidence = {c: self.questions[i].evidence_in(chunks[c].text) for c in among}
            return sorted(among, key=lambda c: (-evidence[c], c))
        question = self.questions[i].example.question
        vector: np.ndarray | None = None
        if router != "bm25":
            vector = self.embedder().embed([question])[0]
        index = self.indices(router)[self.document_of[i]]
        routes = index.search(question, vector, k=len(chunks), method=router)
        allowed = set(among)
        return [chunk for chunk in (int(route.name) for route in routes) if chunk in allowed]

    def is_right(self, i: int, chunk: int) -> bool | None:
        """Return whether a chunk has evidence of question `i`; None where none is known."""
        if not self.questions[i].evidence:
            return None
        text = self.library.chunks[self.document_of[i]][chunk].text
        return self.questions[i].evidence_in(text) > 0

    def indices(self, router: str) -> list[TextIndex]:
        """Return the index of each document's chunks."""
        if router not in self._indices:
            n_documents = len(self.library.documents)
            self._indices[router] = [self.build_index(d, router) for d in range(n_documents)]
        return self._indices[router]

    def build_index(self, document: int, router: str) -> TextIndex:
        """Return a new index of a document's chunks."""
        chunks = self.library.chunks[document]
        keys = split_into_passages(
            (f"{c:04}", "text", chunk.text) for c, chunk in enumerate(chunks)
        )
        if router == "bm25":
            return TextIndex(keys)
        parts = [(sentence.context, sentence.start, sentence.end) for sentence in keys.sentences]
        return TextIndex(keys, vectors=self.embedder().embed_parts(parts))

    def index_seconds(self, document: int, router: str) -> float:
        """Return how long indexing one document takes, its embeddings included."""
        started = time.perf_counter()
        self.build_index(document, router)
        return time.perf_counter() - started

    def embedder(self) -> Embedder:
        """Return the embedder.

        Raises:
            UnavailableError: it cannot be downloaded; router bm25 needs none.
        """
        self._embedder = self._embedder or load_embedder()
        return self._embedder
