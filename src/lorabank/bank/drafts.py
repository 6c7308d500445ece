"""Module drafts: what is to be written into one module, read and checked before any training.

A source is a file of examples, a set of examples from memory, or a document that examples were made
of. It is known by its name and by the hash of its content, so that the bank can tell which module
already holds it. A module is found by its questions and by the passages given with it.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabank.errors import DataError, UsageError
from lorabank.store.names import check_name
from lorabank.store.records import Key, Source
from lorabank.strict_json import parse_json
from lorabank.tasks.examples import (
    Example,
    ExampleLike,
    Message,
    examples_from,
    read_examples,
)
from lorabank.tasks.joined_facts import PromptKey, prompt_keys
from lorabank.tasks.table_files import content_hash

if TYPE_CHECKING:  # a fact is remembered in less time than a reader of PDF files is imported in
    from lorabank.retrieval.documents import Document

EXAMPLES = "examples.jsonl"
"""File of a version that holds the examples it was trained on."""

Facts = str | Path | Iterable[str | Path | ExampleLike]
"""Facts as `Bank.write` takes them: a file, several files, or examples in memory."""


@dataclass(frozen=True, slots=True)
class DraftSource:
    """A source with its examples."""

    source: Source
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class DraftPassage:
    """A passage of a document, with what is taught of it and what is only asked about it."""

    document: str
    heading: str
    words: str
    """First words of the passage."""
    examples: tuple[int, ...]
    """Indices of its examples in `ModuleDraft.examples`."""
    held_out: tuple[Example, ...] = ()
    """Questions that are never trained on."""


@dataclass(frozen=True, slots=True)
class ModuleDraft:
    """A module that is to be written."""

    name: str
    parts: tuple[DraftSource, ...]
    texts: tuple[str, ...] = ()
    """Passages the module can be found by; never trained on."""
    documents: "tuple[Document, ...]" = ()
    """Documents the examples were made of, to be stored with the module as text."""
    passages: tuple[DraftPassage, ...] = ()
    """Passages that are measured one by one; empty where examples were given as such."""

    @property
    def examples(self) -> list[Example]:
        return [example for part in self.parts for example in part.examples]

    @property
    def sources(self) -> list[Source]:
        return [part.source for part in self.parts]

    @property
    def keys(self) -> list[Key]:
        """Return the texts that the router searches."""
        questions = dict.fromkeys(text for e in self.examples for text in e.questions)
        return [
            *(Key("text", text) for text in self.texts),
            *(Key("question", question) for question in questions),
        ]

    def without(self, source_sha256: str) -> "ModuleDraft":
        """Return the draft without one of its sources.

        Of the texts only those that occur in a remaining document stay, because it is not recorded
        which source the others belong to.
        """
        parts = tuple(part for part in self.parts if part.source.sha256 != source_sha256)
        documents = tuple(d for d in self.documents if d.sha256 != source_sha256)
        texts = tuple(text for text in self.texts if any(text in d.text for d in documents))
        return ModuleDraft(self.name, parts, texts, documents)

    def as_jsonl(self) -> bytes:
        """Return a line for each example, with the hash of its source."""
        lines = [
            json.dumps({"source": part.source.sha256, **example.as_json()}, ensure_ascii=False)
            for part in self.parts
            for example in part.examples
        ]
        return "".join(f"{line}\n" for line in lines).encode()


def draft_from_facts(name: str, facts: Facts, *, texts: Sequence[str] = ()) -> ModuleDraft:
    """Return a draft of files, or of examples in memory.

    Args:
        facts: a `.csv` or `.jsonl` file or several; or `Example`s, (prompt, answer) pairs and dicts
            with the keys of a JSONL line.

    Raises:
        UsageError: no facts, files together with examples, or a name that is not allowed.
        DataError: a file that cannot be read, or an example that is empty, repeated, or
            contradicts another one; names the line or the item.
    """
    if isinstance(facts, Mapping):
        raise UsageError("facts must be a list of dicts, got one dict; put it into a list")
    items = [facts] if isinstance(facts, str | Path) else list(facts)
    files = [item for item in items if isinstance(item, str | Path)]
    examples = [item for item in items if not isinstance(item, str | Path)]
    if not examples:
        return draft_from_files(name, [Path(file) for file in files], texts=texts)
    if files:
        raise UsageError(
            f"write takes files or examples in memory, not both; got {len(files)} files, "
            f"{str(files[0])[:60]!r} among them, and {len(examples)} examples"
        )
    checked = examples_from(examples, name=name)
    return draft_from_examples(name, checked, source=f"{name} (in memory)", texts=texts)


def draft_from_files(name: str, files: Sequence[Path], *, texts: Sequence[str] = ()) -> ModuleDraft:
    """Return a draft of one or more files of examples.

    Raises:
        UsageError: no file, or a name that is not allowed.
        DataError: a file that cannot be read, the same content twice, or one question in two files.
    """
    if not files:
        raise UsageError(
            "there is nothing to write: give at least one .csv or .jsonl file, or examples"
        )
    parts = [DraftSource(*_read(path)) for path in files]
    draft = ModuleDraft(check_name(name), tuple(parts), tuple(texts))
    _refuse_duplicates(draft)
    return draft


def draft_from_examples(
    name: str, examples: Sequence[Example], *, source: str = "given", texts: Sequence[str] = ()
) -> ModuleDraft:
    """Return a draft of examples from one source; duplicates among them are not checked.

    Args:
        source: name of the source; its hash is that of the examples.

    Raises:
        UsageError: no examples, or a name that is not allowed.
    """
    if not examples:
        raise UsageError(f"there is nothing to write into {name}: give at least one example")
    body = json.dumps([example.as_json() for example in examples], ensure_ascii=False).encode()
    record = Source(source, hashlib.sha256(body).hexdigest(), len(examples))
    return ModuleDraft(check_name(name), (DraftSource(record, tuple(examples)),), tuple(texts))


def draft_from_jsonl(
    name: str,
    sources: Sequence[Source],
    body: bytes,
    *,
    texts: Sequence[str] = (),
    documents: "Sequence[Document]" = (),
) -> ModuleDraft:
    """Return the draft that a module was written from.

    Args:
        body: the module's examples, as `ModuleDraft.as_jsonl` returned them.

    Raises:
        ValueError, LookupError, TypeError, AttributeError, RecursionError: it is something else.
    """
    by_source: dict[str, list[Example]] = {source.sha256: [] for source in sources}
    for line in filter(None, body.decode().split("\n")):  # splitlines would also split at U+2028
        record: dict[str, Any] = parse_json(line)
        prompt = tuple(Message(turn["role"], turn["content"]) for turn in record["prompt"])
        wordings = [record.get(name, []) for name in ("also", "held_out")]
        texts_of_line = [*(text for m in prompt for text in (m.role, m.content)), record["answer"]]
        if not prompt or not all(isinstance(texts, list) for texts in wordings):
            raise TypeError("an example is a prompt of texts, an answer and lists of wordings")
        texts_of_line += [text for texts in wordings for text in texts]
        texts_of_line.append(record.get("made_by", ""))
        if not all(isinstance(text, str) for text in texts_of_line):
            raise TypeError("an example's prompt, answer and wordings are texts")
        "".join(texts_of_line).encode()  # raises at half a character
        by_source[record["source"]].append(
            Example(
                prompt,
                record["answer"],
                also=tuple(wordings[0]),
                held_out=tuple(wordings[1]),
                is_reversed=record.get("reversed") is True,
                made_by=record.get("made_by", ""),
            )
        )
    parts = tuple(DraftSource(source, tuple(by_source[source.sha256])) for source in sources)
    return ModuleDraft(name, parts, tuple(texts), tuple(documents))


def source_name(path: Path) -> str:
    """Return a file's name as text in Unicode's composed form; bytes that are no text become �."""
    name = path.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return unicodedata.normalize("NFC", name)


def _read(path: Path) -> tuple[Source, tuple[Example, ...]]:
    examples = read_examples(path)
    return Source(source_name(path), content_hash(path), len(examples)), tuple(examples)


def _refuse_duplicates(draft: ModuleDraft) -> None:
    """Refuse the same content in two files, and the same question in two files."""
    name_of: dict[str, str] = {}
    for source in draft.sources:
        if source.sha256 in name_of:
            raise DataError(
                f"{source.name} and {name_of[source.sha256]} hold the same bytes; give one of them"
            )
        name_of[source.sha256] = source.name
    file_of: dict[PromptKey, str] = {}
    for part in draft.parts:
        for example in part.examples:
            for key, question in zip(prompt_keys(example), example.questions, strict=True):
                other = file_of.setdefault(key, part.source.name)
                if other != part.source.name:
                    raise DataError(
                        f"{part.source.name} and {other} both ask {question[:60]!r}; "
                        "keep it in one of them"
                    )
