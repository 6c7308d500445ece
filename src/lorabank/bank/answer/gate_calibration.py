"""Calibration: the gate fitted on the bank as it is, from a sample of its own training questions.

What was found is kept with the generation it was found for; a bank that changes is calibrated again
when it is next asked.
"""

import json
import logging
import random
import time
from dataclasses import asdict, replace

from lorabank.bank.answer.ask import N_CANDIDATES, cases
from lorabank.bank.answer.gate import Gate, fit_gate
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.routers import Router
from lorabank.bank.route.text_index import ModuleTexts
from lorabank.store.records import Version

_log = logging.getLogger(__name__)
N_MODULES = 16
"""Sampled; more are not read before the first answer."""
N_QUESTIONS = 96
"""In all, the same number of each module."""


def calibrate_module_gate(reader: ModuleReader, router: Router, texts: ModuleTexts) -> Gate | None:
    """The gate of the bank's present generation; None for a bank without training questions."""
    # Text scores without an embedder are others: who fits by them may not be judged by these.
    name = "gate.json" if texts.embedder() else "gate-by-words.json"
    if kept := texts.read_derived(name):
        content = json.loads(kept)
        return Gate.from_json(content) if content else None
    started = time.perf_counter()
    asked = _sample(reader)
    gate = None
    if asked:
        _log.info("calibrating the gate on %d questions, once for the bank as it is", len(asked))
        found = cases(reader, asked, router=router, find=reader.store.current, k=N_CANDIDATES)
        gate = replace(fit_gate(found), seconds=time.perf_counter() - started)
    texts.write_derived(name, json.dumps(asdict(gate) if gate else None).encode())
    return gate


def _sample(reader: ModuleReader) -> list[tuple[str, str]]:
    """Modules and some of their questions, in an order that depends on nothing but the bank."""
    versions = [v for v in reader.store.currents() if v.record.get("recall", 0) > 0]
    rng = random.Random(f"calibration/{len(versions)}")
    chosen: list[Version] = rng.sample(versions, min(N_MODULES, len(versions)))
    per_module = max(1, N_QUESTIONS // max(1, len(chosen)))
    asked = []
    for version in chosen:
        missing = set(version.record.get("missing", []))
        keys = [key.text for key in reader.store.keys(version) if key.kind == "question"]
        known = [question for question in keys if question not in missing]
        asked += [(version.module, q) for q in rng.sample(known, min(per_module, len(known)))]
    rng.shuffle(asked)
    return asked
