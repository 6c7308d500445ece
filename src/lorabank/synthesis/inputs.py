"""What a synthesis is given, by the names a user calls it by: documents, and who writes of them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.retrieval.chunks import Chunk, TokenCounter, chunk_document, count_words
from lorabank.retrieval.documents import LIMIT_MB, Document, read_documents
from lorabank.synthesis.endpoint import WORKERS, Endpoint
from lorabank.synthesis.generators import Generator
from lorabank.synthesis.local import ROWS, LocalGenerator
from lorabank.synthesis.prewritten import (
    PrewrittenGenerator,
    chunks_of_passages,
    is_prewritten,
    read_prewritten,
)

DEFAULT_FORMATS = "qa:20,summary:2,original"
"""Made of each passage unless something else is asked for."""
_MOST_WORKERS = 256


def read_source_documents(
    paths: Sequence[Path], *, encoding: str | None = None, limit_mb: float = LIMIT_MB
) -> list[Document]:
    """The documents in files and folders, or the passages of one file or folder of written texts.

    Raises:
        DataError: what cannot be read.
    """
    if len(paths) == 1 and is_prewritten(paths[0]):
        return [chunk.document for chunk in chunks_of_passages(read_prewritten(paths[0]))]
    return read_documents(paths, encoding=encoding, limit_mb=limit_mb)


def chunk_documents(
    documents: Sequence[Document], *, size_tokens: int, count: TokenCounter = count_words
) -> list[Chunk]:
    """The chunks of all documents, in order.

    One without sections is a written passage, and stays whole: so is what was written of it.

    Raises:
        UsageError: a size that nothing fits.
    """
    return [
        chunk
        for one in documents
        for chunk in (
            chunk_document(one, size_tokens=size_tokens, count=count)
            if one.sections
            else [Chunk(one, (), 0, len(one.text), count(one.text))]
        )
    ]


def generator_for(name: str, *, workers: int | None, local: Callable[[], Base]) -> Generator:
    """The generator of that name.

    Args:
        name: `local`, `openai:MODEL` or `file:PATH`.
        workers: requests at once; None for as many as are good for its kind.
        local: gives the base model, where it is the one to write.

    Raises:
        UsageError: another name, or no key for the endpoint. DataError: a file of another form.
    """
    kind, rest = check_generator(name, workers=workers)
    if kind == "openai":
        return Endpoint(rest, workers=workers or WORKERS)
    if kind == "file":
        return PrewrittenGenerator.of(Path(rest))
    return LocalGenerator(local(), rows=workers or ROWS)


def check_generator(name: str, *, workers: int | None) -> tuple[str, str]:
    """Kind and the rest of a generator's name, without any model being loaded.

    Raises:
        UsageError: another name, no key for the endpoint, or more workers than there may be.
    """
    if workers is not None and not 1 <= workers <= _MOST_WORKERS:
        raise UsageError(f"--workers must be 1..{_MOST_WORKERS}, got {workers}")
    kind, _, rest = name.partition(":")
    if kind == "openai":
        Endpoint(rest)
    elif name != "local" and not (kind == "file" and rest):
        raise UsageError(f"--generator must be local, openai:MODEL or file:PATH, got {name!r}")
    return kind, rest
