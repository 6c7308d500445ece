"""The documents a version was written from, stored with it as text.

They are one file of the version, `documents.jsonl`, with a line for each document: its name, the
hash of the original file, its title, text and sections. Like every file of a version it is known by
its hash and dropped with the version. It is absent where the bank was told to store no text.
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
        record = json.loads(line)
        sections = tuple(
            Section(tuple(s["headings"]), s["start"], s["end"]) for s in record.pop("sections")
        )
        documents.append(Document(sections=sections, **record))
    return documents


def load_documents(store: Store, version: Version) -> list[Document]:
    """Return the documents of a version; none if it was written from examples or without text.

    Raises:
        AdapterError: the file is missing or altered.
    """
    if DOCUMENTS not in version.files:
        return []
    return decode_documents(store.read(version, DOCUMENTS))
