"""The documents a version was written from, stored with it as text.

They are one file of the version, `documents.jsonl`, with a line for each document: its name, the
hash of the original file, its title, text and sections. Like every file of a version it is known by
its hash and dropped with the version. It is absent where the bank was told to store no text.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from lorabank.errors import AdapterError
from lorabank.retrieval.documents import Document
from lorabank.retrieval.sections import Section
from lorabank.store.records import Version
from lorabank.store.store import Store
from lorabank.strict_json import parse_json

DOCUMENTS = "documents.jsonl"


def encode_documents(documents: Sequence[Document]) -> bytes:
    """Return the content of the file."""
    lines = (json.dumps(asdict(document), ensure_ascii=False) for document in documents)
    return "".join(f"{line}\n" for line in lines).encode()


def decode_documents(body: bytes) -> list[Document]:
    """Return the documents that `encode_documents` was given.

    Raises:
        ValueError, KeyError, TypeError: the file is something else.
    """
    documents = []
    for line in body.decode().split("\n")[:-1]:  # splitlines would also split at U+2028 in a text
        record = parse_json(line)
        sections = tuple(_section(section, record["text"]) for section in record.pop("sections"))
        document = Document(sections=sections, **record)
        for part in ("name", "sha256", "title", "text"):
            if not isinstance(getattr(document, part), str):
                raise TypeError(f"the {part} of a document must be text")
        documents.append(document)
    return documents


def _section(stored: dict[str, Any], text: str) -> Section:
    headings, start, end = tuple(stored["headings"]), stored["start"], stored["end"]
    if not all(isinstance(heading, str) for heading in headings):
        raise TypeError("the headings of a section must be texts")
    if type(start) is not int or type(end) is not int or not 0 <= start <= end <= len(text):
        raise ValueError(f"a section from {start!r:.20} to {end!r:.20} does not lie in its text")
    return Section(headings, start, end)


def load_documents(store: Store, version: Version) -> list[Document]:
    """Return the documents of a version; none if it was written from examples or without text.

    Raises:
        AdapterError: the file is missing, altered, or no file of documents.
    """
    if DOCUMENTS not in version.files:
        return []
    body = store.read(version, DOCUMENTS)
    try:
        return decode_documents(body)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise AdapterError(
            f"{DOCUMENTS} of module {version.module!r} version {version.number} does not hold "
            f"documents ({type(error).__name__}: {error}); write the module again, or forget it"
        ) from None
