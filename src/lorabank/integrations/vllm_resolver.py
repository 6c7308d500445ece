"""A LoRA resolver for vLLM: requests name `module@version`, and the bank has it.

vLLM finds `register` by the entry point `lorabank` of the group `vllm.general_plugins` and calls it
in each of its processes. It does nothing unless LORABANK_BANK names a bank and vLLM may load
adapters at run time (VLLM_ALLOW_RUNTIME_LORA_UPDATING).

A version is written once into the cache, in a folder named by its content, and has a number made of
that content, too. So vLLM's prefix cache never takes one version for another. `module` alone is the
current version, of which vLLM asks only once: name versions where modules are rewritten.
"""

import asyncio
import hashlib
import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.write.runtime_export import ExportSettings, export_for
from lorabank.engine.adapters.adapter import CONFIG, TENSORS
from lorabank.engine.models import model_cache
from lorabank.errors import LorabankError, StorageError, UsageError
from lorabank.store.records import Version
from lorabank.store.store import Store

BANK = "LORABANK_BANK"
_log = logging.getLogger(__name__)


class ServedVersion(NamedTuple):
    """A version as vLLM loads it."""

    id: int
    """Number above 0 that is the same wherever the content is the same."""
    folder: Path


def serve_version(bank: Path, name: str) -> ServedVersion:
    """Return the folder of a version, which is written if it is not there yet.

    Args:
        name: `module@version`, or `module` for the current one.

    Raises:
        UsageError: no such module or version, or one that vLLM cannot run.
        StorageError: it cannot be written.
    """
    with Store.open(bank) as store:
        version = _find(store, name)
        content = "/".join(version.files.get(part, "") for part in (TENSORS, CONFIG))
        digest = hashlib.sha256(f"vllm/{content}".encode()).hexdigest()
        folder = model_cache.root() / "served" / digest
        if not folder.exists():
            try:
                export_for(store, version, folder, ExportSettings("vllm"), open_reader=_no_reader)
            except (StorageError, UsageError):
                if not folder.exists():  # else another process was faster
                    raise
    return ServedVersion(int(digest[:15], 16) + 1, folder)


def _find(store: Store, name: str) -> Version:
    module, _, number = name.rpartition("@")
    if module and number.isdecimal():
        return store.version(module, int(number))
    return store.current(name)


def _no_reader() -> ModuleReader:
    raise AssertionError("a folder for vLLM is written without the base model")


class BankResolver:
    """The resolver that vLLM asks for adapters it does not know."""

    def __init__(self, bank: Path, request_type: Any):
        self.bank, self.request_type = bank, request_type

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> Any:
        """Return the request for an adapter; None if the bank has none that vLLM can run."""
        try:
            version = await asyncio.to_thread(serve_version, self.bank, lora_name)
        except LorabankError as error:
            _log.warning("%s is not served on %s: %s", lora_name, base_model_name, error)
            return None
        return self.request_type(
            lora_name=lora_name, lora_int_id=version.id, lora_path=str(version.folder)
        )


def register() -> None:
    """Register the resolver, if LORABANK_BANK names a bank."""
    bank = os.environ.get(BANK)
    if not bank:
        return
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolverRegistry

    LoRAResolverRegistry.register_resolver("lorabank", BankResolver(Path(bank), LoRARequest))
