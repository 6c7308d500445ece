"""The shrinking of an adapter folder, into another folder that PEFT reads."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lorabank.engine.adapters.adapter import (
    Adapter,
    check_output_folder,
    load_adapter,
    read_config,
    save_adapter,
    weight_bytes,
)
from lorabank.engine.backbone.base import Base
from lorabank.engine.shrink import ShrinkSettings, forms_to_keep, shrink
from lorabank.errors import UsageError
from lorabank.tasks.examples import ExampleLike, as_examples
from lorabank.tasks.made_wordings import reword


def check_folder_dtype(settings: ShrinkSettings) -> None:
    """Refuse a dtype that PEFT does not read from a folder.

    Raises:
        UsageError: it is int8.
    """
    if settings.dtype == "int8":
        raise UsageError(
            "--dtype int8 is for modules of a bank, as PEFT reads no int8 from a folder; take "
            "bf16, or import the folder and shrink the module"
        )


def shrink_folder(
    base: Base,
    folder: Path,
    facts: Iterable[ExampleLike],
    *,
    out: Path,
    settings: ShrinkSettings,
) -> dict[str, Any]:
    """Write the smallest form of an adapter that keeps its recall of facts to another folder.

    Args:
        facts: those it was taught; rules make held-out wordings as they did for the adapter.

    Returns:
        Bytes before and after, and what was proved, as `lorabank shrink --json` prints it.

    Raises:
        UsageError: no facts, a folder that is not empty, int8, or no form that keeps recall.
        AdapterError: the folder has no adapter of this base that can be read.
    """
    check_folder_dtype(settings)
    check_output_folder(out)
    examples = as_examples(facts)
    if not examples:
        raise UsageError("there is nothing to prove recall by: give at least one fact")
    adapter, config = load_adapter(folder, base), read_config(folder)
    trained = adapter.record.get("settings", {})
    n_wordings = trained.get("wordings", 0)
    examples = reword(examples, n_wordings if isinstance(n_wordings, int) else 0)
    recipe = str(trained.get("recipe", "sound"))
    forms = forms_to_keep(base, examples, recipe, activated=adapter.activated)
    shrunk = shrink(base, adapter, forms, settings)
    record = {**adapter.record, "shrunk": shrunk.as_json()}
    small = shrunk.adapter
    n_bytes = save_adapter(
        out,
        Adapter(small.weights, small.r, small.alpha, small.activated, record),
        base=base,
        dropout=float(config.get("lora_dropout") or 0),
        packed=shrunk.packed,
    )
    return {
        "adapter": str(out),
        "bytes_before": weight_bytes(folder),
        "bytes_after": n_bytes,
        "shrunk": shrunk.as_json(),
    }
