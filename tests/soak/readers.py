"""Readers ask a module while a writer replaces it; every answer must be one version's.

The module has variants that differ in every answer and in the names of their sources. So the text,
version and source of an answer must belong together, and the version must have been current at some
moment between the question and the answer. The writer trains some variants and imports others,
rolls back and prunes, so versions vanish while they are read. It also forgets and imports again a
second module, which is a candidate for the same questions.
"""

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lorabank.bank.answer.modes import N_CANDIDATES
from lorabank.bank.bank import Bank
from lorabank.bank.drafts import ModuleDraft, draft_from_examples
from lorabank.bank.route.routers import TextRouter
from lorabank.engine.settings import TrainSettings
from lorabank.store.store import Store
from lorabank.tasks.examples import from_pair

from .tally import Tally
from .workplace import load_tiny, start_process, wait_for

MODULE, PASSING = "phones", "passing"
_SETTINGS = TrainSettings(r=4, alpha=8.0, lr=1e-2, exposures=200, batch_size=4, wordings=0)
_NAMES = ("Hagu Padi", "Wexi Sopu", "Tuva Liro")
_VARIANTS = 6
_LONGEST_PAUSE_S = 0.5  # between two changes


@dataclass(frozen=True)
class Change:
    """One change by the writer, and the version that is current from then on."""

    began: float
    ended: float
    action: str
    version: int
    variant: int


@dataclass(frozen=True)
class TimedAnswer:
    """A question about one of the names, with the answer or the error."""

    began: float
    ended: float
    name_index: int
    answer: dict[str, Any]
    error: str = ""


def run(place: Path, *, readers: int, seconds: float, seed: int) -> Tally:
    """Ask and write for some seconds, and return the answers by kind and the faults."""
    if wait_for(start_process(partial(_prepare, place))):
        raise SystemExit("the bank for the readers could not be written")
    until = time.monotonic() + seconds
    workers = [start_process(partial(_write, place, until, seed))]
    workers += [start_process(partial(_ask, place, until, n)) for n in range(readers)]
    n_failed = sum(wait_for(worker) != 0 for worker in workers)
    changes = [Change(**row) for row in _read(place / "changes")]
    answers = [TimedAnswer(**row) for n in range(readers) for row in _read(place / f"answers-{n}")]
    faults = [f"{n_failed} processes failed"] if n_failed else []
    faults += [fault for answer in answers if (fault := find_fault(answer, changes))]
    if not any(answer.answer.get("module") == MODULE for answer in answers):
        faults.append(f"no answer came from the module {MODULE}, so no answer was checked")
    with Store.open(place / "readers") as store:
        faults += [f"verify found {damage}" for damage in store.verify()]
    tally = Tally("readers beside a writer", faults=faults)
    for change in changes:
        tally.add("changes", change.action)
    for timed in answers:
        tally.add("answers", timed.answer.get("kind", "error"))
    return tally


def find_fault(timed: TimedAnswer, changes: Sequence[Change]) -> str | None:
    """Return what is wrong with an answer, or None if it is that of a version current then."""
    answer, name_index = timed.answer, timed.name_index
    if timed.error:
        return timed.error
    if answer["module"] != MODULE:  # an abstention or the passing module: no variant to check
        return None
    version = answer["version"]
    variant = {change.version: change.variant for change in changes}.get(version)
    if variant is None:
        return f"version {version} was never written: {answer}"
    if (answer["text"], answer["source"]) != (
        _number(variant, name_index),
        _source(variant, name_index),
    ):
        return f"not what version {version}, variant {variant}, was taught: {answer}"
    ends = [*(change.ended for change in changes[1:]), float("inf")]
    if not any(
        change.version == version and change.began <= timed.ended and timed.began <= end
        for change, end in zip(changes, ends, strict=True)
    ):
        return f"version {version} was not current between question and answer: {answer}"
    return None


def _prepare(place: Path) -> None:
    """Create a bank with the module, and export every variant to a folder."""
    Bank.create(place / "readers", base=load_tiny(place)).close()
    with _open(place) as bank:
        for name in ("south", "east"):
            facts = [from_pair(f"Where does {name} {who} live?", who[:3]) for who in _NAMES]
            bank.write_all([draft_from_examples(name, facts, source=name)], settings=_SETTINGS)
        dogs = [from_pair(f"Which ball has {who}?", who[-3:]) for who in _NAMES]
        bank.write_all([draft_from_examples(PASSING, dogs, source="dogs")], settings=_SETTINGS)
        bank.export(PASSING, place / PASSING)
        for variant in range(_VARIANTS):
            written = bank.write_all(
                [_make_draft(variant)], settings=_SETTINGS, replace=variant > 0
            )[0]
            assert written.recall == 1, f"variant {variant} was not learnt: {written}"
            bank.export(MODULE, place / str(variant))
        for candidates in TextRouter(bank.texts).route(
            [_question(name_index) for name_index in range(len(_NAMES))], N_CANDIDATES
        ):
            names = [candidate.module for candidate in candidates]
            assert {MODULE, PASSING} <= set(names), f"the candidates are {names}"


def _write(place: Path, until: float, seed: int) -> None:
    rng = random.Random(f"readers/{seed}")
    with _open(place) as bank, (place / "changes").open("w") as log:
        variants = {version.number: version.number - 1 for version in bank.show(MODULE)}

        def change(action: str, work: Callable[[], int], variant: int = -1) -> None:
            began = time.monotonic()
            version = work()
            variants.setdefault(version, variant)
            row = Change(began, time.monotonic(), action, version, variants[version])
            print(json.dumps(asdict(row)), file=log, flush=True)

        change("begin", lambda: bank.store.current(MODULE).number)
        while time.monotonic() < until:
            variant = rng.randrange(_VARIANTS)
            if rng.random() < 0.3:
                change("write", partial(_train, bank, variant), variant)
            else:
                change("import", partial(_import, bank, place / str(variant)), variant)
            if rng.random() < 0.3:
                change("rollback", lambda: bank.rollback(MODULE).number)
            if rng.random() < 0.5:
                bank.prune(name=MODULE)
            if rng.random() < 0.3:
                if PASSING in bank.store.names():
                    bank.forget(PASSING)
                else:
                    bank.import_(place / PASSING, PASSING)
            time.sleep(rng.uniform(0, _LONGEST_PAUSE_S))


def _train(bank: Bank, variant: int) -> int:
    written = bank.write_all([_make_draft(variant)], settings=_SETTINGS, replace=True)[0]
    assert written.recall == 1, f"variant {variant} was not learnt: {written}"
    return written.version


def _import(bank: Bank, folder: Path) -> int:
    return bank.import_(folder, MODULE, replace=True).number


def _ask(place: Path, until: float, reader: int) -> None:
    with _open(place) as bank, (place / f"answers-{reader}").open("w") as log:
        n_questions = 0
        while time.monotonic() < until:
            name_index = (reader + n_questions) % len(_NAMES)
            began, answer, error = time.monotonic(), {}, ""
            try:
                answer = bank.ask(_question(name_index)).as_json()
            except Exception as raised:  # any error is a fault to report
                error = repr(raised)
            row = TimedAnswer(began, time.monotonic(), name_index, answer, error)
            print(json.dumps(asdict(row)), file=log, flush=True)
            n_questions += 1


def _open(place: Path) -> Bank:
    base = load_tiny(place)
    return Bank(Store.open(place / "readers", base_sha256=base.info.sha256), base, embeds=False)


def _make_draft(variant: int) -> ModuleDraft:
    """Return a draft of the module with a source of its own for each name."""
    drafts = [
        draft_from_examples(
            MODULE,
            [from_pair(_question(name_index), _number(variant, name_index))],
            source=_source(variant, name_index),
        )
        for name_index in range(len(_NAMES))
    ]
    return ModuleDraft(MODULE, tuple(part for draft in drafts for part in draft.parts))


def _question(name_index: int) -> str:
    return f"What is the number of {_NAMES[name_index]}?"


def _number(variant: int, name_index: int) -> str:
    return f"{variant}{name_index}" * 3


def _source(variant: int, name_index: int) -> str:
    return f"variant {variant} of {_NAMES[name_index]}"


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
