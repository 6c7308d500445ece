"""The bank that is damaged, filled up and attacked, and all that a reader can see of it."""

import os
import shutil
import signal
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import draft_from_examples
from lorabank.engine.backbone.base import Base
from lorabank.engine.settings import TrainSettings
from lorabank.errors import LorabankError
from lorabank.store import commit, schema
from lorabank.store.records import Draft, Key, Source
from lorabank.store.store import Store
from lorabank.tasks.examples import from_pair

from .workplace import start_process, wait_for

_SETTINGS = TrainSettings(r=4, alpha=8.0, lr=1e-2, exposures=200, batch_size=4, wordings=0)
_NAMES = ("Hagu Padi", "Wexi Sopu", "Tuva Liro")
MODULES = ("streets", "balls", "boats")
QUESTIONS = tuple(f"Which of the {module} has {name}?" for module in MODULES for name in _NAMES)


@dataclass
class View:
    """All that was read of a bank."""

    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    """Hashes by file name, by module and version, of the versions whose files all read well."""
    answers: list[str | None] = field(default_factory=list)
    """Answer to each question, with the module it came from; None for an error of ours."""
    said: list[str] = field(default_factory=list)
    """Every word of a fault: errors, damage found, why nothing is written."""


def make_bank(path: Path, base: Base) -> None:
    """Write a bank with three modules, an old version and all that is derived."""
    Bank.create(path, base=base).close()
    with Bank(Store.open(path), base, embeds=False) as bank:
        for i, module in enumerate(MODULES):
            facts = [from_pair(f"Which of the {module} has {n}?", n[i : i + 3]) for n in _NAMES]
            draft = draft_from_examples(module, facts, source=f"{module}.csv")
            bank.write_all([draft], settings=_SETTINGS)
            if not i:
                bank.write_all([draft], settings=_SETTINGS, replace=True)
        bank.ask(QUESTIONS[0])


def make_bank_with_log(path: Path, pristine: Path) -> None:
    """Copy the bank and kill a writer of the copy when its modules are in the log alone."""
    shutil.copytree(pristine, path)

    def work() -> None:
        reader = schema.connect(path)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM modules").fetchall()  # keeps the log from being emptied
        commit._PATIENCE_S = 0
        with Store(path) as store:
            version = store.current(MODULES[0])
            files = {name: store.read(version, name) for name in version.files}
            for number in range(4):
                source = Source(f"copy {number}", f"{number}" * 64, 1)
                keys = [Key("text", f"all about copy {number} " * 40)]
                with store.writing(what="soak") as tx:
                    files["note.txt"] = b"%d" % number
                    tx.put(f"copy {number}", Draft(files, {"recall": 1.0}, [source], keys))
            os.kill(os.getpid(), signal.SIGKILL)

    code = wait_for(start_process(work))
    assert code == -signal.SIGKILL, f"the writer ended with {code}"
    assert (path / f"{schema.DATABASE}-wal").stat().st_size > 10_000


def view(path: Path, base: Base) -> View:
    """Open the bank, read every file of every version, ask every question, and verify."""
    seen = View()
    try:
        bank = Bank(Store.open(path), base, embeds=False)
    except LorabankError as error:
        seen.said.append(str(error))
        return seen
    with bank:
        seen.said += [bank.store.problem] if bank.store.problem else []
        try:
            seen.said += [f"{fault.kind} {fault.file}: {fault.lost}" for fault in bank.verify()]
            names = bank.store.names()
            versions = [version for name in names for version in bank.store.versions(name)]
        except LorabankError as error:
            seen.said.append(str(error))
            versions = []
        for version in versions:
            try:
                for file in version.files:
                    bank.store.read(version, file)
                seen.versions[f"{version.module} {version.number}"] = dict(version.files)
            except LorabankError as error:
                seen.said.append(str(error))
        for question in QUESTIONS:
            try:
                answer = bank.ask(question)
                seen.answers.append(f"{answer.module}: {answer.text}")
            except LorabankError as error:
                seen.answers.append(None)
                seen.said.append(str(error))
    return seen


def use(path: Path, base: Base) -> list[str]:
    """Prune, forget, write and accept, and return the errors of ours."""
    said = []

    def put(bank: Bank) -> None:
        with bank.store.writing(what="soak") as tx:
            tx.put("next", Draft({"note.txt": b"next"}, {}))

    for work in (
        lambda bank: bank.prune(),
        lambda bank: bank.forget(MODULES[1]),
        put,
        lambda bank: bank.store.accept(),
        partial(Bank.forget, what=MODULES[2]),
    ):
        try:
            with Bank(Store.open(path), base, embeds=False) as bank:
                work(bank)
        except LorabankError as error:
            said.append(str(error))
    return said
