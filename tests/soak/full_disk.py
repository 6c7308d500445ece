"""Full disks: an operation is done or refused in one line, the bank is whole, and it can be freed.

Each trial has a disk of its own, made of memory, in a mount namespace that nobody else sees. Where
that is not allowed, a limit on the size of files stands in for it.
"""

import ctypes
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lorabank.bank.bank import Bank
from lorabank.engine.backbone.base import Base
from lorabank.errors import LorabankError
from lorabank.store.store import Store

from .inspection import inspect_bank
from .model_bank import MODULES
from .operations import KINDS, Planner
from .tally import Tally
from .workplace import TrialError, run_trial

_NEW_MOUNTS, _NEW_USER = 0x20000, 0x10000000  # flags of unshare(2)
_DISK_BYTES = 12 << 20
_MOST_FREE = 300 << 10


@dataclass
class _Outcome:
    """What became of an operation on a full disk."""

    kind: str
    label: str
    faults: list[str] = field(default_factory=list)


def run(place: Path, base: Base, pristine: Path, *, until: float, rng: random.Random) -> Tally:
    """Run operations on full disks until a moment of `time.monotonic`."""
    tally = Tally("full disks")
    disk = place / "disk"
    disk.mkdir(exist_ok=True)
    while time.monotonic() < until:
        seed = rng.randrange(1 << 30)
        try:
            outcome = run_trial(partial(_try, disk, base, pristine, seed))
        except TrialError as error:
            outcome = _Outcome("any", "fault", [str(error)])
        tally.faults += [f"{outcome.kind}, seed {seed}: {fault}" for fault in outcome.faults]
        tally.add(outcome.kind, "fault" if outcome.faults else outcome.label)
        shutil.rmtree(disk / "bank", ignore_errors=True)  # of a limit; a mount goes by itself
    return tally


def _try(disk: Path, base: Base, pristine: Path, seed: int) -> _Outcome:
    rng = random.Random(seed)
    is_mounted = _mount(disk)
    bank = disk / "bank"
    shutil.copytree(pristine, bank)
    before = inspect_bank(bank, base, {}, forgotten=set())
    planner = Planner(rng)
    kind = rng.choice(KINDS)
    if planner.find_prerequisite(kind, before.modules):
        kind = "rewrite"
    operation = planner.plan(kind, before.modules)
    n_free = rng.choice([0, rng.randrange(4096), rng.randrange(_MOST_FREE)])
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    if is_mounted:
        _fill(disk / "ballast", n_free)
    else:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_free, limit[1]))
    outcome = _Outcome(kind, "done")
    try:
        with Bank(Store.open(bank), base, embeds=False) as opened:
            operation.run(opened)
    except LorabankError:
        outcome.label = "refused"
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    after = inspect_bank(bank, base, {}, forgotten=set())
    is_done = operation.is_done(before.modules, after.modules)
    if not is_done and after.modules != before.modules:
        outcome.faults.append(f"neither as before nor as after: {after.modules}")
    if is_done != (outcome.label == "done"):
        outcome.faults.append(f"it was {outcome.label}, and the bank says otherwise")
    outcome.faults += after.faults
    left = next(name for name in MODULES if name in after.modules)
    try:  # whatever is full, it can be freed
        with Bank(Store.open(bank), base, embeds=False) as opened:
            opened.forget(left)
    except LorabankError as error:
        outcome.faults.append(f"forget was refused: {error}")
    with Store.open(bank) as store:
        outcome.faults += [f"verify found {fault}" for fault in store.verify()]
    return outcome


def _mount(disk: Path) -> bool:
    """Mount a disk of memory that this process alone sees, if that is allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEW_MOUNTS):
        if libc.unshare(_NEW_MOUNTS | _NEW_USER):
            return False
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    commands = (
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(disk)],
    )
    return all(
        subprocess.run(c, check=False, capture_output=True).returncode == 0 for c in commands
    )


def _fill(ballast: Path, n_free: int) -> None:
    """Fill the disk up to some bytes."""
    n_bytes = shutil.disk_usage(ballast.parent).free - n_free
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, n_bytes))
