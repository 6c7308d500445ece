"""`python -m tests.fuzz`: damaged inputs for every parser; the exit code is 1 if one is a fault.

    --n 20000     inputs of each target
    --seed 0      of the damage
    --only NAME   targets whose names contain this

A fault is printed with its number and written to a file; anything but a value or one of our own
errors within 5 s and 1 GB is one.
"""

import argparse
import tempfile
import time
from pathlib import Path

from .runner import report, run
from .targets import all_targets


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--n", type=int, default=500, help="inputs of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="targets whose names contain this")
    options = parser.parse_args()
    folder = Path(tempfile.gettempdir()) / "lorabank-fuzz"
    n_inputs = n_faults = 0
    for target in all_targets():
        if options.only in target.name:
            started = time.perf_counter()
            faults = run(target, options.n, seed=options.seed)
            seconds = time.perf_counter() - started
            print(
                f"{target.name:<24}{options.n:>8,} inputs {len(faults):>6} faults {seconds:6.0f} s"
            )
            report(target, faults, seed=options.seed, folder=folder)
            n_inputs, n_faults = n_inputs + options.n, n_faults + len(faults)
    print(f"{n_inputs:,} inputs, {n_faults} faults, seed {options.seed}")
    return int(n_faults > 0 or n_inputs == 0)


raise SystemExit(main())
