"""`make soak`: the bank under kills and under readers; the exit code says whether it held."""

import argparse
import os
import time

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would not survive a fork

import torch

from . import crash, readers
from .scene import load_tiny, workplace


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0, help="for which they ask")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)  # forked processes have no others
    with workplace() as place:
        started = time.perf_counter()
        base = load_tiny(place)
        faults = crash.report(crash.Crash(place, base, seed=given.seed).run(given.kills))
        faults += readers.run(place, readers=given.readers, seconds=given.seconds, seed=given.seed)
        print(f"seed {given.seed}, {time.perf_counter() - started:.0f} s")
    return int(faults > 0)


raise SystemExit(main())
