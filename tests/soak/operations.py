"""Operations of a writer, each with a check of the bank's state that tells whether it was done."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import ModuleDraft, draft_from_examples
from lorabank.engine.settings import TrainSettings
from lorabank.tasks.examples import from_pair

from . import remembering
from .inspection import BankState, Modules

FACT_KINDS = ("remember", "consolidate", "forget fact")
KINDS = ("write", "rewrite", "rollback", "prune", "forget module", "forget source", *FACT_KINDS)
_QUICK = TrainSettings(
    r=1, alpha=1.0, lr=1e-3, exposures=4, batch_size=4, until_recall=None, wordings=0
)
_FEWEST, _MOST = 3, 6  # modules in the bank


@dataclass(frozen=True)
class Operation:
    """An operation on a bank."""

    kind: str
    description: str
    run: Callable[[Bank], object]
    is_done: Callable[[BankState, BankState], bool]
    """Function of (state before, state after) that returns whether the operation was done."""


def _of_modules(is_done: Callable[[Modules, Modules], bool]) -> Callable[..., bool]:
    """Return a check of the whole bank for an operation that leaves remembered facts alone."""
    return lambda before, after: (
        after.facts == before.facts and is_done(before.modules, after.modules)
    )


class Planner:
    """Draws operations; every source it invents is new."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.texts: dict[str, str] = {}
        """A question of each source, by the source's name."""

    def find_prerequisite(self, kind: str, state: BankState) -> str | None:
        """Return the kind of operation that must come first, or None if this one is possible."""
        if kind in FACT_KINDS:
            return remembering.find_prerequisite(kind, state)
        modules = remembering.written_modules(state.modules)
        if len(modules) < _FEWEST:
            return "write"
        if kind == "write":
            return "forget module" if len(modules) >= _MOST else None
        return None if _applicable_modules(kind, modules) else "rewrite"

    def plan(self, kind: str, state: BankState) -> Operation:
        """Return an operation of a kind that is possible now."""
        if kind in FACT_KINDS:
            description, run, is_fact_done = remembering.plan(kind, state, self.rng, self.texts)
            return Operation(kind, description, run, is_fact_done)
        modules = remembering.written_modules(state.modules)
        if kind == "write":
            return self._write(kind, f"module {len(self.texts)}")
        name = self.rng.choice(_applicable_modules(kind, modules))
        match kind:
            case "rewrite":
                return self._write(kind, name)
            case "rollback":
                return _rollback(name, self.rng.choice(_earlier_versions(modules, name)))
            case "prune":
                return _prune(name)
            case "forget module":
                return _forget_module(name)
        current = modules[name]["versions"][modules[name]["current"]]
        return _forget_source(name, self.rng.choice(current["sources"]))

    def _write(self, kind: str, name: str) -> Operation:
        drafts = [self._draw_draft(name), self._draw_draft(name)]
        draft = ModuleDraft(name, tuple(part for draft in drafts for part in draft.parts))
        sources = [source.name for source in draft.sources]

        def is_done(before: Modules, after: Modules) -> bool:
            if name not in after:
                return False
            old = before.get(name, {"versions": {}})["versions"]
            number = after[name]["current"]
            new = after[name]["versions"][number]
            versions = {"current": number, "versions": {**old, number: new}}
            is_new = number not in old and new["sources"] == sources
            return is_new and after == {**before, name: versions}

        def write(bank: Bank) -> object:
            return bank.write_all([draft], settings=_QUICK, replace=kind == "rewrite")

        title = f"{name} from {' and '.join(sources)}"
        return Operation(kind, title, write, _of_modules(is_done))

    def _draw_draft(self, module: str) -> ModuleDraft:
        source = f"source {len(self.texts)}"
        name = "".join(self.rng.choices("abcdefghijklmnopqrstuvwxyz", k=16))
        self.texts[source] = name
        facts = [from_pair(f"Where does {name} {i} live?", f"{i}") for i in range(2)]
        return draft_from_examples(module, facts, source=source)


def _earlier_versions(modules: Modules, name: str) -> list[int]:
    return [n for n in modules[name]["versions"] if n != modules[name]["current"]]


def _applicable_modules(kind: str, modules: Modules) -> list[str]:
    """Return the modules that an operation of a kind can change."""
    if kind == "rollback":
        return [name for name in sorted(modules) if _earlier_versions(modules, name)]
    if kind == "prune":  # the newest stays, current or not
        return [
            name
            for name in sorted(modules)
            if any(n < max(modules[name]["versions"]) for n in _earlier_versions(modules, name))
        ]
    return sorted(modules)


def _rollback(name: str, number: int) -> Operation:
    def is_done(before: Modules, after: Modules) -> bool:
        return after == {**before, name: {**before[name], "current": number}}

    return Operation(
        "rollback",
        f"{name} to {number}",
        lambda bank: bank.rollback(name, number),
        _of_modules(is_done),
    )


def _prune(name: str) -> Operation:
    def is_done(before: Modules, after: Modules) -> bool:
        old, current = before[name]["versions"], before[name]["current"]
        remaining = {n: old[n] for n in old if n in (current, max(old))}
        return after == {**before, name: {"current": current, "versions": remaining}}

    return Operation("prune", name, lambda bank: bank.prune(name=name), _of_modules(is_done))


def _forget_module(name: str) -> Operation:
    def is_done(before: Modules, after: Modules) -> bool:
        return after == {other: before[other] for other in before if other != name}

    return Operation("forget module", name, lambda bank: bank.forget(name), _of_modules(is_done))


def _forget_source(name: str, source: str) -> Operation:
    def is_done(before: Modules, after: Modules) -> bool:
        """Return whether one new version from the other source has replaced all versions."""
        current = before[name]["versions"][before[name]["current"]]
        other_sources = [other for other in current["sources"] if other != source]
        others = {other: before[other] for other in before if other != name}
        if not other_sources:
            return after == others
        new = after.get(name, {"current": 0, "versions": {}})
        is_new = new["versions"] not in ({}, before[name]["versions"])
        sources = [version["sources"] for version in new["versions"].values()]
        return after == {**others, name: new} and is_new and sources == [other_sources]

    return Operation(
        "forget source",
        f"{source} of {name}",
        lambda bank: bank.forget(source),
        _of_modules(is_done),
    )
