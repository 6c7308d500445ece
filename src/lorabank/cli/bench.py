"""`lorabank bench`: how fast we are beside a peer, measured in one run."""

import json as jsonlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lorabank.cli.output import DEFAULT_BASE, BaseName, Device, Json, print_json, say, status


class BenchName(StrEnum):
    """The benches there are."""

    TRAIN = "train"
    RECALL = "recall"
    FLEET = "fleet"
    PREFIX = "prefix"
    ACTIVATED = "activated"
    GENERATE = "generate"
    DECODE = "decode"
    SERVE = "serve"
    BANK = "bank"
    ROUTING = "routing"
    CONTEXT = "context"
    POLICY = "policy"
    DISTILL = "distill"
    SYNTHESISE = "synthesise"
    RETENTION = "retention"
    WORDING = "wording"
    GROWTH = "growth"


_WITHOUT_FACTS = (
    BenchName.ACTIVATED,
    BenchName.DECODE,
    BenchName.GENERATE,
    BenchName.GROWTH,
    BenchName.ROUTING,
    BenchName.SERVE,
    BenchName.SYNTHESISE,
)
_HEADER_KEYS = ("bench", "ratio", "equal", "pairs", "settings", "machine", "base")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """The options of `lorabank bench`."""

    bench: Annotated[BenchName, typer.Argument(help="What to measure.")]
    pairs: Annotated[int, typer.Option(min=1, help="Runs of each side, alternating.")] = 3
    facts: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of facts, for train, recall, prefix, distill, context, fleet, bank, "
            "policy and wording; for retention in a write.",
        ),
    ] = None
    writes: Annotated[int | None, typer.Option(min=1, help="Number of writes, for retention.")] = (
        None
    )
    data: Annotated[
        str | None, typer.Option(help="Facts for retention: phonebook, wikibigedit.")
    ] = None
    arms: Annotated[
        str | None,
        typer.Option(
            help="Arms of retention, by default all: text, read, modules, bank, sequence, replay, "
            "replayed, merged."
        ),
    ] = None
    plot: Annotated[Path | None, typer.Option(help="PNG file to draw retention or growth in.")] = (
        None
    )
    out: Annotated[Path | None, typer.Option(help="File to save the JSON object in.")] = None
    base: BaseName = DEFAULT_BASE
    dtype: Annotated[
        str | None,
        typer.Option(help="bfloat16 or float32; by default the one this machine is fast in."),
    ] = None
    device: Device = None
    json: Json = False


def run(options: BenchOptions) -> None:
    """Time us and the peer side by side: ratio is the peer's seconds over ours.

    The peer of train, recall and generate is plain PEFT on the same data, model and dtype. The
    peer of decode and serve is llama.cpp's server (package xllamacpp), weights in half precision;
    serve starts a server process, asks both over HTTP, and writes a module meanwhile. The peer of
    fleet, prefix, activated, distill and bank (a fleet write) is our own engine without the thing
    measured. The peer of synthesise and of context (a document read once, and what asking a module
    costs) is `model.generate`, one prompt at a time. Routing has no peer: it reports how often the
    right module is found, on the data that LORABANK_DATA names. Policy compares `auto` with each
    answer mode taken for every question. Wording asks stored facts in other words, badly typed and
    about what is not stored, of a written bank, of the lookup alone and of a plain one. Retention
    writes facts that change, and asks what each arm still knows. Growth says how seconds grow with
    facts, rank, layers, modules and candidates.

    Example: lorabank bench recall --json
    """
    from lorabank.bench.benches import run_bench
    from lorabank.engine.backbone.base import load_info
    from lorabank.engine.models.registry import find_model
    from lorabank.errors import UsageError

    out, dtype, bench = options.out, options.dtype, options.bench
    for name, path in (("out", out), ("plot", options.plot)):
        if path and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise UsageError(f"--{name} {path} must be a file in a folder that exists")
    if dtype not in (None, "bfloat16", "float32"):
        raise UsageError(f"--dtype must be bfloat16 or float32, got {dtype!r}")
    if options.facts and bench in _WITHOUT_FACTS:
        raise UsageError(f"--facts does not go with {bench.value}; leave it out")
    logging.getLogger("lorabank.bench").setLevel(logging.INFO)
    sizes = _sizes(options)
    model = load_info(find_model(options.base, progress=status), dtype=dtype, device=options.device)
    result = run_bench(model, bench.value, pairs=options.pairs, **sizes)
    if options.plot:
        from lorabank.bench.growth_plot import growth_png
        from lorabank.bench.retention_plot import retention_png

        draw = growth_png if bench is BenchName.GROWTH else retention_png
        options.plot.write_bytes(draw(result))
    if out:
        out.write_text(jsonlib.dumps(result, indent=2, ensure_ascii=False) + "\n", "utf-8")
    if options.json:
        print_json(result)
        return
    _print_result(result)


def _sizes(options: BenchOptions) -> dict[str, Any]:
    """Return the sizes that were given.

    Raises:
        UsageError: one that the bench does not have.
    """
    from lorabank.errors import UsageError

    of_retention = {
        "writes": options.writes,
        "data": options.data,
        "arms": tuple(options.arms.split(",")) if options.arms else None,
        "plot": options.plot if options.bench is not BenchName.GROWTH else None,
    }
    sizes = {name: size for name, size in of_retention.items() if size}
    if sizes and options.bench is not BenchName.RETENTION:
        name = next(iter(sizes))
        benches = "retention and growth" if name == "plot" else "retention"
        raise UsageError(
            f"--{name} goes with {benches}, not with {options.bench.value}; leave it out"
        )
    sizes.pop("plot", None)
    return sizes | ({"facts": options.facts} if options.facts else {})


def _print_result(result: Mapping[str, Any]) -> None:
    if "ratio" in result:
        say(f"{result['bench']}: {result['ratio']:.2f}x, same results: {_text(result['equal'])}")
    for number, pair in enumerate(result.get("pairs", ()), start=1):
        say(f"  pair {number}: {pair['ours_s']:.2f} s, peer {pair['peer_s']:.2f} s")
    for key, value in result.items():
        if key not in _HEADER_KEYS:
            _print_value(key, value)
    machine = result["machine"]
    say(
        f"{result['base']['name']}, {machine['dtype']}, {machine['device']}, {machine['cpu']}, "
        f"{machine['threads']} threads, torch {machine['torch']}, peft {machine['peft']}, "
        f"{machine['busy_cores_before']} cores busy before"
    )


def _print_value(key: str, value: Any) -> None:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        say(key)
        for row in value:
            say("  " + "  ".join(f"{name} {_text(cell)}" for name, cell in row.items()))
    elif isinstance(value, dict):
        say(f"{key} " + " ".join(f"{name} {_text(cell)}" for name, cell in value.items()))
    else:
        say(f"{key:<28}{_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    return str(value)
