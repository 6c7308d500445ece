"""Source texts, from which examples are made: passages and facts with a unique label each.

A summary is taught as the answer to "Summarise part 2 of 5 of …", so every passage needs a label of
its own: the title and the number of the part. Where two documents have the same title, the
document's name is added.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabank.errors import UsageError
from lorabank.tasks.examples import Example

if TYPE_CHECKING:
    from lorabank.retrieval.chunks import Chunk


@dataclass(frozen=True, slots=True)
class SourceText:
    """A passage or a fact, from which examples are made."""

    document: str
    title: str
    label: str
    """Name of this text in prompts; unique."""
    document_label: str
    """Name of the document in questions; unique among documents."""
    section: str
    text: str
    start: int = 0
    end: int = 0
    """Offset of the first character after it in its document."""
    fact: Example | None = None
    """Question and answer of a fact; None for a passage."""


def sources_from_chunks(chunks: "Sequence[Chunk]") -> list[SourceText]:
    """Return a source text for each chunk, in their order.

    Raises:
        UsageError: there are no chunks.
    """
    if not chunks:
        raise UsageError("there is no passage to make examples of; give documents with text")
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for chunk in chunks:
        owners[chunk.title].add(chunk.document.name)
    n_parts = Counter(chunk.document.name for chunk in chunks)
    seen: Counter[str] = Counter()
    sources = []
    for chunk in chunks:
        name = chunk.document.name
        seen[name] += 1
        document_label = f"“{chunk.title}”" + (f" ({name})" if len(owners[chunk.title]) > 1 else "")
        part = f"part {seen[name]} of {n_parts[name]} of " if n_parts[name] > 1 else ""
        text = chunk.text.strip()
        sources.append(
            SourceText(
                name,
                chunk.title,
                part + document_label,
                document_label,
                chunk.heading,
                text,
                chunk.start,
                chunk.end,
            )
        )
    return sources
