"""A module's questions as tasks of lm-eval and inspect-ai: files that need no network.

    NAME.yaml, NAME.jsonl                            held-out wordings: is the answer written?
    NAME_near_misses.yaml, NAME_near_misses.jsonl    names nobody taught: is an answer refused?

Replies are compared with case and surrounding space aside, as lorabank's own score `text` does.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from lorabank.bank.drafts import EXAMPLES, draft_from_jsonl
from lorabank.engine.adapters.adapter import check_output_folder
from lorabank.errors import UsageError
from lorabank.files import write_atomically
from lorabank.store.records import Version
from lorabank.store.store import Store
from lorabank.tasks.near_misses import make_near_misses

NOT_IN_MEMORY = "Not in memory"
"""First words of an answer that is none."""
_FEWEST_TOKENS, _MOST_TOKENS = 32, 1024  # room for a reply


@dataclass(frozen=True, slots=True)
class ExportedTasks:
    """Tasks that were written, and how much is in them."""

    folder: str
    task: str
    questions: int
    near_misses: int
    """Questions of the second task; without any it is not written."""
    left_out: int
    """Facts that are asked after several turns, which a line of a task has no room for."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def export_tasks(
    store: Store, version: Version, folder: Path, *, as_taught: bool = False
) -> ExportedTasks:
    """Write the questions of a module as tasks into a new or empty folder.

    Args:
        as_taught: ask the questions as they were taught, not the wordings that nobody taught.

    Raises:
        UsageError: there are no such questions, or the folder is not empty.
    """
    check_output_folder(folder)
    if EXAMPLES not in version.files:
        raise UsageError(f"module {version.module!r} was imported without its examples")
    body = store.read(version, EXAMPLES)
    examples = draft_from_jsonl(version.module, version.sources, body).examples
    alone = [example for example in examples if len(example.prompt) == 1]
    rows = [
        {"question": question, "answer": example.answer, "fact": example.question}
        for example in alone
        for question in ((example.question,) if as_taught else example.held_out)
    ]
    if not rows:
        raise UsageError(
            f"module {version.module!r} has {len(alone)} questions and no wording of them that was "
            "held out; --as-taught asks them as they were taught"
        )
    metadata = {"version": 1.0, "module": version.module, "module_version": version.number}
    answers = {"filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}
    _write(folder, version.module, rows, answers | {"name": "stripped"}, metadata)
    near = [_near_miss(question) for question in make_near_misses(alone)]
    if near:
        pattern = {"function": "regex", "regex_pattern": rf"^\s*({NOT_IN_MEMORY})"}
        refusals = {"name": "refused", "filter": [pattern, {"function": "take_first"}]}
        _write(folder, f"{version.module}_near_misses", near, refusals, metadata)
    n_left_out = len(examples) - len(alone)
    return ExportedTasks(str(folder), version.module, len(rows), len(near), n_left_out)


def _near_miss(question: str) -> dict[str, str]:
    return {"question": question, "answer": NOT_IN_MEMORY, "fact": ""}


def _write(
    folder: Path,
    name: str,
    rows: Sequence[dict[str, str]],
    replies: dict[str, Any],
    metadata: dict[str, Any],
) -> None:
    questions = folder / f"{name}.jsonl"
    longest = max(len(row["answer"].encode()) for row in rows)  # a token has a byte or more
    room = min(_MOST_TOKENS, max(_FEWEST_TOKENS, longest))
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(questions.resolve())}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": [], "max_gen_toks": room, "do_sample": False},
        "filter_list": [replies],
        "metric_list": [{"metric": "exact_match", "ignore_case": True}],
        "metadata": metadata,
    }
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    write_atomically(questions, "".join(lines))
    write_atomically(folder / f"{name}.yaml", yaml.safe_dump(task, sort_keys=False))
