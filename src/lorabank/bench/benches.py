"""All benches by name. Each returns one JSON object."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lorabank.bench.bank_recall import BankSizes, bench_bank
from lorabank.bench.caching import ActivatedSizes, PrefixSizes, bench_activated, bench_prefix
from lorabank.bench.context import ContextSizes, bench_context
from lorabank.bench.cost_growth import GrowthSizes, bench_growth
from lorabank.bench.decoding import DecodeSizes, bench_decode
from lorabank.bench.distill import DistillSizes, bench_distill
from lorabank.bench.local_generation import GenerationSizes, bench_synthesise
from lorabank.bench.pairs import describe_machine, today
from lorabank.bench.policy_score import PolicySizes, bench_policy
from lorabank.bench.reading import GenerateSizes, RecallSizes, bench_generate, bench_recall
from lorabank.bench.retention import RetentionSizes, bench_retention
from lorabank.bench.rewording import WordingSizes, bench_wording
from lorabank.bench.routing import RoutingSizes, bench_routing
from lorabank.bench.serving import ServeSizes, bench_serve
from lorabank.bench.setup import warm_up
from lorabank.bench.writing import FleetSizes, TrainSizes, bench_fleet, bench_train
from lorabank.engine.backbone.base import Base


@dataclass(frozen=True, slots=True)
class Bench:
    """A bench: the function that runs it and the dataclass of its sizes."""

    run: Callable[..., dict[str, Any]]
    sizes: type[Any]


BENCHES: dict[str, Bench] = {
    "train": Bench(bench_train, TrainSizes),
    "recall": Bench(bench_recall, RecallSizes),
    "fleet": Bench(bench_fleet, FleetSizes),
    "prefix": Bench(bench_prefix, PrefixSizes),
    "activated": Bench(bench_activated, ActivatedSizes),
    "generate": Bench(bench_generate, GenerateSizes),
    "decode": Bench(bench_decode, DecodeSizes),
    "serve": Bench(bench_serve, ServeSizes),
    "bank": Bench(bench_bank, BankSizes),
    "routing": Bench(bench_routing, RoutingSizes),
    "context": Bench(bench_context, ContextSizes),
    "policy": Bench(bench_policy, PolicySizes),
    "distill": Bench(bench_distill, DistillSizes),
    "synthesise": Bench(bench_synthesise, GenerationSizes),
    "retention": Bench(bench_retention, RetentionSizes),
    "wording": Bench(bench_wording, WordingSizes),
    "growth": Bench(bench_growth, GrowthSizes),
}


def run_bench(base: Base, name: str, *, pairs: int, **sizes: Any) -> dict[str, Any]:
    """Run one bench and return its JSON object.

    Args:
        sizes: fields of the bench's sizes that differ from their defaults.
    """
    bench, started = BENCHES[name], time.perf_counter()
    machine = describe_machine(base)  # before the run: it says how busy other work keeps it
    warm_up(base)
    result = bench.run(base, pairs=pairs, sizes=bench.sizes(**sizes))
    seconds = time.perf_counter() - started
    return {**result, "machine": machine, "date": today(), "bench_seconds": seconds}
