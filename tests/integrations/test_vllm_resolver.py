"""vLLM's resolver: module@version to a folder of its content, checked by vLLM's own code if given.

LORABANK_VLLM names a folder with vLLM's package, unpacked from its wheel; a GPU is not needed.
"""

import asyncio
import importlib.util
import os
import sys
import tomllib
import types
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch

from lorabank.bank.bank import Bank
from lorabank.engine.adapters.adapter import Adapter, save_adapter
from lorabank.engine.backbone.base import Base
from lorabank.integrations.vllm_resolver import BankResolver, register, serve_version


@dataclass
class Request:
    """The fields of vLLM's LoRARequest that a resolver gives."""

    lora_name: str
    lora_int_id: int
    lora_path: str


@pytest.fixture
def bank(tiny: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bank with two always-on versions of `team` and an activated module `own`."""
    monkeypatch.setenv("LORABANK_CACHE", str(tmp_path / "cache"))
    with Bank.create(tmp_path / "bank", base=tiny) as bank:
        for number, (name, activated) in enumerate([("team", 0), ("team", 0), ("own", 1)]):
            torch.manual_seed(number)
            weights = {
                path: (torch.randn(3, inner), torch.randn(outer, 3))
                for path, (outer, inner) in tiny.linears.items()
            }
            folder = tmp_path / f"adapter-{number}"
            save_adapter(folder, Adapter(weights, 3, 6.0, bool(activated), {}), base=tiny)
            bank.import_(folder, name, replace=True)
    return tmp_path / "bank"


def test_a_version_has_a_folder_and_a_number_of_its_content(bank: Path):
    first, second = serve_version(bank, "team@1"), serve_version(bank, "team@2")
    assert first.folder != second.folder
    assert first.id != second.id
    assert serve_version(bank, "team") == second
    assert serve_version(bank, "team@1") == first
    assert 0 < first.id < 2**63
    files = {path.name for path in first.folder.iterdir()}
    assert files >= {"adapter_config.json", "adapter_model.safetensors"}


def test_what_vllm_cannot_run_is_nobody_and_says_why(bank: Path, caplog: Any):
    resolver = BankResolver(bank, Request)

    def resolve(name: str) -> Request | None:
        return asyncio.run(resolver.resolve_lora("base", name))  # type: ignore[no-any-return]

    found = resolve("team@2")
    assert found == Request("team@2", *serve_version(bank, "team@2")[:1], found.lora_path)
    assert Path(found.lora_path) == serve_version(bank, "team@2").folder
    for name, reason in [
        ("own", "own version 1 is activated"),
        ("team@9", "version 9"),
        ("nobody", "nobody"),
        ("team@x", "team@x"),
    ]:
        caplog.clear()
        assert resolve(name) is None
        assert reason in caplog.text


def test_nothing_is_registered_without_a_bank(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LORABANK_BANK", raising=False)
    register()
    assert "vllm" not in sys.modules


def test_the_entry_point_leads_to_the_function():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    group = "vllm.general_plugins"
    value = project["entry-points"][group]["lorabank"]
    assert EntryPoint("lorabank", value, group).load() is register


def vllm_module(name: str) -> Any:
    """Load a file of vLLM's LoRA code alone, without the engine that it is a part of."""
    folder = os.environ.get("LORABANK_VLLM")
    if not folder:
        pytest.skip("vLLM's own checks: unpack its wheel and name the folder in LORABANK_VLLM")
    path = Path(folder) / "vllm" / "lora" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"vllm.lora.{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def import_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that vLLM's files import for annotations and logging."""
    import logging

    config = types.ModuleType("vllm.config.lora")
    config.LoRAConfig = object  # type: ignore[attr-defined]
    logger = types.ModuleType("vllm.logger")
    logger.init_logger = logging.getLogger  # type: ignore[attr-defined]
    for name, module in {"vllm.config.lora": config, "vllm.logger": logger}.items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("vllm", "vllm.config", "vllm.lora", "vllm.lora.peft_helper"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))


@pytest.mark.usefixtures("import_only")
def test_vllms_own_validation_takes_the_folder_and_refuses_an_activated_one(
    bank: Path, tmp_path: Path
):
    helper = vllm_module("peft_helper").PEFTHelper
    limits = types.SimpleNamespace(max_lora_rank=8)
    served = helper.from_local_dir(str(serve_version(bank, "team@1").folder), 512)
    served.validate_legal(limits)
    assert served.get_rank_and_scaling("model.layers.0.self_attn.q_proj") == (8, 2.0)
    activated = helper.from_local_dir(str(tmp_path / "adapter-2"), 512)
    with pytest.raises(ValueError, match="does not support Activated LoRA"):
        activated.validate_legal(limits)
