"""A module in a smaller form: a new version whose recall was proved before it is written.

The version before stays until it is pruned. Texts, sources and examples are those of that version,
and so are the spectra by which it is routed: they tell what the module is about, whatever its rank.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorabank.bank.drafts import EXAMPLES
from lorabank.bank.module_reader import ModuleReader, read_object
from lorabank.engine.adapters.adapter import CONFIG, RECORD, TENSORS, Adapter, save_adapter
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.evaluation.drift import measure_drift
from lorabank.engine.inference.recall_check import REWORDED
from lorabank.engine.shrink import ShrinkSettings, Shrunk, forms_to_keep, shrink
from lorabank.errors import StorageError, UsageError
from lorabank.store.lock import TRAINED_PATIENCE_S
from lorabank.store.records import Draft, Version
from lorabank.tasks.examples import Example


@dataclass(frozen=True, slots=True)
class ShrinkReport:
    """A module before and after it was shrunk."""

    module: str
    version: int
    """Number of the version that was written."""
    bytes_before: int
    bytes_after: int
    kl_to_base_nats: float
    """Divergence of the smaller form from the bare base on ordinary text, nats per token."""
    shrunk: dict[str, Any]
    """Fields of `Shrunk`: ranks, and recall in each form before and after."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def shrink_module(reader: ModuleReader, name: str, settings: ShrinkSettings) -> ShrinkReport:
    """Write a version of a module in the smallest form that keeps its recall.

    Raises:
        UsageError: no such module, one without examples to prove it by, a rank or dtype that does
            not keep recall, a module that is as small already, or one that was written meanwhile.
        StorageError: the bank cannot be written.
    """
    store = reader.store
    if store.problem:
        raise StorageError(store.problem)
    version = store.current(name)
    if EXAMPLES not in version.files:
        raise UsageError(
            f"module {version.module!r} was imported without its examples, so nothing can prove "
            "what it recalls; shrink the folder with --facts before importing it"
        )
    base, adapter = reader.base, reader.load_adapters([version])[0]
    trained = reader.read_settings(version)
    examples = reader.read_draft(version).examples
    forms = forms_to_keep(base, examples, trained.recipe, activated=adapter.activated)
    shrunk = shrink(base, adapter, forms, settings)
    before = store.path_of(version, TENSORS).stat().st_size
    with loaded_fleet(base, [shrunk.adapter]) as fleet:
        (drift,) = measure_drift(fleet, [0])
    record = _record(version, shrunk, examples, drift.kl_to_base_nats)
    what = f"shrink {version.module}"[:80]
    with store.writing(what=what, patience_s=TRAINED_PATIENCE_S) as tx:
        if store.current(name).id != version.id:
            raise UsageError(
                f"module {version.module!r} was written again while it was being shrunk; "
                "nothing was changed: shrink it again"
            )
        # Within the lock, as whoever takes it clears unfinished files away.
        staging = Path(tempfile.mkdtemp(prefix=".partial-shrink-", dir=store.path))
        try:
            draft, after = _stage(reader, version, shrunk, record, staging / "0")
            if after >= before:
                raise UsageError(
                    f"module {version.module!r} has {before:,} bytes, and the smallest form that "
                    f"keeps its recall in {settings.dtype} has {after:,}; nothing was changed"
                )
            written = tx.put(version.module, draft, replace=True, what="shrink")
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    kl = drift.kl_to_base_nats
    return ShrinkReport(version.module, written.number, before, after, kl, shrunk.as_json())


def _record(
    version: Version, shrunk: Shrunk, examples: Sequence[Example], kl_to_base_nats: float
) -> dict[str, Any]:
    """Return the module's record with what is known of the smaller form."""
    by_rendering = {name: share for name, share in shrunk.recall.items() if name != REWORDED}
    reworded = {"recall_reworded": shrunk.recall[REWORDED]} if REWORDED in shrunk.recall else {}
    return {
        **version.record,
        **reworded,
        "recall": next(iter(by_rendering.values())),
        "recall_by_rendering": by_rendering,
        "smallest_lead": shrunk.smallest_lead,
        "missing": [examples[i].question for i in shrunk.missing],
        "kl_to_base_nats": kl_to_base_nats,
        "r": shrunk.packed.r,
        "shrunk": {"from_version": version.number, **shrunk.as_json()},
    }


def _stage(
    reader: ModuleReader, version: Version, shrunk: Shrunk, record: dict[str, Any], folder: Path
) -> tuple[Draft, int]:
    """Write the smaller form's files into a folder; return the draft and the size of weights."""
    store = reader.store
    content = reader.read_record(version)
    content = {**content, "report": {**content.get("report", {}), **record}}
    adapter = Adapter(
        shrunk.adapter.weights,
        shrunk.adapter.r,
        shrunk.adapter.alpha,
        shrunk.adapter.activated,
        json.loads(json.dumps(content)),
    )
    dropout = float(read_object(store, version, CONFIG).get("lora_dropout") or 0)
    n_bytes = save_adapter(folder, adapter, base=reader.base, dropout=dropout, packed=shrunk.packed)
    made = {name: folder / name for name in (TENSORS, CONFIG, RECORD)}
    others = {name: store.read(version, name) for name in version.files if name not in made}
    draft = Draft(
        files={**others, **made},
        record={**record, "adapter_bytes": n_bytes},
        sources=version.sources,
        keys=store.keys(version),
    )
    return draft, n_bytes
