"""The documents a version was written from, kept with it as text.

One file of the version, `documents.jsonl`, a line for each document: its name, the hash of the file
it was, its title, text and sections. Like every file of a version it is known by its hash, goes
when the version goes, and is not there where the bank was told to keep no text.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict

from lorabank.retrieval.documents import Document
from lorabank.retrieval.sections import Section
from lorabank.store.records import Version
from lorabank.store.store import Store

DOCUMENTS = "documents.jsonl"


def encode_documents(documents: Sequence[Document]) -> bytes:
    """The content of the file."""
    lines = (json.dumps(asdict(document), ensure_ascii=False) for document in documents)
    return "".join(f"{line}\n" for line in lines).encode()


def decode_documents(body: bytes) -> list[Document]:
    """What `documents_bytes` was given.

    Raises:
        ValueError, KeyError, TypeError: a file that is something else.
    """
    found = []
    for line in body.decode().split("\n")[:-1]:  # a text may have other line ends in it
        record = json.loads(line)
        sections = tuple(
            Section(tuple(s["headings"]), s["start"], s["end"]) for s in record.pop("sections")
        )
        found.append(Document(sections=sections, **record))
    return found


def load_documents(store: Store, version: Version) -> list[Document]:
    """The documents of a version; none where it was written from examples, or without text.

    Raises:
        AdapterError: the file is missing or altered.
    """
    if DOCUMENTS not in version.files:
        return []
    return decode_documents(store.read(version, DOCUMENTS))
