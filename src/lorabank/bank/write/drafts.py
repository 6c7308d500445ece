"""Parcels: what is to be written into one module, read and checked before anything is trained.

A source is a file of examples or a document they were made of, known by its name and by the hash of
its bytes, so that the bank can say which module already holds it. The texts a module can be found
by are its questions and whatever passages are given with it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorabank.errors import DataError, UsageError
from lorabank.retrieval.documents import Document
from lorabank.store.names import check_name
from lorabank.store.records import Key, Source
from lorabank.tasks.examples import Example, Message, read_examples

EXAMPLES = "examples.jsonl"
"""File of a version that holds the examples it was trained on."""


@dataclass(frozen=True, slots=True)
class DraftSource:
    """The examples of one source."""

    source: Source
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class DraftPassage:
    """A part of a document, what is taught of it and what is only asked about it."""

    document: str
    heading: str
    words: str
    """Its first ones."""
    examples: tuple[int, ...]
    """Places of its examples among the parcel's."""
    held_out: tuple[Example, ...] = ()
    """Never trained on."""


@dataclass(frozen=True, slots=True)
class ModuleDraft:
    """One module to be."""

    name: str
    parts: tuple[DraftSource, ...]
    texts: tuple[str, ...] = ()
    """Passages the examples are about, to be found by; never trained on."""
    documents: tuple[Document, ...] = ()
    """What the examples were made of, to be kept with the module as text."""
    passages: tuple[DraftPassage, ...] = ()
    """What is measured apart; none where the examples were given as such."""

    @property
    def examples(self) -> list[Example]:
        return [example for part in self.parts for example in part.examples]

    @property
    def sources(self) -> list[Source]:
        return [part.source for part in self.parts]

    @property
    def keys(self) -> list[Key]:
        """What the router searches."""
        questions = dict.fromkeys(example.question for example in self.examples)
        return [
            *(Key("text", text) for text in self.texts),
            *(Key("question", question) for question in questions),
        ]

    def without(self, source_sha256: str) -> "ModuleDraft":
        """What is left when one source goes.

        Texts go with it but for those that stand in a document that stays: whose the others are is
        not known.
        """
        left = tuple(part for part in self.parts if part.source.sha256 != source_sha256)
        documents = tuple(one for one in self.documents if one.sha256 != source_sha256)
        texts = tuple(text for text in self.texts if any(text in one.text for one in documents))
        return ModuleDraft(self.name, left, texts, documents)

    def as_jsonl(self) -> bytes:
        """A line for each example, with the hash of its source."""
        lines = [
            json.dumps({"source": part.source.sha256, **asdict(example)}, ensure_ascii=False)
            for part in self.parts
            for example in part.examples
        ]
        return "".join(f"{line}\n" for line in lines).encode()


def draft_from_files(name: str, files: Sequence[Path], *, texts: Sequence[str] = ()) -> ModuleDraft:
    """A parcel of one or more files of examples.

    Raises:
        UsageError: no file, or a name that cannot be.
        DataError: a file that cannot be read, the same content twice, or one question in two files.
    """
    if not files:
        raise UsageError("there is nothing to write: name at least one .csv or .jsonl file")
    parts = [DraftSource(*_read(path)) for path in files]
    parcel = ModuleDraft(check_name(name), tuple(parts), tuple(texts))
    _refuse_duplicates(parcel)
    return parcel


def draft_from_examples(
    name: str, examples: Sequence[Example], *, source: str = "given", texts: Sequence[str] = ()
) -> ModuleDraft:
    """A parcel of examples in memory.

    Raises:
        UsageError: no examples, or a name that cannot be.
    """
    if not examples:
        raise UsageError(f"there is nothing to write into {name}: give at least one example")
    body = json.dumps([asdict(example) for example in examples], ensure_ascii=False).encode()
    record = Source(source, hashlib.sha256(body).hexdigest(), len(examples))
    return ModuleDraft(check_name(name), (DraftSource(record, tuple(examples)),), tuple(texts))


def draft_from_jsonl(
    name: str,
    sources: Sequence[Source],
    body: bytes,
    *,
    texts: Sequence[str] = (),
    documents: Sequence[Document] = (),
) -> ModuleDraft:
    """The parcel a module was written from, out of its own file."""
    by_source: dict[str, list[Example]] = {source.sha256: [] for source in sources}
    for line in body.decode().split("\n")[:-1]:  # JSON leaves other line ends in a text as they are
        record: dict[str, Any] = json.loads(line)
        prompt = tuple(Message(turn["role"], turn["content"]) for turn in record["prompt"])
        by_source[record["source"]].append(Example(prompt, record["answer"]))
    parts = tuple(DraftSource(source, tuple(by_source[source.sha256])) for source in sources)
    return ModuleDraft(name, parts, tuple(texts), tuple(documents))


def _read(path: Path) -> tuple[Source, tuple[Example, ...]]:
    examples = read_examples(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Source(path.name, digest, len(examples)), tuple(examples)


def _refuse_duplicates(parcel: ModuleDraft) -> None:
    first: dict[str, str] = {}
    for source in parcel.sources:
        if source.sha256 in first:
            raise DataError(
                f"{source.name} and {first[source.sha256]} hold the same bytes; give one of them"
            )
        first[source.sha256] = source.name
    asked: dict[tuple[Message, ...], str] = {}
    for part in parcel.parts:
        for example in part.examples:
            other = asked.setdefault(example.prompt, part.source.name)
            if other != part.source.name:
                raise DataError(
                    f"{part.source.name} and {other} both ask {example.question[:60]!r}; "
                    "keep it in one of them"
                )
