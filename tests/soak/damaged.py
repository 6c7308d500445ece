"""Damage to every kind of file: a bank may refuse, may say what is lost, and never loses silently.

Each trial damages one file of a copy. Then a process reads all that it can. What differs from the
whole bank must have been said; a derived file, a lock, a reserve or the trash may make no
difference at all; and no other file may be gone.
"""

import random
import shutil
import time
from functools import partial
from pathlib import Path

from lorabank.engine.backbone.base import Base
from lorabank.store.blobs import blob_path
from lorabank.store.derived import write_derived
from lorabank.store.schema import DATABASE

from .damage import DAMAGES
from .model_bank import View, view
from .tally import Tally
from .workplace import TrialError, run_trial

_NO_LOSS = ("derived", "lock", "reserve", "trash")
_FORGED = (b"", b"[1]", b"{}\n", b'{"mean": [1]}\n', b"null\nPK\x03\x04")


def run(
    place: Path, base: Base, banks: dict[str, Path], *, until: float, rng: random.Random
) -> Tally:
    """Damage copies of the banks until a moment of `time.monotonic`.

    Args:
        banks: `closed`, and `killed` with a log that was not emptied.
    """
    tally = Tally("damaged files")
    whole: dict[str, View] = {}
    for name, bank in banks.items():
        copy = _copy(bank, place)
        whole[name] = run_trial(partial(view, copy, base))
    while time.monotonic() < until:
        name = rng.choice(list(banks))
        trial = _copy(banks[name], place)
        (trial / "trash").mkdir(exist_ok=True)
        (trial / "trash" / "left.0123abcd").write_bytes(b"left by a killed writer")
        kind = rng.choice(list(_kinds(trial)))
        path = rng.choice(_kinds(trial)[kind])
        damage = rng.choice(DAMAGES)
        what = f"{damage.__name__} {path.relative_to(trial)} of the {name} bank"
        if kind == "derived" and rng.random() < 0.3:
            content = rng.choice(_FORGED)
            names = path.relative_to(trial / "derived").with_suffix("").parts
            write_derived(trial, *names, content=content)
            what = f"forged {path.relative_to(trial)}: {content!r}"
        else:
            damage(path, rng)
        try:
            seen = run_trial(partial(view, trial, base))
            faults = _judge(kind, seen, whole[name])
            faults += _find_missing(trial, whole[name], damaged=path)
        except TrialError as error:
            faults, seen = [str(error)], View()
        tally.faults += [f"{what}: {fault}" for fault in faults]
        is_same = (seen.versions, seen.answers) == (whole[name].versions, whole[name].answers)
        outcome = "fault" if faults else "said" if seen.said else "no loss" if is_same else "?"
        tally.add(kind, outcome)
    return tally


def _kinds(bank: Path) -> dict[str, list[Path]]:
    """Return the files of a bank by kind."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(bank.rglob("*")):
        if path.is_file() and path.stat().st_size:
            kind = path.relative_to(bank).parts[0]
            kinds.setdefault(kind, []).append(path)
    return kinds


def _judge(kind: str, seen: View, whole: View) -> list[str]:
    """Return what differs without a word, or at all where nothing may differ."""
    differences = []
    if seen.versions != whole.versions:
        lost = sorted(whole.versions.keys() - seen.versions.keys())
        differences.append(f"silent loss of {lost or 'files of versions'}")
    if seen.answers != whole.answers:
        differences.append(f"other answers: {seen.answers}, not {whole.answers}")
    return differences if kind in _NO_LOSS or not seen.said else []


def _find_missing(bank: Path, whole: View, *, damaged: Path) -> list[str]:
    """Return the stored files that are neither in their place nor in the trash."""
    hashes = {digest for files in whole.versions.values() for digest in files.values()}
    in_trash = " ".join(path.name for path in (bank / "trash").rglob("*"))
    return [
        f"{path.relative_to(bank)} is gone"
        for path in sorted(blob_path(bank, digest) for digest in hashes)
        if path != damaged and not path.exists() and path.name not in in_trash
    ]


def _copy(bank: Path, place: Path) -> Path:
    trial = place / "damaged"
    shutil.rmtree(trial, ignore_errors=True)
    shutil.copytree(bank, trial)
    assert (trial / DATABASE).exists()
    return trial
