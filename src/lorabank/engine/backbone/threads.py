"""The choice of how torch's threads wait for each other, by the load of the machine at the start.

Between two operators OpenMP's threads either spin or sleep. On an idle machine spinning is faster
(a training step of SmolLM2-135M on 2 cores takes 0.93 s, against 1.5 s asleep). Beside another busy
process it is slower (2.9 s against 1.7 s), because the spinning thread occupies a core that another
thread needs. See docs/LOG.md.
"""

import os
import sys
import time
from pathlib import Path

_STAT = Path("/proc/stat")
_SAMPLE_S = 0.1
_BUSY_CORES = 0.3  # load of other processes up to which spinning does no harm


def choose_openmp_wait_policy() -> None:
    """Let threads sleep if other processes need the cores, unless the user set OMP_WAIT_POLICY.

    This has no effect once torch is imported, as the OpenMP runtime reads its settings only once.
    """
    if "OMP_WAIT_POLICY" in os.environ or "torch" in sys.modules or not _STAT.exists():
        return
    if busy_cores() > _BUSY_CORES:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "0")


def busy_cores() -> float:
    """Return how many cores are busy now, measured over a tenth of a second."""
    work, total = _ticks()
    time.sleep(_SAMPLE_S)
    later_work, later_total = _ticks()
    share = (later_work - work) / max(1, later_total - total)
    return share * (os.cpu_count() or 1)


def _ticks() -> tuple[int, int]:
    """Return the busy and the total clock ticks since boot, over all cores."""
    fields = [int(field) for field in _STAT.read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]  # idle and waiting for input or output
    return sum(fields) - idle, sum(fields)
