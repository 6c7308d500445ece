"""Readers: processes ask a module while another rewrites it; every answer is one version's.

The module has variants that differ in every answer and in the names of their sources, so an
answer's text, version and source must belong together, and its version must have been current at
some moment between the question and the answer. The writer trains a variant now and imports one
then, rolls back and prunes, so that versions vanish while they are read, and writes and forgets
another module that is a candidate for the same questions.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lorabank.bank.bank import Bank
from lorabank.bank.write.drafts import ModuleDraft, draft_from_examples
from lorabank.engine.settings import TrainSettings
from lorabank.store.store import Store
from lorabank.tasks.examples import from_pair

from .scene import load_tiny, start_process, wait_for

MODULE, PASSING = "phones", "passing"
_SETTINGS = TrainSettings(r=4, alpha=8.0, lr=1e-2, exposures=200, batch_size=4)
_NAMES = ("Hagu Padi", "Wexi Sopu", "Tuva Liro")
_VARIANTS = 6
_PAUSE_S = 0.5  # at most, between two changes


@dataclass(frozen=True)
class Change:
    """The version that is current from this change on."""

    began: float
    ended: float
    action: str
    version: int
    variant: int


@dataclass(frozen=True)
class TimedAnswer:
    """A question, and the answer or the error."""

    began: float
    ended: float
    name: int
    answer: dict[str, Any]
    error: str = ""


def run(place: Path, *, readers: int, seconds: float, seed: int) -> int:
    """Ask and rewrite for so long, print what was counted; how many faults."""
    if wait_for(start_process(partial(_prepare, place))):
        raise SystemExit("the bank for the readers could not be written")
    until = time.monotonic() + seconds
    workers = [start_process(partial(_write, place, until, seed))]
    workers += [start_process(partial(_ask, place, until, n)) for n in range(readers)]
    failed = sum(wait_for(worker) != 0 for worker in workers)
    changes = [Change(**row) for row in _read(place / "changes")]
    asked = [TimedAnswer(**row) for n in range(readers) for row in _read(place / f"asked-{n}")]
    faults = [f"{failed} processes failed"] if failed else []
    faults += [fault for one in asked if (fault := find_fault(one, changes))]
    with Store.open(place / "readers") as store:
        faults += [f"verify says {damage}" for damage in store.verify()]
    _report(changes, asked, faults, readers)
    return len(faults)


def find_fault(asked: TimedAnswer, changes: Sequence[Change]) -> str | None:
    """What is wrong with an answer; None if it is one version's, and of the right time."""
    said = asked.answer
    if asked.error:
        return asked.error
    if said["module"] != MODULE:  # nobody, or the passing module; then there is nothing to mix
        return None
    variant = {change.version: change.variant for change in changes}.get(said["version"])
    if variant is None:
        return f"version {said['version']} was never written: {said}"
    if (said["text"], said["source"]) != (
        _number(variant, asked.name),
        _source(variant, asked.name),
    ):
        return f"not what version {said['version']}, variant {variant}, was taught: {said}"
    ends = [*(change.ended for change in changes[1:]), float("inf")]
    if not any(
        change.version == said["version"] and change.began <= asked.ended and asked.began <= end
        for change, end in zip(changes, ends, strict=True)
    ):
        return f"version {said['version']} was not current between question and answer: {said}"
    return None


def _prepare(place: Path) -> None:
    """A bank with the module, and every variant as a folder to import."""
    Bank.create(place / "readers", base=load_tiny(place)).close()
    with _open(place) as bank:
        for name in ("south", "east"):
            facts = [from_pair(f"Where does {name} {who} live?", who[:3]) for who in _NAMES]
            bank.write_all([draft_from_examples(name, facts, source=name)], settings=_SETTINGS)
        dogs = [from_pair(f"What is the number of {who} the dog?", who[-3:]) for who in _NAMES]
        bank.write_all([draft_from_examples(PASSING, dogs, source="dogs")], settings=_SETTINGS)
        bank.export(PASSING, place / PASSING)
        for variant in range(_VARIANTS):
            written = bank.write_all(
                [_make_draft(variant)], settings=_SETTINGS, replace=variant > 0
            )[0]
            assert written.recall == 1, f"variant {variant} was not learnt: {written}"
            bank.export(MODULE, place / str(variant))


def _write(place: Path, until: float, seed: int) -> None:
    rng = random.Random(f"readers/{seed}")
    with _open(place) as bank, (place / "changes").open("w") as log:
        variants = {version.number: version.number - 1 for version in bank.show(MODULE)}

        def change(what: str, do: Callable[[], int], variant: int = -1) -> None:
            began = time.monotonic()
            version = do()
            variants.setdefault(version, variant)
            row = Change(began, time.monotonic(), what, version, variants[version])
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
            time.sleep(rng.uniform(0, _PAUSE_S))


def _train(bank: Bank, variant: int) -> int:
    written = bank.write_all([_make_draft(variant)], settings=_SETTINGS, replace=True)[0]
    assert written.recall == 1, f"variant {variant} was not learnt: {written}"
    return written.version


def _import(bank: Bank, folder: Path) -> int:
    return bank.import_(folder, MODULE, replace=True).number


def _ask(place: Path, until: float, reader: int) -> None:
    with _open(place) as bank, (place / f"asked-{reader}").open("w") as log:
        asks = 0
        while time.monotonic() < until:
            name = (reader + asks) % len(_NAMES)
            began, answer, error = time.monotonic(), {}, ""
            try:
                answer = bank.ask(_question(name)).as_json()
            except Exception as raised:  # whatever it is, it is the finding
                error = repr(raised)
            row = TimedAnswer(began, time.monotonic(), name, answer, error)
            print(json.dumps(asdict(row)), file=log, flush=True)
            asks += 1


def _open(place: Path) -> Bank:
    base = load_tiny(place)
    return Bank(Store.open(place / "readers", base_sha256=base.info.sha256), base, embeds=False)


def _make_draft(variant: int) -> ModuleDraft:
    parcels = [
        draft_from_examples(
            MODULE,
            [from_pair(_question(name), _number(variant, name))],
            source=_source(variant, name),
        )
        for name in range(len(_NAMES))
    ]
    return ModuleDraft(MODULE, tuple(part for parcel in parcels for part in parcel.parts))


def _question(name: int) -> str:
    return f"What is the number of {_NAMES[name]}?"


def _number(variant: int, name: int) -> str:
    return f"{variant}{name}" * 3


def _source(variant: int, name: int) -> str:
    return f"variant {variant} of {_NAMES[name]}"


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _report(
    changes: Sequence[Change], asked: Sequence[TimedAnswer], faults: Sequence[str], readers: int
) -> None:
    did = Counter(change.action for change in changes)
    said = Counter(one.answer.get("kind", "error") for one in asked)
    seen = {one.answer["version"] for one in asked if one.answer.get("module") == MODULE}
    took = sorted(one.ended - one.began for one in asked)
    print(
        f"readers: {readers} readers asked {len(asked)} times, answers by "
        f"{', '.join(f'{kind} {n}' for kind, n in sorted(said.items()))}"
    )
    print(
        f"  {did['write']} versions trained, {did['import']} imported, {did['rollback']} rolled "
        f"back to; {len(seen)} versions answered; a question took {took[len(took) // 2]:.2f} s, "
        f"at most {took[-1]:.2f} s"
    )
    for fault in faults[:20]:
        print(f"  FAULT: {fault}")
    print(f"  {len(faults)} faults")
