"""Descriptions of modules that come with imported folders, checked as if they were written here.

What an import leaves in a bank is read by `ask`, `verify`, `forget` and `export` later, when
nothing can be refused any more. So record, sources, keys, examples and documents are checked value
by value on their way in.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lorabank.bank.drafts import EXAMPLES, draft_from_jsonl
from lorabank.bank.fact_book import FOREVER
from lorabank.bank.stored_text import DOCUMENTS, decode_documents
from lorabank.engine.settings import TrainSettings
from lorabank.errors import AdapterError, UsageError
from lorabank.store.records import Fact, Key, Source
from lorabank.strict_json import parse_json
from lorabank.tasks.examples import Example, as_examples
from lorabank.tasks.joined_facts import refuse_repeated_prompts

MODULE = "module.json"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
_TEXTS = ("key", "question", "answer", "sha256")
_TIMES = ("valid_at", "invalid_at", "created_at", "expired_at")
_ENDS = ("invalid_at", "expired_at")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Description:
    """A description as a folder gives it; empty for a folder that PEFT wrote."""

    record: Mapping[str, Any]
    sources: Sequence[Source] = ()
    keys: Sequence[Key] = ()
    examples: Sequence[Example] = ()
    facts: Sequence[Fact] = ()


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_list_of(kind: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(x, kind) for x in value)


_CHECKS: dict[str, Callable[[object], bool]] = {
    "facts": _is_count,
    "recall_before": _is_number,
    "recall": _is_number,
    "missing": _is_list_of(str),
    "exposures_per_fact": _is_number,
    "stopped": lambda value: isinstance(value, str),
    "kl_to_base_nats": _is_number,
    "seconds": _is_number,
    "trainable_parameters": _is_count,
    "bits_stored": _is_number,
    "bits_per_parameter": _is_number,
    "passages": _is_count,
    "not_stuck": _is_list_of(dict),
    "held_out": lambda value: value is None or isinstance(value, dict),
    "passes": _is_list_of(dict),
}
"""Fields of a module's record that an import takes over, with the check of their values."""


def parse_description(files: Mapping[str, bytes]) -> Description:
    """Return the description in a folder's files.

    Args:
        files: contents of `module.json`, `examples.jsonl` and `documents.jsonl`, as far as there.

    Raises:
        AdapterError: a file that is something else, or a value that the bank could not use.
    """
    if MODULE not in files:
        return Description({})
    try:
        return _parse(files)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise AdapterError(
            f"{MODULE}, {EXAMPLES} and {DOCUMENTS} do not describe a module "
            f"({type(error).__name__}: {reason}); remove {MODULE} to import without them"
        ) from None


def parse_settings(record: Mapping[str, Any]) -> TrainSettings | None:
    """Return the settings in a `lorabank.json`, with which a module is trained again; None if none.

    Raises:
        AdapterError: they cannot be trained with.
    """
    values = record.get("settings")
    if not values:
        return None
    try:
        return TrainSettings.from_json(values)
    except UsageError as error:
        reason = " ".join(str(error).split())[:200]
        raise AdapterError(f"lorabank.json has {reason}") from None


def _parse(files: Mapping[str, bytes]) -> Description:
    content = parse_json(files[MODULE])
    record = {name: value for name, value in content["record"].items() if name in _CHECKS}
    if wrong := [name for name, value in record.items() if not _CHECKS[name](value)]:
        raise TypeError(f"{wrong[0]} {record[wrong[0]]!r:.60} has the wrong type")
    sources = [_source(*values) for values in content["sources"]]
    if len({source.sha256 for source in sources}) < len(sources):
        raise ValueError("a source occurs twice")
    keys = [_key(*values) for values in content["keys"]]
    examples: list[Example] = []
    if sources and EXAMPLES in files:
        examples = _parse_examples(files[EXAMPLES], sources)
    if sources and DOCUMENTS in files:
        decode_documents(files[DOCUMENTS])
    facts = [_fact(values) for values in content.get("facts", [])]
    holding = [fact.key for fact in facts if fact.invalid_at is None]
    if len(set(holding)) < len(holding):
        raise ValueError("a remembered fact has two values that hold")
    return Description(record, sources, keys, examples, facts)


def describe_fact(fact: Fact) -> dict[str, Any]:
    """Return a value of a remembered fact as `module.json` keeps it."""
    values = asdict(fact)
    return {name: values[name] for name in (*_TEXTS, *_TIMES, "also")}


def _fact(values: Mapping[str, Any]) -> Fact:
    texts = [values[name] for name in _TEXTS]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise TypeError(f"a remembered fact {str(texts)[:60]} has the wrong type")
    if not _SHA256.fullmatch(values["sha256"]):
        raise ValueError(f"a remembered fact has no sha256, got {values['sha256']!r:.60}")
    if not _is_list_of(str)(values["also"]):
        raise TypeError("the wordings of a remembered fact are no list of texts")
    times = {name: values[name] for name in _TIMES}
    for name, time in times.items():
        is_open = (name == "valid_at" and time == FOREVER) or (name in _ENDS and time is None)
        is_open = is_open or (name == "invalid_at" and time == FOREVER)
        if not is_open and (not isinstance(time, str) or not _TIME.fullmatch(time)):
            raise ValueError(f"{name} of a remembered fact is no time, got {time!r:.40}")
    named = dict(zip(_TEXTS, texts, strict=True))
    return Fact(**named, also=tuple(values["also"]), **times)


def _source(name: object, sha256: object, n_examples: object) -> Source:
    if not isinstance(name, str) or not name.strip() or not _is_count(n_examples):
        raise TypeError(
            f"a source {name!r:.60} with {n_examples!r:.20} examples has the wrong type"
        )
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ValueError(f"source {name[:60]!r} has no sha256, got {sha256!r:.60}")
    return Source(name, sha256, n_examples)  # type: ignore[arg-type]


def _key(kind: object, text: object) -> Key:
    if kind not in ("text", "question") or not isinstance(text, str) or not text.strip():
        raise TypeError(f"a key {kind!r:.20} {text!r:.60} has the wrong type")
    return Key(str(kind), text)


def _parse_examples(body: bytes, sources: Sequence[Source]) -> list[Example]:
    """Return the examples, checked like those of a file of facts."""
    lines = [parse_json(line) for line in body.decode().split("\n")[:-1]]
    facts = [
        {
            "messages": [*line["prompt"], {"role": "assistant", "content": line["answer"]}],
            **{name: line[name] for name in ("also", "held_out") if name in line},
        }
        for line in lines
    ]
    examples = as_examples(facts)
    if not examples:
        raise ValueError(f"{EXAMPLES}: there are no facts")
    # In other spellings a prompt may be there again: a generator may write it twice.
    refuse_repeated_prompts(EXAMPLES, "line", enumerate(examples, start=1), folds=False)
    draft = draft_from_jsonl("", sources, body)
    if len(draft.examples) != len(examples) or set(draft.examples) != set(examples):
        raise ValueError("the examples are not those of the sources")
    return examples
