"""How torch's threads wait for each other, chosen by how busy the machine is at the start.

Between two operators OpenMP's threads either spin or sleep. Spinning is the faster way on an idle
machine (SmolLM2-135M training step on 2 cores: 0.93 s against 1.5 s asleep) and the slower one
beside another busy process (2.9 s against 1.7 s): the spinning thread takes the core its partner
needs. See docs/LOG.md.
"""

import os
import sys
import time
from pathlib import Path

_STAT = Path("/proc/stat")
_SAMPLE_S = 0.1
_BUSY_CORES = 0.3  # of other processes; below this nobody is hurt by spinning


def choose_openmp_wait_policy() -> None:
    """Let threads sleep if others need the cores. What the user set in OMP_WAIT_POLICY wins.

    Without effect once torch is imported: the OpenMP runtime reads its settings only once.
    """
    if "OMP_WAIT_POLICY" in os.environ or "torch" in sys.modules or not _STAT.exists():
        return
    if busy_cores() > _BUSY_CORES:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "0")


def busy_cores() -> float:
    """How many cores' worth of work the rest of the machine does right now."""
    work, total = _ticks()
    time.sleep(_SAMPLE_S)
    later_work, later_total = _ticks()
    share = (later_work - work) / max(1, later_total - total)
    return share * (os.cpu_count() or 1)


def _ticks() -> tuple[int, int]:
    """Busy and all clock ticks since boot, over all cores."""
    fields = [int(field) for field in _STAT.read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]  # idle and waiting for input or output
    return sum(fields) - idle, sum(fields)
