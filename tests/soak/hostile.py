"""Hostile banks: links, pipes, devices and names where files should be.

Whatever is done with such a bank, nothing outside it is read, changed or removed, nothing waits for
ever, and every error is one of ours.
"""

import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lorabank.engine.backbone.base import Base
from lorabank.store.plain_files import FILES, FOLDERS
from lorabank.store.schema import DATABASE

from .model_bank import use, view
from .tally import Tally
from .workplace import TrialError, run_trial

_SECRET = "the words of somebody else"
Attack = Callable[[Path, Path, random.Random], object]


def run(place: Path, base: Base, pristine: Path, *, until: float, rng: random.Random) -> Tally:
    """Attack copies of the bank until a moment of `time.monotonic`."""
    tally = Tally("hostile banks")
    while time.monotonic() < until:
        trial, outside = place / "hostile", place / "outside"
        for folder in (trial, outside):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(pristine, trial)
        (outside / "inner").mkdir(parents=True)
        for name in ("a.txt", ".partial-0123456789abcdef", "inner/b.txt", "c" * 64):
            (outside / name).write_text(_SECRET)
        before = _contents(outside)
        name = rng.choice(list(_ATTACKS))
        _ATTACKS[name](trial, outside, rng)
        try:
            seen = run_trial(partial(view, trial, base))
            said = [*seen.said, *run_trial(partial(use, trial, base))]
            faults = []
            if _SECRET in f"{seen} {said}":
                faults.append("the content of a file outside was shown")
        except TrialError as error:
            faults, said = [str(error)], []
        if _contents(outside) != before:
            faults.append("files outside the bank were changed")
        tally.faults += [f"{name}: {fault}" for fault in faults]
        tally.add(name, "fault" if faults else "refused" if said else "used")
    return tally


def _contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def _remove(path: Path) -> Path:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return path


def _any_file(bank: Path, rng: random.Random, *folders: str) -> Path:
    files = [p for folder in folders for p in sorted((bank / folder).rglob("*")) if p.is_file()]
    return rng.choice(files)


def _link_own(bank: Path, outside: Path, rng: random.Random) -> None:
    name = rng.choice([*FILES, *FOLDERS])
    _remove(bank / name).symlink_to(outside if name in FOLDERS else outside / "a.txt")


def _link_any(bank: Path, outside: Path, rng: random.Random) -> None:
    target = rng.choice([outside / "a.txt", outside, Path("/dev/zero"), outside / "missing"])
    _remove(_any_file(bank, rng, "blobs", "derived")).symlink_to(target)


def _pipe(bank: Path, _: Path, rng: random.Random) -> None:
    own = [bank / name for name in FILES]
    os.mkfifo(_remove(rng.choice([_any_file(bank, rng, "blobs", "derived"), *own])))


def _folder(bank: Path, _: Path, rng: random.Random) -> None:
    own = [bank / name for name in FILES]
    path = _remove(rng.choice([_any_file(bank, rng, "blobs", "derived"), *own]))
    (path / "inner").mkdir(parents=True)


def _added(bank: Path, outside: Path, rng: random.Random) -> None:
    names = ["zz", "aa", ".partial-0123456789abcdef", ".partial-write-abc", "\x1b[2J\x07", "a\nb"]
    folder = rng.choice(["", "blobs", "derived", "trash"])
    (bank / folder).mkdir(exist_ok=True)
    _remove(bank / folder / rng.choice(names)).symlink_to(outside)


def _rows(bank: Path, outside: Path, rng: random.Random) -> None:
    statement, values = rng.choice(
        [
            ("UPDATE files SET sha256 = ?", ("../../outside/a.txt",)),
            ("UPDATE files SET sha256 = ?", (str(outside / "a.txt"),)),
            ("UPDATE modules SET name = ? WHERE id = 1", ("\x1b]0;x\x07../../outside",)),
            ("UPDATE meta SET value = ? WHERE key = 'dropped'", ('["../outside/a.txt"]',)),
            ("UPDATE meta SET value = ? WHERE key = 'emptied'", ('["../../outside"]',)),
            ("UPDATE versions SET record = ?", ("[" * 5000,)),
            ("UPDATE keys SET text = CAST(? AS TEXT)", (b"\xff\xfe",)),
        ]
    )
    db = sqlite3.connect(bank / DATABASE)
    with db:
        db.execute(statement, values)
    db.close()


_ATTACKS: dict[str, Attack] = {
    "a link for a part": _link_own,
    "a link for a file": _link_any,
    "a pipe": _pipe,
    "a folder": _folder,
    "a link beside": _added,
    "rows": _rows,
}
