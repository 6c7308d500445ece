"""The tables of docs/performance.md and of the README, from the newest result of each bench.

A table stands between the lines

    <!-- NAME: made from bench/results -->
    <!-- end of NAME -->

and `python -m lorabank.bench.performance_page` in a checkout writes all of them anew.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PAGES = ("docs/performance.md", "README.md")
RESULTS = "bench/results"
Results = Mapping[str, Mapping[str, Any]]
_BLOCK = re.compile(
    r"(<!-- ([a-z]+): made from bench/results -->\n).*?(<!-- end of \2 -->)", re.DOTALL
)
_RATIOS = (
    ("train", "ratio", "train, 96 facts to 98 % recall", "PEFT, padded, full logits"),
    ("train", "paper_ratio", "the same", "the paper's 1,500 steps by PEFT's step time"),
    ("recall", "ratio", "recall of 200 half-learned facts", "PEFT, generating 32 at a time"),
    ("recall", "ratio_prompts_kept", "the same with prompts kept", "the same"),
    ("generate", "ratio", "generate, 32 prompts over 16 adapters", "PEFT `adapter_names`"),
    ("decode", "ratio", "decode, one module, one row", "llama.cpp in half precision"),
    ("decode", "ratio_bare", "decode, the bare model", "the same"),
    ("decode", "ratio_16_modules", "decode, 16 modules with a row each", "the same"),
    ("fleet", "ratio", "fleet, 16 adapters of r=4", "ours, one after the other"),
    ("prefix", "ratio", "prefix, last 4 of 30 layers", "ours without the cached layers"),
    ("prefix", "steady_ratio", "the same once the cache is full", "the same"),
    ("activated", "ratio", "activated, 12 exposures", "ours without the cached prompt"),
    ("activated", "ratio_512", "the same with a 512-token prompt", "the same"),
    (
        "distill",
        "ratio",
        "distill, 16 answers on a 2,048-token document",
        "the teacher computed anew at each step",
    ),
    (
        "context",
        "ratio",
        "context, 30 questions on 6,012 tokens",
        "`model.generate`, reading it each time",
    ),
    ("synthesise", "ratio", "synthesise, 32 requests to the local base", "`model.generate`"),
    ("bank", "ratio", "write 16 modules in one fleet", "one by one"),
)
"""Bench, key of its result, what is timed, and the peer."""
_SPEED = (
    ("train", "ratio"),
    ("recall", "ratio"),
    ("generate", "ratio"),
    ("decode", "ratio"),
    ("decode", "ratio_16_modules"),
)
"""Rows of the README's table."""


def newest_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the newest result of each bench by its name; later files of a day come last."""
    results = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text("utf-8"))
        results[result["bench"]] = {**result, "file": path.name}
    return results


def fill_tables(text: str, results: Results) -> str:
    """Return a page with its tables as the results say.

    Raises:
        KeyError: it has a table of a name that none has.
    """

    def fill(block: re.Match[str]) -> str:
        lines = "\n".join(_TABLES[block[2]](results))
        return f"{block[1]}\n{lines}\n\n{block[3]}" if lines else f"{block[1]}{block[3]}"

    return _BLOCK.sub(fill, text)


def _ratios(results: Results) -> Iterator[str]:
    yield from _ratio_rows(results, _RATIOS)


def _speed(results: Results) -> Iterator[str]:
    yield from _ratio_rows(results, [r for r in _RATIOS if r[:2] in _SPEED])


def _ratio_rows(results: Results, rows: Sequence[tuple[str, str, str, str]]) -> Iterator[str]:
    yield "| what | against | ratio | measured on |"
    yield "|---|---|---|---|"
    for bench, key, what, peer in rows:
        result = results.get(bench)
        if result is not None and key in result:
            yield f"| {what} | {peer} | {_short(result[key])} | {_measured(result)} |"


def _growth(results: Results) -> Iterator[str]:
    result = results.get("growth")
    if result is None:
        return
    yield f"Measured with {result['base']['name']} on {_measured(result)}:"
    yield ""
    yield "| what | by | sizes | seconds | exponent | runs |"
    yield "|---|---|---|---|---|---|"
    for row in result["rows"]:
        sizes = ", ".join(f"{size:,}" for size in row["sizes"])
        seconds = ", ".join(_short(second) for second in row["seconds"])
        exponent = "" if row["exponent"] is None else f"{row['exponent']:.2f}"
        cells = (row["what"], row["of"], sizes, seconds, exponent, str(row["rounds"]))
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "![Seconds by size of training, asking and the bank](images/growth.png)"


def _measured(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    name = machine["cpu"] if machine["device"] == "cpu" else machine["device"]
    plain = " ".join(name.replace("(R)", "").replace("Processor", "").split())
    n = machine["threads"]
    threads = f"{n} thread{'s' if n != 1 else ''}"
    pairs = len(result.get("pairs", ()))
    run = f", {pairs} pair{'s' if pairs != 1 else ''}" if pairs else ""
    return f"{plain}, {threads}, {machine['dtype']}{run}, {result['date']}"


def _short(value: float) -> str:
    """Return a number to two or three digits, without a zero before the point."""
    digits = (
        f"{value:.3g}" if 1 <= value < 1000 else f"{value:.2g}" if value < 1 else f"{value:.0f}"
    )
    if "e" in digits:
        digits = f"{value:.6f}".rstrip("0")
    return digits.removeprefix("0") if digits.startswith("0.") else digits


_TABLES: dict[str, Callable[[Results], Iterator[str]]] = {
    "ratios": _ratios,
    "speed": _speed,
    "growth": _growth,
}


def main() -> None:
    """Write the tables of all pages below the folder that this is run in."""
    results = newest_results(Path(RESULTS))
    for page in map(Path, PAGES):
        page.write_text(fill_tables(page.read_text("utf-8"), results), "utf-8")


if __name__ == "__main__":
    main()
