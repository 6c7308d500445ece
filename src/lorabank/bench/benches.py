"""All benches by name, and the one JSON object each gives."""

import time
from collections.abc import Callable
from typing import Any

from lorabank.bench.bank import bench_bank
from lorabank.bench.caching import bench_activated, bench_prefix
from lorabank.bench.context import bench_context
from lorabank.bench.distill import bench_distill
from lorabank.bench.pairs import describe_machine, today
from lorabank.bench.policy import bench_policy
from lorabank.bench.reading import bench_generate, bench_recall
from lorabank.bench.routing import bench_routing
from lorabank.bench.setup import warm_up
from lorabank.bench.synthesise import bench_synthesise
from lorabank.bench.writing import bench_fleet, bench_train
from lorabank.engine.backbone.base import Base

BENCHES: dict[str, Callable[..., dict[str, Any]]] = {
    "train": bench_train,
    "recall": bench_recall,
    "fleet": bench_fleet,
    "prefix": bench_prefix,
    "activated": bench_activated,
    "generate": bench_generate,
    "bank": bench_bank,
    "routing": bench_routing,
    "context": bench_context,
    "policy": bench_policy,
    "distill": bench_distill,
    "synthesise": bench_synthesise,
}


def run_bench(base: Base, name: str, *, pairs: int, **sizes: Any) -> dict[str, Any]:
    """Run one bench; `sizes` are what it takes beyond its defaults.

    The machine is described first: how busy it is with other work counts before the run.
    """
    machine, started = describe_machine(base), time.perf_counter()
    warm_up(base)
    result = BENCHES[name](base, pairs=pairs, **sizes)
    seconds = time.perf_counter() - started
    return {**result, "machine": machine, "date": today(), "bench_seconds": seconds}
