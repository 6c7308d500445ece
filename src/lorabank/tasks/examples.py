"""Examples: the facts to learn and to ask for, as pairs of a prompt and its answer.

Every fact enters the package here: `read_examples` reads a file (CSV, JSONL, JSON, Parquet) or a
folder that `datasets` saved, `examples_from` takes facts that are in memory. A prompt is a list of
messages that ends with the user's turn, and the answer is the reply that the model is trained to
give. A fact may have several wordings: other ways to put the last turn (`also`), or rows of one
`id`. Empty texts, repeated prompts and prompts with two answers would make recall meaningless,
however they are spelt, so they are refused before any model is loaded; the message names the line
or the item.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lorabank.errors import DataError
from lorabank.strict_json import has_half_characters
from lorabank.tasks import fields
from lorabank.tasks.csv_rows import read_csv
from lorabank.tasks.example import Example as Example
from lorabank.tasks.example import Message as Message
from lorabank.tasks.joined_facts import FactRow, join_rows
from lorabank.tasks.record_layouts import LAYOUTS, own_record
from lorabank.tasks.table_files import PARQUET, is_dataset_folder, read_rows

SUFFIXES = (".csv", ".jsonl", ".ndjson", ".json", PARQUET)
ROLES = ("system", "user", "assistant")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # all but tab and line ends
_PHONEBOOK_ROW = re.compile(
    r"Question: (What is the phone number of .+\?) Answer: (\d{3}-\d{3}-\d{4})"
)


ExampleLike = Example | tuple[str, str] | Mapping[str, Any]
"""A fact as callers may write it: an example, a (prompt, answer) pair, or a JSONL line's fields."""


def from_pair(prompt: str, answer: str) -> Example:
    """Return the example whose prompt is one user's turn."""
    return Example((Message("user", prompt),), answer)


def as_examples(facts: Iterable[ExampleLike]) -> list[Example]:
    """Return examples from examples, pairs and dicts, in the order given.

    Facts may repeat and the list may be empty, as when a model is only asked: `examples_from` has
    the checks for facts to learn, and joins those of one `id`.

    Raises:
        DataError: an item has another form, or an empty prompt or answer.
    """
    rows = (_parse_fact(f"example {n}", n, fact) for n, fact in enumerate(facts, start=1))
    return [row.example for row in rows]


def examples_from(facts: Iterable[ExampleLike], *, name: str) -> list[Example]:
    """Return the examples to learn from facts in memory, checked like those of a file.

    Args:
        facts: examples, (prompt, answer) pairs, or dicts with the keys of a JSONL line: `prompt`
            and `answer`, or `messages`; with `also`, a list of other wordings, and `id`.
        name: what error messages call the facts, such as the name of their module.

    Raises:
        DataError: there are no facts, or items have another form, are empty, repeated, or
            contradict each other; the message names the items, which count from 1.
    """
    if isinstance(facts, str | bytes | Mapping):
        raise DataError(
            f"{name}: facts must be a list of (prompt, answer) pairs, dicts or examples, "
            f"got one {type(facts).__name__}; put it into a list, or read a file with read_examples"
        )
    rows = [
        _parse_fact(f"{name}, example {number}", number, fact)
        for number, fact in enumerate(facts, start=1)
    ]
    if not rows:
        raise DataError(f"{name}: there are no facts; give at least one")
    return [example for _, example in join_rows(name, "example", rows)]


def read_examples(path: Path) -> list[Example]:
    """Read the examples of a file, or of a folder that `datasets` saved, in its order.

    A CSV file has the columns `prompt` and `answer`, or it is one of the published phone-book
    slices (one column, `text`). A JSONL line is `{"prompt": …, "answer": …}` or
    `{"messages": […]}`, whose last message is the assistant's, or has one of the other layouts of
    `record_layouts.py`; a `.json` file is a list of the same. Rows with the same `id` are
    wordings of one fact, and so are the texts of a line's `also`; those of `held_out` are never
    trained on.

    Raises:
        DataError: the file is missing, is not UTF-8, lacks its columns, or has lines that are
            empty, repeated, or contradict each other; the message names the lines.
    """
    return [example for _, example in read_numbered_examples(path)]


def read_numbered_examples(path: Path) -> list[tuple[int, Example]]:
    """Return the line on which each example of a file begins, and the example.

    Raises:
        DataError: as `read_examples`.
    """
    suffix, unit = path.suffix.lower(), "line"
    if suffix == ".csv":
        rows = list(_read_csv(path))
    elif suffix in (".jsonl", ".ndjson"):
        rows = list(_rows_of(path, unit, fields.read_lines(path)))
    elif suffix == ".json":
        unit = "item"
        rows = list(_rows_of(path, unit, _read_items(path)))
    elif holds_facts(path):
        unit = "row"
        rows = list(_rows_of(path, unit, read_rows(path)))
    else:
        raise DataError(
            f"{path}: facts must be a {', '.join(SUFFIXES)} file or a folder that datasets saved, "
            f"got {suffix or 'no suffix'}"
        )
    if not rows:
        raise DataError(f"{path}: no examples in it; write one row or line for each")
    rows = [
        replace(row, example=_check_example(f"{path}, {unit} {row.number}", row.example))
        for row in rows
    ]
    return join_rows(str(path), unit, rows)


def holds_facts(path: Path) -> bool:
    """Return whether a path is a file of facts by its suffix, or a folder that `datasets` saved."""
    return path.suffix.lower() in SUFFIXES or is_dataset_folder(path)


def _read_csv(path: Path) -> Iterator[FactRow]:
    table = read_csv(path, single=("prompt", "answer", "text", "id"))
    if table.columns == ("text",):
        yield from _read_phonebook_slice(path, table.rows)
        return
    if missing := [column for column in ("prompt", "answer") if column not in table.columns]:
        raise DataError(
            f"{path}: needs the columns prompt,answer; {' and '.join(missing)} not among "
            f"{','.join(table.columns)[:100] or 'none'}; name them in line 1"
        )
    for line, row in table.rows:
        example = from_pair(row.get("prompt", ""), row.get("answer", ""))
        yield FactRow(line, example, row.get("id", "").strip() or None)


def _read_phonebook_slice(
    path: Path, rows: Iterator[tuple[int, dict[str, str]]]
) -> Iterator[FactRow]:
    for line, row in rows:
        match = _PHONEBOOK_ROW.fullmatch(row["text"].strip())
        if match is None:
            raise DataError(
                f"{path}, line {line}: a file with the one column text must be a phone-book slice "
                "(Question: What is the phone number of …? Answer: ddd-ddd-dddd); "
                "for other facts name the columns prompt,answer"
            )
        yield FactRow(line, from_pair(match[1], match[2]))


def _read_items(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    for number, (where, item) in enumerate(fields.read_records(path, "item"), start=1):
        if not isinstance(item, dict):
            raise DataError(f"{where}: must be an object with the keys of a fact, got {item!r:.40}")
        yield number, item


def _rows_of(
    path: Path, unit: str, records: Iterable[tuple[int, Mapping[str, object]]]
) -> Iterator[FactRow]:
    for number, record in records:
        where = f"{path}, {unit} {number}"
        yield FactRow(number, _parse_record(where, record), _parse_id(where, record))


def _parse_fact(where: str, number: int, fact: object) -> FactRow:
    """Return the row that an item from memory stands for."""
    id = _parse_id(where, fact) if isinstance(fact, Mapping) else None
    if isinstance(fact, Example) and fact.prompt and _has_texts(fact):
        example = fact
    elif isinstance(fact, Mapping):
        example = _parse_record(where, fact)
    elif isinstance(fact, tuple | list) and [isinstance(part, str) for part in fact] == [True] * 2:
        example = from_pair(*fact)
    else:
        raise DataError(
            f"{where}: must be an Example with at least one message, a (prompt, answer) pair of "
            f"text or a dict, got {str(fact)[:40]!r} of type {type(fact).__name__}"
        )
    return FactRow(number, _check_example(where, example), id)


def _has_texts(example: Example) -> bool:
    """Return whether an example made in Python holds what its types say."""
    wordings = (example.also, example.held_out)
    return (
        isinstance(example.answer, str)
        and all(
            isinstance(message, Message) and isinstance(message.content, str)
            for message in example.prompt
        )
        and all(
            isinstance(texts, tuple) and all(isinstance(text, str) for text in texts)
            for texts in wordings
        )
    )


def _parse_record(where: str, record: Mapping[str, object]) -> Example:
    example = _parse_prompt(where, own_record(where, record))
    also, held_out = (_parse_wordings(where, record, key) for key in ("also", "held_out"))
    return replace(example, also=also, held_out=held_out) if also or held_out else example


def _parse_id(where: str, record: Mapping[str, object]) -> str | None:
    """Return what the rows of one fact have in common, or None for a fact of one row."""
    value = record.get("id")
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise DataError(
            f"{where}: id must be text or a whole number, the same in all wordings of a fact, got "
            f"{_show(value)}; leave it out for a fact with one wording"
        )
    return str(value).strip()


def _parse_wordings(where: str, record: Mapping[str, object], key: str) -> tuple[str, ...]:
    texts = record.get(key, [])
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"{where}: {key} must be a list of texts, other wordings of the prompt, got "
            f'{_show(texts)}; write ["…", "…"]'
        )
    return tuple(texts)


def _parse_prompt(where: str, record: Mapping[str, object]) -> Example:
    if "messages" in record:
        return _parse_messages(where, record["messages"])
    if missing := [key for key in ("prompt", "answer") if key not in record]:
        raise DataError(
            f'{where}: needs "prompt" and "answer", or "messages"; {" and ".join(missing)} not '
            f"among the keys {', '.join(map(str, record))[:100] or 'none'}; known are {LAYOUTS}"
        )
    for key in ("prompt", "answer"):
        if not isinstance(record[key], str):
            raise DataError(
                f"{where}: {key} must be text, got {_show(record[key])}; put it in quotes"
            )
    return from_pair(str(record["prompt"]), str(record["answer"]))


def _parse_messages(where: str, value: object) -> Example:
    turns = value if isinstance(value, list | tuple) else []
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
            f"{where}: messages must be objects with role ({'|'.join(ROLES)}) and content, "
            "the last two from user and assistant"
        )
    return Example(tuple(messages[:-1]), messages[-1].content)


def _check_example(where: str, example: Example) -> Example:
    """Return an example with its texts composed, so that accents compare however they were typed.

    Raises:
        DataError: the last question or the answer is empty, or a text holds what no tokenizer or
            file takes: half of a character, or a control character that is no white space.
    """
    for field, text in (("prompt", example.question), ("answer", example.answer)):
        if not text.strip():
            raise DataError(f"{where}: the {field} is empty; write it or remove the fact")
    wordings = {"also": example.also, "held_out": example.held_out}
    for field, own in wordings.items():
        if not all(text.strip() for text in own):
            raise DataError(f"{where}: a text of {field} is empty; write it or remove it")
    texts = tuple(message.content for message in example.prompt)
    for field, own in {"prompt": texts, "answer": (example.answer,), **wordings}.items():
        for text in own:
            if faulty := _find_faulty_character(text):
                raise DataError(f"{where}: the {field} holds {faulty}; remove it")
    if all(map(_is_composed, (*texts, example.answer, *example.also, *example.held_out))):
        return example
    return Example(
        tuple(Message(message.role, _compose(message.content)) for message in example.prompt),
        _compose(example.answer),
        tuple(map(_compose, example.also)),
        tuple(map(_compose, example.held_out)),
        example.is_reversed,
    )


_compose = partial(unicodedata.normalize, "NFC")
_is_composed = partial(unicodedata.is_normalized, "NFC")


def _find_faulty_character(text: str) -> str | None:
    """Return the name of the first character that a text must not hold, or None."""
    if match := _CONTROL.search(text):
        return f"the control character U+{ord(match[0]):04X}"
    return "half of a character" if has_half_characters(text) else None


def _show(value: object) -> str:
    """Return a wrong value of JSON as it stands in its file, cut to a few words."""
    names = {True: "true", False: "false", None: "null"}
    is_name = value is None or isinstance(value, bool)
    return names[value] if is_name else repr(value)[:40]  # type: ignore[index]
