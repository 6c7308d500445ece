"""Documents and generators, by the paths and names that a user gives."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorabank.errors import UsageError
from lorabank.retrieval.chunks import Chunk, TokenCounter, chunk_document
from lorabank.retrieval.documents import LIMIT_MB, Document, read_documents
from lorabank.retrieval.words import count_words
from lorabank.synthesis.endpoint import WORKERS, Endpoint, RetryPolicy
from lorabank.synthesis.generators import RULES, Generator
from lorabank.synthesis.given_pairs import SUFFIXES, GivenPairs
from lorabank.synthesis.prewritten import (
    PrewrittenGenerator,
    chunks_of_passages,
    is_prewritten,
    read_prewritten,
)

if TYPE_CHECKING:
    from lorabank.engine.backbone.base import Base

DEFAULT_FORMATS = "qa:20,summary:2,original"
"""Formats that a generator makes of each passage unless others are named."""
RULE_FORMATS = "qa:20"
"""Formats made by rule, or taken from a file of questions, unless others are named."""
_MOST_WORKERS = 256


def usual_formats(generator: Generator | None) -> str:
    """Return the formats that are made where none are named.

    Args:
        generator: None for examples by rule.
    """
    is_plain = generator is None or isinstance(generator, GivenPairs)
    return RULE_FORMATS if is_plain else DEFAULT_FORMATS


def read_source_documents(
    paths: Sequence[Path], *, encoding: str | None = None, limit_mb: float = LIMIT_MB
) -> list[Document]:
    """Return documents of files and folders, or the passages of written texts.

    Raises:
        DataError: a file cannot be read.
    """
    if len(paths) == 1 and is_prewritten(paths[0]):
        return [chunk.document for chunk in chunks_of_passages(read_prewritten(paths[0]))]
    return read_documents(paths, encoding=encoding, limit_mb=limit_mb)


def chunk_documents(
    documents: Sequence[Document], *, size_tokens: int, count: TokenCounter = count_words
) -> list[Chunk]:
    """Return the chunks of all documents, in order.

    A document without sections is a prewritten passage and stays whole, as its texts are about all
    of it.

    Raises:
        UsageError: the size is too small for a single character.
    """
    return [
        chunk
        for document in documents
        for chunk in (
            chunk_document(document, size_tokens=size_tokens, count=count)
            if document.sections
            else [Chunk(document, (), 0, len(document.text), count(document.text))]
        )
    ]


def generator_for(
    name: str, *, workers: int | None, local: "Callable[[], Base]", timeout_s: float | None = None
) -> Generator:
    """Return the generator of a name.

    Args:
        name: `local`, `openai:MODEL` or `file:PATH`; rules are no generator.
        workers: requests in flight at once; None for the default of its kind.
        local: loads the base model, for the generator `local`.
        timeout_s: seconds to wait for an endpoint; None for the default.

    Raises:
        UsageError: the name is unknown, the endpoint has no key, or a limit is out of range.
        DataError: the file has another form.
    """
    kind, rest = check_generator(name, workers=workers, timeout_s=timeout_s)
    if kind == RULES:
        raise UsageError("rules need no generator; name local, openai:MODEL or file:PATH")
    if kind == "openai":
        policy = _retry_policy(timeout_s)
        return Endpoint(rest, workers=workers or WORKERS, retry_policy=policy)
    if kind == "file":
        path = Path(rest)
        if path.suffix.lower() in SUFFIXES and not is_prewritten(path):
            return GivenPairs.of(path)
        return PrewrittenGenerator.of(path)
    from lorabank.synthesis.local import ROWS, LocalGenerator  # torch: seconds that others save

    return LocalGenerator(local(), rows=workers or ROWS)


def check_generator(
    name: str, *, workers: int | None, timeout_s: float | None = None
) -> tuple[str, str]:
    """Return a generator's kind and the rest of its name, without loading a model.

    Raises:
        UsageError: the name is unknown, the endpoint has no key, or a limit is out of range.
    """
    _retry_policy(timeout_s)
    if workers is not None and not 1 <= workers <= _MOST_WORKERS:
        raise UsageError(f"--workers must be 1..{_MOST_WORKERS}, got {workers}")
    kind, _, rest = name.partition(":")
    if kind == "openai":
        Endpoint(rest)
    elif name not in (RULES, "local") and not (kind == "file" and rest):
        raise UsageError(
            f"--generator must be rules, local, openai:MODEL or file:PATH, got {name!r}"
        )
    return kind, rest


def _retry_policy(timeout_s: float | None) -> RetryPolicy:
    return RetryPolicy() if timeout_s is None else RetryPolicy(timeout_s=timeout_s)
