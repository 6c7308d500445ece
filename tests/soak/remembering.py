"""Operations on remembered facts: told, changed, taught to modules, forgotten one by one.

Each is one transaction, so a killed one leaves the state before or the one after. No fact may be
lost by any of them but the one that is forgotten, and none may be there twice.
"""

import random
from collections.abc import Callable
from itertools import count

from lorabank.bank.bank import Bank
from lorabank.bank.write.consolidate import ConsolidateOptions
from lorabank.engine.settings import TrainSettings

from .inspection import BankState, Facts, Modules

Plan = tuple[str, Callable[[Bank], object], Callable[[BankState, BankState], bool]]
"""Description, what is run, and whether it was done, by the states before and after."""
_QUICK = TrainSettings(
    r=1, alpha=1.0, lr=1e-3, exposures=4, batch_size=4, until_recall=None, wordings=0
)
_MOST = 10  # facts in the bank
_MADE = "memory-"  # how the names begin of modules that consolidation makes


def written_modules(modules: Modules) -> Modules:
    """Return the modules that consolidation did not make."""
    return {name: module for name, module in modules.items() if not name.startswith(_MADE)}


def find_prerequisite(kind: str, state: BankState) -> str | None:
    """Return the kind of operation that must come first, or None if this one is possible."""
    if kind == "remember":
        return "forget fact" if len(state.facts) >= _MOST else None
    if kind == "consolidate":
        return None if _pending(state.facts) else "remember"
    return None if state.facts else "remember"


def plan(kind: str, state: BankState, rng: random.Random, texts: dict[str, str]) -> Plan:
    """Return an operation of a kind; a new fact is added to the texts."""
    if kind == "remember":
        return _remember(state, rng, texts)
    if kind == "consolidate":
        return "1 step", _consolidate, _is_consolidated
    return _forget(rng.choice(sorted(state.facts)))


def _pending(facts: Facts) -> list[str]:
    return [q for q, values in facts.items() if any(holds and not m for _, holds, m in values)]


def _remember(state: BankState, rng: random.Random, texts: dict[str, str]) -> Plan:
    """Tell a new fact, or half of the time another value of a known one."""
    if state.facts and rng.random() < 0.5:
        question = rng.choice(sorted(state.facts))
    else:
        name = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=16))
        question = f"Where does {name} live?"
        texts[question] = name
    known = [answer for answer, _, _ in state.facts.get(question, [])]
    answer = next(f"{i}" for i in count() if f"{i}" not in known)

    def is_done(before: BankState, after: BankState) -> bool:
        ended = [(a, False, module) for a, _, module in before.facts.get(question, [])]
        facts = {**before.facts, question: [*ended, (answer, True, None)]}
        return after.modules == before.modules and after.facts == facts

    return f"{question} {answer}", lambda bank: bank.remember([(question, answer)]), is_done


def _consolidate(bank: Bank) -> object:
    return bank.consolidate(ConsolidateOptions(settings=_QUICK, most_steps=1))


def _is_consolidated(before: BankState, after: BankState) -> bool:
    """Return whether all pending facts are in one module, and nothing else is gone or new."""
    are_same = {q: [v[:2] for v in values] for q, values in before.facts.items()} == {
        q: [v[:2] for v in values] for q, values in after.facts.items()
    }
    are_left = written_modules(before.modules) == written_modules(after.modules)
    made = [name for name in after.modules if name not in before.modules]
    taught = _taught(after.facts)
    return (
        are_same
        and are_left
        and len(made) == 1
        and not _pending(after.facts)
        and {q for q in _pending(before.facts) if taught[q] == made[0]} == {*_pending(before.facts)}
    )


def _taught(facts: Facts) -> dict[str, str | None]:
    """Return the module that was taught the value of each fact that holds."""
    return {q: next(m for _, holds, m in values if holds) for q, values in facts.items()}


def _forget(question: str) -> Plan:
    def is_done(before: BankState, after: BankState) -> bool:
        """Return whether the fact alone is gone, its modules trained anew or dropped."""
        concerned = {module for _, _, module in before.facts[question] if module}
        rest = {name: m for name, m in before.modules.items() if name not in concerned}
        others = {name: m for name, m in after.modules.items() if name not in concerned}
        facts = {q: values for q, values in before.facts.items() if q != question}
        return after.facts == facts and others == rest

    return question, lambda bank: bank.forget(question, is_fact=True), is_done
