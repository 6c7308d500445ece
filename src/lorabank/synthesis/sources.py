"""Pieces: passages and facts as the generator is shown them, each with a name to ask it by.

A summary is taught as the answer to "Summarise part 2 of 5 of …", so every piece needs a label
that is its own: the title, and which part of how many. Where two documents have one title, the
document's name goes with it.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from lorabank.errors import UsageError
from lorabank.retrieval.chunks import Chunk
from lorabank.tasks.examples import Example


@dataclass(frozen=True, slots=True)
class SourceText:
    """One passage, or one fact."""

    document: str
    title: str
    label: str
    """How a prompt names the piece; no other piece has it."""
    document_label: str
    """How a question names the document; no other document has it."""
    section: str
    text: str
    start: int = 0
    end: int = 0
    """Where it stands in its document, in characters."""
    fact: Example | None = None
    """The question and the answer, where it is a fact."""


def sources_from_chunks(chunks: Sequence[Chunk]) -> list[SourceText]:
    """Pieces in the chunks' order.

    Raises:
        UsageError: there are none.
    """
    if not chunks:
        raise UsageError("there is no passage to make examples of; give documents with text")
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for chunk in chunks:
        owners[chunk.title].add(chunk.document.name)
    n_parts = Counter(chunk.document.name for chunk in chunks)
    seen: Counter[str] = Counter()
    pieces = []
    for chunk in chunks:
        name = chunk.document.name
        seen[name] += 1
        work = f"“{chunk.title}”" + (f" ({name})" if len(owners[chunk.title]) > 1 else "")
        part = f"part {seen[name]} of {n_parts[name]} of " if n_parts[name] > 1 else ""
        text = chunk.text.strip()
        pieces.append(
            SourceText(
                name, chunk.title, part + work, work, chunk.heading, text, chunk.start, chunk.end
            )
        )
    return pieces
