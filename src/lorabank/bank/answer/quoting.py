"""Quotes of a bank's documents: the passages that fit a question, and the sentence that answers it.

A passage is read by the embedder once, and its parts share that reading; what was read lately is
kept in memory. Without an embedder parts are compared by words.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lorabank.bank.answer.excerpts import Citation, Excerpt, Excerpts
from lorabank.engine.backbone.caches import LruCache
from lorabank.retrieval.chunks import Chunk
from lorabank.retrieval.quotable import quotable_parts
from lorabank.retrieval.quotes import Part, parts_in_context, rank_quotes
from lorabank.retrieval.rerank import TokenVectors
from lorabank.retrieval.trigrams import fold
from lorabank.retrieval.wordings import Rarity, WordReader

N_PASSAGES = 6
"""Passages whose sentences are compared with a question."""
QUOTED = 0.5
"""Probability of holding the answer from which a sentence is quoted."""
_CACHE_BYTES = 64 << 20
_CACHED_DOCUMENTS = 256


@dataclass(frozen=True, slots=True)
class FoundQuote:
    """The sentence of a bank's documents that answers a question best."""

    module: str
    text: str
    citation: Citation
    p: float
    """Probability that it holds the answer."""
    features: dict[str, float]

    def says(self, text: str) -> bool:
        """Return whether the quote is likely and has these words, in this order."""
        return self.p >= QUOTED and f" {fold(text)} " in f" {fold(self.text)} "


class Quotations:
    """Finds quotes in the documents that a bank keeps, and follows the bank as it changes."""

    def __init__(self, excerpts: Excerpts, rarity: Rarity):
        """Prepare the search; nothing is read before the first question.

        Args:
            rarity: of words in the base model's language.
        """
        self.excerpts, self._rarity = excerpts, rarity
        self._reader: tuple[int, WordReader] | None = None
        self._tokens: LruCache[TokenVectors] = LruCache(
            _CACHE_BYTES, lambda tokens: tokens.vectors.nbytes
        )
        self._parts: LruCache[list[Part]] = LruCache(_CACHED_DOCUMENTS, lambda _: 1)

    def find(self, questions: Sequence[str]) -> list[FoundQuote | None]:
        """Return the best quote for each question, however unlikely; None where nothing fits."""
        passages = self.excerpts.search(questions, k=N_PASSAGES)
        embedder = self.excerpts.texts.embedder()
        tokens = embedder.embed_tokens(questions) if embedder else [None] * len(questions)
        return [
            self._best(question, excerpts, own)
            for question, excerpts, own in zip(questions, passages, tokens, strict=True)
        ]

    def _best(
        self, question: str, excerpts: Sequence[Excerpt], tokens: TokenVectors | None
    ) -> FoundQuote | None:
        placed = self._placed(excerpts, reads=tokens is not None)
        quotes = rank_quotes(question, [part for _, part in placed], self._words(), tokens)
        if not quotes:
            return None
        best = quotes[0]
        module = next(module for module, part in placed if part is best.part)
        own = best.part.quotable
        heading = " > ".join(words for words in own.headings if words != own.document.title)
        citation = Citation(own.document.name, heading, own.start, best.part.end)
        return FoundQuote(module, best.part.quoted, citation, best.p, best.named_features)

    def _placed(self, excerpts: Sequence[Excerpt], *, reads: bool) -> list[tuple[str, Part]]:
        """Return the parts that begin in the passages, each once, with the module that has them."""
        chunks = [excerpt.chunk for excerpt in excerpts]
        read = self._read(chunks) if reads else [None] * len(chunks)
        placed: dict[tuple[str, int], tuple[str, Part]] = {}
        for excerpt, tokens in zip(excerpts, read, strict=True):
            chunk = excerpt.chunk
            for part in self._parts_of(chunk):
                start = part.quotable.start
                if chunk.start <= start < chunk.end and part.quotable.end <= chunk.end:
                    inside = tokens and tokens.part(start - chunk.start, part.end - chunk.start)
                    key = chunk.document.sha256, start
                    placed.setdefault(key, (excerpt.module, replace(part, tokens=inside)))
        return list(placed.values())

    def _parts_of(self, chunk: Chunk) -> list[Part]:
        document = chunk.document
        (parts,) = self._parts.get(
            [document.sha256], lambda _: [parts_in_context(quotable_parts(document))]
        )
        return parts

    def _read(self, chunks: Sequence[Chunk]) -> list[TokenVectors | None]:
        embedder = self.excerpts.texts.embedder()
        if embedder is None:
            return [None] * len(chunks)
        keys = [(chunk.document.sha256, chunk.start, chunk.end) for chunk in chunks]
        return [
            *self._tokens.get(
                keys, lambda missing: embedder.embed_tokens([chunks[i].text for i in missing])
            )
        ]

    def _words(self) -> WordReader:
        """Return the reader of words by their rarity among the passages of the bank as it is."""
        generation = self.excerpts.texts.store.generation
        if self._reader is None or self._reader[0] != generation:
            frequencies, n = self.excerpts.frequencies()
            self._reader = generation, WordReader(frequencies, n, self._rarity)
        return self._reader[1]
