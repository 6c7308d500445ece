"""Contradictions between modules: one prompt with another answer in each.

Within a file they are refused. Between modules they are a warning, since facts may be right in
both (two teams, two years), and an update may be under way: the older answer would still be given
where its module is asked, until that module is written again with --replace or the fact forgotten.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lorabank.bank.drafts import EXAMPLES, ModuleDraft, draft_from_jsonl
from lorabank.bank.fact_book import FactBook
from lorabank.errors import LorabankError
from lorabank.store.records import Version
from lorabank.store.store import Store
from lorabank.tasks.examples import Example
from lorabank.tasks.folding import fold
from lorabank.tasks.joined_facts import PromptKey, prompt_keys

_SHOWN = 3  # contradictions of a module that are logged one by one
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A prompt that a new module and another one answer differently."""

    question: str
    answer: str
    module: str
    """Name of the other module."""
    other_answer: str


def find_contradictions(
    store: Store, drafts: Sequence[ModuleDraft]
) -> dict[str, list[Contradiction]]:
    """Return what each draft says otherwise than another module of the bank, by its name.

    Prompts, in all their wordings, and answers are compared folded (tasks/folding.py). Modules that
    the drafts replace do not count, nor do those without examples or with ones that cannot be read,
    nor do values that hold no longer: of those it is decided which is right.
    """
    names = {draft.name for draft in drafts}
    stale = {(f.module, f.question, fold(f.answer)) for f in FactBook(store.facts()).stale}
    taught: dict[PromptKey, list[tuple[str, str]]] = {}
    for version in store.current_versions():
        if version.module in names or EXAMPLES not in version.files:
            continue
        try:
            body = store.read(version, EXAMPLES)
            examples = draft_from_jsonl(version.module, version.sources, body).examples
        except (LorabankError, ValueError, KeyError, TypeError):  # forget and verify tell of it
            continue
        for example in examples:
            if (version.module, example.question, fold(example.answer)) in stale:
                continue
            for key in prompt_keys(example):
                taught.setdefault(key, []).append((version.module, example.answer))
    return {draft.name: _contradictions(draft.examples, taught) for draft in drafts}


def _contradictions(
    examples: Sequence[Example], taught: Mapping[PromptKey, Sequence[tuple[str, str]]]
) -> list[Contradiction]:
    contradictions = []
    for example in examples:
        others = [other for key in prompt_keys(example) for other in taught.get(key, ())]
        for module, answer in dict.fromkeys(others):  # the same in several wordings is one
            if fold(answer) != fold(example.answer):
                contradictions.append(
                    Contradiction(example.question, example.answer, module, answer)
                )
    return contradictions


def warn(name: str, contradictions: Sequence[Contradiction]) -> None:
    """Log what a module says otherwise than others, and what can be done about it."""
    for item in contradictions[:_SHOWN]:
        _log.warning(
            "module %r says %r to %r, but module %r says %r; forget that fact's source there, or "
            "write the two into one module with --replace",
            name, item.answer[:60], item.question[:60], item.module, item.other_answer[:60],
        )  # fmt: skip
    if len(contradictions) > _SHOWN:
        _log.warning(
            "module %r contradicts others in %d more facts", name, len(contradictions) - _SHOWN
        )


def note_contradiction(question: str, answering: Version, versions: Mapping[str, Version]) -> str:
    """Return a remark if another candidate was taught another answer to this question, else "".

    Args:
        versions: the candidates by name; what their records say of each other is read.
    """
    for version in versions.values():
        for item in version.record.get("contradicts", ()):
            pair = {version.module: item["answer"], item["module"]: item["other_answer"]}
            others = pair.keys() - {answering.module}
            is_pair = answering.module in pair and others <= versions.keys()
            if is_pair and fold(item["question"]) == fold(question):
                (other,) = others
                return f"module {other!r} says {pair[other][:60]!r}"
    return ""


def as_records(contradictions: Sequence[Contradiction]) -> list[dict[str, Any]]:
    """Return contradictions as they are kept in a module's record."""
    return [asdict(item) for item in contradictions]
