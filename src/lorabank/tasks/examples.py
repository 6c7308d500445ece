"""Examples: what to learn and what to ask, as (prompt, answer) pairs read from CSV or JSONL.

A prompt is a list of messages that ends with the user's turn; the answer is the reply that is
taught and asked for. Everything that would make recall meaningless (an empty answer, the same
prompt twice, one prompt with two answers) is refused here, with line numbers, before any model
is loaded.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lorabank.errors import DataError
from lorabank.tasks.datasets import fields
from lorabank.tasks.synthetic import phonebook

ROLES = ("system", "user", "assistant")
_SHOWN = 3  # problems named in one message


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to know: asked with `prompt`, answered with `answer`."""

    prompt: tuple[Message, ...]
    answer: str

    @property
    def question(self) -> str:
        """The user's last turn, which is the whole prompt in the usual case."""
        return self.prompt[-1].content


def from_pair(prompt: str, answer: str) -> Example:
    return Example((Message("user", prompt),), answer)


ExampleLike = Example | tuple[str, str] | Mapping[str, object]
"""An example as callers may write it: (prompt, answer), or the fields of a JSONL line."""


def as_examples(items: Iterable[ExampleLike]) -> list[Example]:
    """Return examples from `Example`s, (prompt, answer) pairs and dicts, in order.

    Raises:
        DataError: an item of another form, or with an empty prompt or answer.
    """
    return [_as_example(f"example {number}", item) for number, item in enumerate(items, start=1)]


def _as_example(where: str, item: ExampleLike) -> Example:
    if isinstance(item, Example):
        return _checked(where, item)
    if isinstance(item, Mapping):
        return _checked(where, _from_record(where, item))
    if len(item) != 2 or not all(isinstance(part, str) for part in item):
        raise DataError(
            f"{where}: must be an Example, a (prompt, answer) pair of text or a dict; got {item!r}"
        )
    return _checked(where, from_pair(*item))


def from_phonebook(book: tuple[phonebook.Fact, ...]) -> list[Example]:
    return [from_pair(phonebook.question(fact), fact.number) for fact in book]


def read_examples(path: Path) -> list[Example]:
    """Examples from a `.csv` or `.jsonl` file, in file order.

    A CSV has the columns `prompt` and `answer`, or is one of the published phone-book slices
    (one column `text`). A JSONL line is `{"prompt": …, "answer": …}` or `{"messages": […]}`
    whose last message is the assistant's.

    Raises:
        DataError: not a file, not UTF-8, no columns, or lines that are empty, doubled or
            contradict each other; the message names the lines.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        numbered = list(_from_csv(path))
    elif suffix in (".jsonl", ".ndjson"):
        numbered = list(_from_jsonl(path))
    else:
        raise DataError(f"{path}: facts must be a .csv or .jsonl file, got {suffix or 'no suffix'}")
    if not numbered:
        raise DataError(f"{path}: no examples in it; give one row or line for each")
    _refuse_clashes(path, numbered)
    return [example for _, example in numbered]


def _from_csv(path: Path) -> Iterator[tuple[int, Example]]:
    reader = csv.DictReader(io.StringIO(fields.read_text(path), newline=""), strict=True)
    columns = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = columns
    if columns == ["text"]:
        yield from _from_slice(path, reader)
        return
    if missing := [name for name in ("prompt", "answer") if name not in columns]:
        raise DataError(
            f"{path}: needs the columns prompt,answer; {' and '.join(missing)} not among "
            f"{','.join(columns) or 'none'}; name them in line 1"
        )
    start = reader.line_num + 1
    for row in _rows(path, reader):
        if None in row:
            raise DataError(
                f"{path}, line {start}: more fields than columns; quote a field that holds a comma"
            )
        example = from_pair(row["prompt"] or "", row["answer"] or "")
        yield start, _checked(f"{path}, line {start}", example)
        start = reader.line_num + 1  # a quoted field may span lines


def _rows(path: Path, reader: "csv.DictReader[str]") -> Iterator[dict[str | None, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not a CSV row: {error}") from None


def _from_slice(path: Path, reader: "csv.DictReader[str]") -> Iterator[tuple[int, Example]]:
    for row in _rows(path, reader):
        line = reader.line_num
        fact = phonebook.read_line(row["text"])
        if fact is None:
            raise DataError(
                f"{path}, line {line}: a file with the one column text must be a phone-book slice "
                "(Question: What is the phone number of …? Answer: ddd-ddd-dddd); "
                "for other facts give the columns prompt,answer"
            )
        yield line, from_pair(phonebook.question(fact), fact.number)


def _from_jsonl(path: Path) -> Iterator[tuple[int, Example]]:
    for line, record in fields.read_lines(path):
        where = f"{path}, line {line}"
        yield line, _checked(where, _from_record(where, record))


def _from_record(where: str, record: Mapping[str, object]) -> Example:
    if "messages" in record:
        return _from_messages(where, record["messages"])
    prompt, answer = record.get("prompt"), record.get("answer")
    if not isinstance(prompt, str) or not isinstance(answer, str):
        raise DataError(
            f'{where}: needs "prompt" and "answer" as text, or "messages"; '
            f"got the keys {', '.join(record) or 'none'}"
        )
    return from_pair(prompt, answer)


def _from_messages(where: str, raw: object) -> Example:
    turns = raw if isinstance(raw, list) else []
    messages = [
        Message(turn["role"], turn["content"])
        for turn in turns
        if isinstance(turn, dict)
        and turn.get("role") in ROLES
        and isinstance(turn.get("content"), str)
    ]
    roles = [message.role for message in messages]
    if len(messages) != len(turns) or len(roles) < 2 or roles[-2:] != ["user", "assistant"]:
        raise DataError(
            f"{where}: messages must be objects with role ({'|'.join(ROLES)}) and "
            "content, the last two from user and assistant"
        )
    return Example(tuple(messages[:-1]), messages[-1].content)


def _checked(where: str, example: Example) -> Example:
    for what, text in (("prompt", example.question), ("answer", example.answer)):
        if not text.strip():
            raise DataError(f"{where}: the {what} is empty; fill it in or leave it out")
    return example


def _refuse_clashes(path: Path, numbered: list[tuple[int, Example]]) -> None:
    first: dict[tuple[Message, ...], tuple[int, str]] = {}
    clashes = []
    for line, example in numbered:
        seen_line, seen_answer = first.setdefault(example.prompt, (line, example.answer))
        if seen_line != line:
            same = seen_answer == example.answer
            clashes.append(f"{'repeats' if same else 'contradicts'} line {seen_line} (line {line})")
    if clashes:
        more = f" and {len(clashes) - _SHOWN} more" if len(clashes) > _SHOWN else ""
        raise DataError(
            f"{path}: each prompt may stand once; {'; '.join(clashes[:_SHOWN])}{more}; "
            "keep one line of each"
        )
