"""`make soak`: kill writers, damage files, fill disks, attack banks, ask beside a writer, serve.

The exit code is 1 at any silent loss, traceback, wrong answer, or file touched outside a bank.
"""

import argparse
import json
import logging
import os
import random
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would not survive a fork

import torch

from . import crash, damaged, full_disk, hostile, readers, serving
from .model_bank import make_bank, make_bank_with_log
from .tally import Tally
from .workplace import load_tiny, run_trial, temporary_workplace

_SHARES = {
    "crash": 0.25,
    "damaged": 0.25,
    "full disk": 0.1,
    "hostile": 0.1,
    "readers": 0.1,
    "serving": 0.2,
}
"""Share of the time that each part has."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--clients", type=int, default=6, help="of the server")
    parser.add_argument("--part", choices=["all", "serving"], default="all")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)  # forked processes have no others
    logging.disable(logging.WARNING)  # thousands of damaged files have warnings
    started = time.monotonic()
    with temporary_workplace() as place:
        tallies = run(place, options)
    n_faults = sum(len(tally.faults) for tally in tallies)
    minutes = (time.monotonic() - started) / 60
    print(f"{n_faults} faults; seed {options.seed}, {minutes:.1f} minutes")
    if options.json:
        parts = {tally.title: tally.as_json() for tally in tallies}
        figures = {"seed": options.seed, "minutes": round(minutes, 2), "faults": n_faults}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({**figures, "parts": parts}, indent=1) + "\n")
    return int(n_faults > 0)


def run(place: Path, options: argparse.Namespace) -> list[Tally]:
    """Run all parts, print each as it ends, and return their figures."""
    base, seconds = load_tiny(place), 60 * options.minutes
    serve = partial(serving.run, place, base, clients=options.clients, seed=options.seed)
    if options.part == "serving":
        tally = serve(seconds=seconds)
        tally.show()
        return [tally]
    pristine, killed = place / "pristine", place / "killed"
    run_trial(lambda: make_bank(pristine, base))
    make_bank_with_log(killed, pristine)
    tallies = []

    def show(tally: Tally) -> None:
        tally.show()
        tallies.append(tally)

    def ends(part: str) -> float:
        return time.monotonic() + _SHARES[part] * seconds

    def rng(part: str) -> random.Random:
        return random.Random(f"{part}/{options.seed}")

    test = crash.CrashTest(place, base, seed=options.seed)
    show(crash.report(test.run(until=ends("crash"))))
    banks = {"closed": pristine, "killed": killed}
    show(damaged.run(place, base, banks, until=ends("damaged"), rng=rng("damaged")))
    show(full_disk.run(place, base, pristine, until=ends("full disk"), rng=rng("full disk")))
    show(hostile.run(place, base, pristine, until=ends("hostile"), rng=rng("hostile")))
    share = _SHARES["readers"] * seconds
    show(readers.run(place, readers=options.readers, seconds=share, seed=options.seed))
    show(serve(seconds=_SHARES["serving"] * seconds))
    return tallies


raise SystemExit(main())
