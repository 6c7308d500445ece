"""An adapter belongs to configuration and tokenizer as well as to weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from lorabank.engine.adapters.adapter import Adapter, load_adapter, save_adapter
from lorabank.engine.backbone.base import Base, load_base
from lorabank.errors import AdapterError


@pytest.fixture
def adapter(tiny: Base, tmp_path: Path) -> Path:
    path, (out, inner) = next(iter(tiny.linears.items()))
    weights = {path: (torch.ones(2, inner), torch.ones(out, 2))}
    record = {"base": tiny.identity}
    save_adapter(tmp_path / "a", Adapter(weights, 2, 4.0, False, record), base=tiny)
    return tmp_path / "a"


def changed(tiny: Base, folder: Path, name: str, old: str, new: str) -> Base:
    shutil.copytree(tiny.info.path, folder)
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    base = load_base(str(folder), dtype="float32", device="cpu")
    assert base.info.sha256 == tiny.info.sha256
    return base


def test_another_configuration_is_refused(tiny: Base, adapter: Path, tmp_path: Path):
    base = changed(tiny, tmp_path / "b", "config.json", "1e-06", "1e-05")
    with pytest.raises(AdapterError, match="with another config than that of"):
        load_adapter(adapter, base)


def test_another_configuration_is_warned_of_after_an_upgrade(
    tiny: Base, adapter: Path, tmp_path: Path, caplog
):
    record = json.loads((adapter / "lorabank.json").read_text())
    record["base"]["transformers"] = "5.17.0"
    (adapter / "lorabank.json").write_text(json.dumps(record))
    base = changed(tiny, tmp_path / "b", "config.json", "1e-06", "1e-05")
    load_adapter(adapter, base)
    assert "with another config; it may answer less well" in caplog.text


def test_another_tokenizer_is_refused(tiny: Base, adapter: Path, tmp_path: Path):
    base = changed(tiny, tmp_path / "b", "tokenizer.json", 'space": false', 'space": true')
    with pytest.raises(AdapterError, match="with another tokenizer than that of"):
        load_adapter(adapter, base)


def test_another_template_is_warned_of(tiny: Base, adapter: Path, tmp_path: Path, caplog):
    base = changed(tiny, tmp_path / "b", "chat_template.jinja", "Be tiny", "Be big")
    load_adapter(adapter, base)
    assert "with another template; it may answer less well" in caplog.text


def test_keys_in_another_order_and_old_records_are_no_change(
    tiny: Base, adapter: Path, tmp_path: Path
):
    folder = shutil.copytree(tiny.info.path, tmp_path / "b")
    config = json.loads((folder / "config.json").read_text())
    ordered = dict(sorted(config.items(), reverse=True))
    ordered |= {"transformers_version": "9.9", "max_position_embeddings": 4096}
    (folder / "config.json").write_text(json.dumps(ordered))
    base = load_base(str(folder), dtype="bfloat16", device="cpu")
    load_adapter(adapter, base)
    record = json.loads((adapter / "lorabank.json").read_text())
    record["base"] = {key: record["base"][key] for key in ("name", "sha256")}
    (adapter / "lorabank.json").write_text(json.dumps(record))
    load_adapter(adapter, base)
