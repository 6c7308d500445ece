"""The axes of studies about long documents: which adapter, which text, and what each costs.

A document can be known by one adapter, by one for each chunk of it (routed, the first or the first
few merged), by text in the prompt, or by both; each with a random other module in the adapter's
place as the control (questions 12 to 15 of arXiv:2603.01097). Chunk adapters together are as large
as the document's one: its rank is theirs times their number.
"""

import json
from collections.abc import Mapping
from typing import Any

from lorabank.engine.training.settings import lr_for
from lorabank.errors import UsageError
from lorabank.lora.merge import RULES
from lorabank.study.capacity.axes import Axis, Value, check, is_int, is_number, is_one_of, is_text

CHRONICLE = "chronicle"
PUBLISHED = ("narrativeqa", "quality", "infinitebench", "longbench", "locomo", "longmemeval")
TASKS = (CHRONICLE, "books", *PUBLISHED)
ANSWERS, LATENCY = "answers", "latency"
MEASURES = (ANSWERS, LATENCY)
NONE, DOCUMENT, CHUNK, MERGED = "none", "document", "chunk", "merged"
ADAPTERS = (NONE, DOCUMENT, CHUNK, MERGED)
RAG, ICL = "rag", "icl"
TEXTS = (NONE, RAG, ICL)
ORACLE = "oracle"
ROUTERS = (ORACLE, "bm25", "dense", "hybrid")
_ROUTED = (CHUNK, MERGED)

LIBRARY: Mapping[str, Axis] = {
    "task": Axis(", ".join(TASKS), is_one_of(*TASKS), CHRONICLE),
    "documents": Axis("2 to 1,000", is_int(2, 1000), 3),
    "length": Axis("350 to 1,000,000 tokens of a document", is_int(350, 1_000_000), 2000),
    "chunk_tokens": Axis("50 to 8,192", is_int(50, 8192), 512),
    "overlap": Axis("0 to 0.5 of a chunk", lambda v: v == 0 or is_number(0, 0.5)(v), 0.1),
    "questions": Axis("1 to 1,000 of each kind, for each document", is_int(1, 1000), 10),
    "r": Axis("1 to 256: of a chunk's adapter", is_int(1, 256), 4),
    "layers": Axis("0-15, last-10, first-4, 3,5,7 or all", is_text, "all"),
    "activated": Axis("true or false", lambda v: isinstance(v, bool), True),
    "exposures": Axis("1 to 100,000", is_int(1, 100_000), 20),
    "lr": Axis("above 0, at most 1; by rank by default", is_number(0, 1)),
    "batch_size": Axis("1 to 4,096", is_int(1, 4096), 8),
    "seed": Axis("0 or more", is_int(0, 2**31), 0),
}
READING: Mapping[str, Axis] = {
    "measure": Axis(" or ".join(MEASURES), is_one_of(*MEASURES), "answers"),
    "adapter": Axis(", ".join(ADAPTERS), is_one_of(*ADAPTERS), NONE),
    "random": Axis("true or false: another document's in its place", lambda v: isinstance(v, bool)),
    "text": Axis(", ".join(TEXTS), is_one_of(*TEXTS), NONE),
    "router": Axis(", ".join(ROUTERS), is_one_of(*ROUTERS), "hybrid"),
    "k": Axis("1 to 100: chunks merged, or put in the prompt", is_int(1, 100), 3),
    "rule": Axis(", ".join(RULES), is_one_of(*RULES), "ties"),
    "norm": Axis("published or matched", is_one_of("published", "matched"), "matched"),
    "written": Axis("0 to 1,000: answers written out, of each document", is_int(0, 1000), 0),
    "new_tokens": Axis("1 to 4,096", is_int(1, 4096), 24),
    "preloaded": Axis("true or false: adapters in memory", lambda v: isinstance(v, bool), True),
    "kept": Axis("true or false: a document is read once", lambda v: isinstance(v, bool), True),
}
AXES: Mapping[str, Axis] = {**LIBRARY, **READING}


def resolve(given: Mapping[str, Any]) -> dict[str, Value]:
    """A whole cell from the keys given.

    Raises:
        UsageError: an unknown key or value, or two that do not go together.
    """
    for name, value in given.items():
        check(name, value, AXES)
    cell = {name: given.get(name, axis.default) for name, axis in AXES.items()}
    cell["random"] = bool(cell["random"])
    if cell["random"] and cell["adapter"] == NONE:
        raise UsageError(
            "random puts another document's adapter in the place, got adapter=none; set adapter to "
            "document, chunk or merged, or leave random out"
        )
    if cell["router"] == ORACLE and cell["task"] != CHRONICLE:
        raise UsageError(
            f"nobody knows where {cell['task']} has its answers; take router bm25, dense or hybrid"
        )
    is_routed = cell["adapter"] in _ROUTED or cell["text"] == RAG
    is_latency = cell["measure"] == LATENCY
    is_always_on = cell["adapter"] != NONE and not cell["activated"]  # and reads all by itself
    unused = {
        "rule": cell["adapter"] != MERGED,
        "norm": cell["adapter"] != MERGED,
        "router": not is_routed,
        "k": cell["adapter"] != MERGED and cell["text"] != RAG,
        "new_tokens": not (cell["written"] or is_latency),
        "written": is_latency,
        "preloaded": not is_latency or cell["adapter"] not in _ROUTED,
        "kept": not is_latency or cell["text"] != ICL or is_always_on,
    }
    cell |= {name: None for name, is_off in unused.items() if is_off}
    cell["overlap"] = float(cell["overlap"])
    cell["lr"] = float(cell["lr"] or lr_for(int(cell["r"])))
    return cell


def library_key(values: Mapping[str, Any]) -> str:
    """The same for cells that read the same adapters and are asked the same."""
    return json.dumps([values[name] for name in LIBRARY])


def way_of(values: Mapping[str, Any]) -> str:
    """How a cell answers, in a few words."""
    adapter = {MERGED: f"top-{values['k']} merged", CHUNK: "top-1"}.get(
        values["adapter"], values["adapter"]
    )
    if values["random"]:
        adapter = f"random {adapter}"
    if values["text"] == NONE:
        return "bare" if values["adapter"] == NONE else str(adapter)
    return str(values["text"]) if values["adapter"] == NONE else f"{adapter} + {values['text']}"


def short_name(values: Mapping[str, Value]) -> str:
    """What cells usually differ in."""
    parts = [values["task"], f"n{values['length']}", way_of(values).replace(" + ", "+")]
    parts += [values["rule"], values["norm"]] if values["adapter"] == MERGED else []
    parts += [values["router"]] if values["router"] not in (None, "hybrid") else []
    parts += [] if values["activated"] else ["always-on"]
    parts += ["dynamic"] if values["preloaded"] is False else []
    parts += ["reread"] if values["kept"] is False else []
    parts += ["latency"] if values["measure"] == LATENCY else []
    return "-".join(str(part).replace(" ", "-") for part in [*parts, f"s{values['seed']}"])
