"""`make soak`: kill writers and run readers; the exit code is 1 if the bank has a fault."""

import argparse
import os
import time

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would not survive a fork

import torch

from . import crash, readers
from .workplace import load_tiny, temporary_workplace


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the readers ask")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # forked processes have no others
    with temporary_workplace() as place:
        started = time.perf_counter()
        base = load_tiny(place)
        faults = crash.report(crash.CrashTest(place, base, seed=options.seed).run(options.kills))
        faults += readers.run(
            place, readers=options.readers, seconds=options.seconds, seed=options.seed
        )
        print(f"seed {options.seed}, {time.perf_counter() - started:.0f} s")
    return int(faults > 0)


raise SystemExit(main())
