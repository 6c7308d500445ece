"""Modules as files of other runtimes: llama.cpp, vLLM, SGLang, and merged models.

An activated module is refused where a runtime would refuse it or run it on every token, unless it
is to be converted (`engine/always_on.py`): then its examples are its teacher, and what the
converted adapter recalls is in the record that goes with it. PEFT's own folder, from which a module
can be imported again, is written by `transfer.py`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

from safetensors.torch import load, save

from lorabank.bank.drafts import EXAMPLES
from lorabank.bank.module_reader import ModuleReader, read_object
from lorabank.bank.write.transfer import export_module
from lorabank.engine.adapters.adapter import (
    CONFIG,
    RECORD,
    TENSORS,
    Adapter,
    check_output_folder,
    save_adapter,
    staged_folder,
)
from lorabank.engine.adapters.packed import as_floats, tensor_name
from lorabank.engine.always_on import Conversion, convert_to_always_on
from lorabank.engine.inference.recall_check import REWORDED
from lorabank.engine.runtimes.gguf_files import write_adapter
from lorabank.engine.runtimes.merged_model import check_can_merge, write_merged
from lorabank.engine.runtimes.served_folder import (
    ENGINES,
    as_served,
    check_always_on,
    encode_config,
)
from lorabank.engine.training.train import OnStep
from lorabank.errors import UsageError, did_you_mean
from lorabank.store.records import Version
from lorabank.store.store import Store

Runtime = Literal["peft", "gguf", "vllm", "sglang", "merged"]
GGUF = "adapter.gguf"
_BASE_NAME = "base_model_name_or_path"
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """The choices of an export."""

    runtime: Runtime = "peft"
    always_on: bool = False
    """Whether an activated module is converted first."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """A module as it was exported."""

    module: str
    version: int
    runtime: Runtime
    folder: str
    conversion: Conversion | None = None
    """Measurement of its conversion to an always-on adapter; None where that was not asked for."""

    def as_json(self) -> dict[str, Any]:
        """Return the fields; there is a conversion only where one was asked for."""
        values = {name: getattr(self, name) for name in ("module", "version", "folder")}
        values["to"] = self.runtime
        return values | ({"conversion": self.conversion.as_json()} if self.conversion else {})


def parse_runtime(name: str) -> Runtime:
    """Return the runtime of that name.

    Raises:
        UsageError: there is no such runtime.
    """
    for known in RUNTIMES:
        if known == name:
            return known
    raise UsageError(
        f"--to must be {', '.join(RUNTIMES)}, got {name!r}{did_you_mean(name, RUNTIMES)}"
    )


def export_for(
    store: Store,
    version: Version,
    folder: Path,
    settings: ExportSettings = ExportSettings(),
    *,
    open_reader: Callable[[], ModuleReader],
    on_step: OnStep | None = None,
) -> ExportReport:
    """Write a version for a runtime.

    Args:
        folder: new or empty.
        open_reader: opens the bank's base model; called only where it is needed.
        on_step: called after each step of the training of a conversion.

    Raises:
        UsageError: the runtime cannot run it (says which can), or the folder is not empty.
        AdapterError: a file of the version is missing or altered, or it is more than plain LoRA.
        StorageError: it cannot be written.
    """
    check_output_folder(folder)
    runtime, always_on = settings.runtime, settings.always_on
    config = read_object(store, version, CONFIG)
    if not always_on:
        if runtime in ENGINES or runtime == "merged":
            check_always_on(config, ENGINES.get(runtime, "a merged model"), _label(version))
        if runtime == "peft":
            export_module(store, version, folder)
            return ExportReport(version.module, version.number, runtime, str(folder))
        if runtime in ENGINES:
            record = read_object(store, version, RECORD)
            tensors = as_floats(load(store.read(version, TENSORS)))
            _write_served(folder, tensors, config, record, runtime, version)
            return ExportReport(version.module, version.number, runtime, str(folder))
    reader = open_reader()
    if runtime == "merged":
        check_can_merge(reader.base)
    (adapter,) = reader.load_adapters([version])
    record = reader.read_record(version)
    conversion = None
    if always_on:
        adapter, conversion = _convert(reader, version, adapter, on_step)
        record = _record_of(record, conversion)
    _write(reader, folder, replace(adapter, record=record), runtime, version)
    return ExportReport(version.module, version.number, runtime, str(folder), conversion)


def _label(version: Version) -> str:
    return f"{version.module} version {version.number}"


def _convert(
    reader: ModuleReader, version: Version, adapter: Adapter, on_step: OnStep | None
) -> tuple[Adapter, Conversion]:
    if not adapter.activated:
        raise UsageError(f"{_label(version)} is on at every token already; leave --always-on out")
    if EXAMPLES not in version.files:
        raise UsageError(
            f"module {version.module!r} was imported without its examples, so nothing can teach "
            "or prove its conversion; train the facts anew with lorabank learn --always-on"
        )
    examples = reader.read_draft(version).examples
    settings = reader.read_settings(version)
    return convert_to_always_on(reader.base, adapter, examples, settings, on_step=on_step)


def _record_of(record: dict[str, Any], conversion: Conversion) -> dict[str, Any]:
    """Return the record of a converted adapter, with what was measured of it."""
    measured = {
        "recall": next(iter(conversion.recall.values())),
        "recall_by_rendering": {k: v for k, v in conversion.recall.items() if k != REWORDED},
        "recall_reworded": conversion.recall.get(REWORDED),
        "smallest_lead": conversion.smallest_lead,
        "missing": list(conversion.missing),
        "kl_to_base_nats": conversion.kl_to_base_nats,
        "stopped": conversion.stopped,
    }
    return {
        **record,
        "settings": {**record.get("settings", {}), "activated": False},
        "report": {**record.get("report", {}), **measured},
        "always_on": json.loads(json.dumps(conversion.as_json())),
    }


def _write(
    reader: ModuleReader, folder: Path, adapter: Adapter, runtime: Runtime, version: Version
) -> None:
    """Write an adapter in memory for a runtime."""
    base = reader.base
    if runtime == "peft":
        with TemporaryDirectory() as scratch:
            whole = Path(scratch) / "adapter"
            save_adapter(whole, adapter, base=base)
            files = {name: (whole / name).read_bytes() for name in (TENSORS, CONFIG, RECORD)}
        measured = adapter.record["report"]
        export_module(reader.store, version, folder, converted=files, measured=measured)
        return
    if runtime in ENGINES:
        tensors = {
            tensor_name(path, letter): tensor.cpu()
            for path, pair in adapter.weights.items()
            for letter, tensor in zip("AB", pair, strict=True)
        }
        config = {"r": adapter.r, "lora_alpha": adapter.alpha, _BASE_NAME: str(base.info.path)}
        _write_served(folder, tensors, config, adapter.record, runtime, version)
        return
    with staged_folder(folder, adapter.record) as staging:
        if runtime == "gguf":
            write_adapter(base, adapter, staging / GGUF, name=version.module)
        else:
            write_merged(base, adapter, staging)


def _write_served(
    folder: Path,
    tensors: Mapping[str, Any],
    config: Mapping[str, Any],
    record: dict[str, Any],
    runtime: Runtime,
    version: Version,
) -> None:
    """Write a folder for vLLM or SGLang."""
    made, made_config = as_served(tensors, config, runtime, label=_label(version))
    with staged_folder(folder, record) as staging:
        (staging / TENSORS).write_bytes(save(made, metadata={"format": "pt"}))
        (staging / CONFIG).write_bytes(encode_config(made_config))
