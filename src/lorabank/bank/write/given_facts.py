"""Facts as their user gives them to be remembered: a sentence, a pair, or a file of either.

A sentence becomes a question by rule, and is refused where no rule fits or several questions do: a
fact is not guessed. A file is CSV or JSONL as for `write`, whose rows may also have `key` (or
`subject` and `relation`) and `valid_at`, or plain text with a sentence on each line.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lorabank.errors import DataError
from lorabank.retrieval.sentences import sentence_spans
from lorabank.synthesis.rules.stated_facts import stated_facts
from lorabank.tasks import fields
from lorabank.tasks.csv_rows import read_csv
from lorabank.tasks.examples import (
    Example,
    ExampleLike,
    examples_from,
    from_pair,
    read_numbered_examples,
)

_COLUMNS = ("key", "subject", "relation", "valid_at")
_SHOWN = 3  # questions of an ambiguous sentence that are named


@dataclass(frozen=True, slots=True)
class GivenFact:
    """A fact to be remembered."""

    example: Example
    where: str
    """Place that errors name, such as a file with its line."""
    key: str = ""
    """Key that its writer gave; empty for that of its question."""
    valid_at: str = ""
    """Date that its writer gave; empty for that of the command."""


def given_facts(facts: str | Iterable[str | ExampleLike]) -> list[GivenFact]:
    """Return facts from memory: a sentence, or sentences, pairs, dicts and examples.

    Raises:
        DataError: a sentence of which no rule makes a question, or an item of another form.
    """
    items = [facts] if isinstance(facts, str) else list(facts)
    collected = []
    for number, item in enumerate(items, start=1):
        where = f"fact {number}" if len(items) > 1 else "the fact"
        if isinstance(item, str):
            collected.append(GivenFact(_read_sentence(where, item), where))
            continue
        (example,) = examples_from([item], name=where)
        fact = GivenFact(_check(where, example), where)
        collected.append(_with_columns(fact, item) if isinstance(item, Mapping) else fact)
    if not collected:
        raise DataError("there is nothing to remember: give at least one fact")
    return collected


def facts_of_text(text: str) -> tuple[list[GivenFact], list[tuple[str, str]]]:
    """Return the facts that a text's sentences plainly state, and the others with the reason."""
    facts: list[GivenFact] = []
    refused = []
    for start, end in sentence_spans(text):
        try:
            facts += given_facts(text[start:end])
        except DataError as error:
            refused.append((text[start:end], str(error)))
    return facts, refused


def read_given_facts(path: Path) -> list[GivenFact]:
    """Return the facts of a file.

    Raises:
        DataError: the file cannot be read, or a line is no fact; names the line.
    """
    suffix = path.suffix.lower()
    if suffix == ".txt":
        lines = enumerate(fields.read_text(path).splitlines(), start=1)
        collected = [(f"{path}, line {n}", line) for n, line in lines if line.strip()]
        if not collected:
            raise DataError(f"{path}: no facts in it; write a sentence on each line")
        return [GivenFact(_read_sentence(where, line), where) for where, line in collected]
    examples = read_numbered_examples(path)
    records: dict[int, Mapping[str, object]] = {}
    if suffix == ".csv":
        records.update(read_csv(path, single=_COLUMNS).rows)
    elif suffix in (".jsonl", ".ndjson"):
        records.update(fields.read_lines(path))
    facts = []
    for line, example in examples:
        where = f"{path}, line {line}"
        fact = GivenFact(_check(where, example), where)
        facts.append(_with_columns(fact, records.get(line, {})))
    return facts


def _read_sentence(where: str, sentence: str) -> Example:
    """Return the fact that a sentence states.

    Raises:
        DataError: no rule makes a question of it, or several are made.
    """
    if not sentence.strip():
        raise DataError(f"{where}: it is empty; write a sentence such as “The door code is 4217”")
    parts = stated_facts(sentence)
    if not parts:
        raise DataError(
            f"{where}: no rule makes a question of {sentence[:80]!r}; give the question and its "
            "answer, as in --question “What is …?” --answer “…”, or a CSV file with prompt,answer"
        )
    if len(parts) > 1:
        shown = "; ".join(f"{part.question} {part.answer}" for part in parts[:_SHOWN])
        raise DataError(
            f"{where}: {sentence[:80]!r} answers {len(parts)} questions ({shown}); say one at a "
            "time, or give --question and --answer"
        )
    (example,) = examples_from([from_pair(parts[0].question, parts[0].answer)], name=where)
    return example


def _check(where: str, example: Example) -> Example:
    if len(example.prompt) > 1:
        raise DataError(
            f"{where}: a fact that is remembered is one question, got a conversation of "
            f"{len(example.prompt)} turns; teach it with lorabank write"
        )
    return example


def _with_columns(fact: GivenFact, record: Mapping[str, object]) -> GivenFact:
    """Return a fact with the key and the date of its row."""
    texts = {}
    for name in _COLUMNS:
        value = record.get(name)
        if value is not None and not isinstance(value, str):
            raise DataError(f"{fact.where}: {name} must be text, got {value!r:.40}")
        texts[name] = " ".join((value or "").split())
    key = texts["key"]
    if bool(texts["subject"]) != bool(texts["relation"]):
        raise DataError(
            f"{fact.where}: subject and relation make a key together, and only one of them is "
            "given; give both, or leave both out"
        )
    if texts["subject"]:
        key = key or f"{texts['relation']} of {texts['subject']}"
    return replace(fact, key=key, valid_at=texts["valid_at"])
