"""Folders that are no base model are refused in one line, and none of their code is run."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertLMHeadModel

from lorabank.engine.backbone.base import load_base, load_named_base
from lorabank.errors import ModelError, UnavailableError

WEIGHTS = "model.safetensors"


def configured(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **values}))

    return change


def weighted(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]):
    def rewrite(folder: Path) -> None:
        tensors = {k: v.contiguous() for k, v in change(load_file(folder / WEIGHTS)).items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return rewrite


def with_header(folder: Path, header: bytes, *, length: int | None = None) -> None:
    n_bytes = len(header) if length is None else length
    (folder / WEIGHTS).write_bytes(n_bytes.to_bytes(8, "little") + header + bytes(64))


def with_token_beyond(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    beyond = max(tokenizer["model"]["vocab"].values()) + 9
    token = {"id": beyond, "content": "<lamp>", "special": True, "normalized": False}
    tokenizer["added_tokens"].append(
        {**token, **dict.fromkeys(("single_word", "lstrip", "rstrip"), False)}
    )
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def as_pipe(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def sharded_outside(folder: Path) -> None:
    shutil.move(folder / WEIGHTS, folder.parent / "elsewhere.safetensors")
    index = {"weight_map": {"a": "../elsewhere.safetensors"}}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


CODE = {"AutoConfig": "lamp.C", "AutoModelForCausalLM": "lamp.M", "AutoTokenizer": ["lamp.T", None]}


def with_tokenizer_code(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "tokenizer_class": "Lamp", "auto_map": CODE}))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (
        weighted(lambda w: {k: v for k, v in w.items() if ".0.self_attn.o_proj" not in k}),
        r"lacks the tensors model\.layers\.0\.self_attn\.o_proj\.weight;",
    ),
    "head neither stored nor tied": (
        weighted(lambda w: {k: v for k, v in w.items() if k != "lm_head.weight"}),
        r"lacks the tensors lm_head\.weight;",
    ),
    "prefixed": (
        weighted(lambda w: {f"module.{k}": v for k, v in w.items()}),
        r"lacks the tensors .* and 18 more;",
    ),
    "left over": (
        weighted(lambda w: {**w, "score.weight": torch.ones(2, 64)}),
        r"has, but the model does not use, the tensors score\.weight;",
    ),
    "shape": (configured(hidden_size=32), r"in another shape than its config.json says the ten"),
    "nan": (
        weighted(lambda w: {k: v - torch.inf if "embed" in k else v for k, v in w.items()}),
        r"holds NaN or infinity in the tensor model\.embed_tokens\.weight",
    ),
    "integers": (
        weighted(lambda w: {k: v.to(torch.int8) if "k_proj" in k else v for k, v in w.items()}),
        r"k_proj\.weight as I8, quantised",
    ),
    "too wide": (configured(hidden_size=400_000), r"describes [\d,]+ parameters, but the weights"),
    "too deep": (configured(num_hidden_layers=10**9), r"num_hidden_layers 1,000,000,000, but"),
    "gptq": (configured(quantization_config={"quant_method": "awq"}), r"is quantised \(awq\)"),
    "bitsandbytes": (
        configured(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        r"is quantised \(bitsandbytes\)",
    ),
    "code": (configured(model_type="lamp", auto_map=CODE), r"code of its own in auto_map"),
    "tokenizer code": (with_tokenizer_code, r"tokenizer_config\.json names code of its own"),
    "kernel": (configured(attn_implementation="lamp/kernel"), r"code from the hub, which is never"),
    "encoder": (configured(architectures=["BertForMaskedLM"], model_type="bert"), r"no causal LM"),
    "encoder-decoder": (configured(is_encoder_decoder=True), r"is an encoder-decoder"),
    "unknown": (configured(model_type="lamp"), r"cannot load it: .*lamp"),
    "setting": (configured(hidden_size="wide"), r"cannot load it: .*hidden_size"),
    "no heads": (configured(num_attention_heads=0), r"cannot load it"),
    "token beyond": (with_token_beyond, r"'<lamp>' with id [\d,]+, but the model has embeddings"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), r"has no tokenizer"),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), r"tokenizer cannot be"),
    "config cut off": (lambda f: (f / "config.json").write_text("{"), r"is not JSON"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), r"must be a JSON object"),
    "nested": (
        lambda f: (f / "config.json").write_text('{"a":' + "[" * 90_000 + "]" * 90_000 + "}"),
        r"nests too deeply",
    ),
    "bytes": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe{}"), r"is not JSON"),
    "config pipe": (as_pipe("config.json"), r"holds config\.json, a pipe or a device"),
    "tokenizer pipe": (as_pipe("tokenizer.json"), r"holds tokenizer\.json, a pipe or a device"),
    "weights pipe": (as_pipe(WEIGHTS), r"holds model\.safetensors, a pipe or a device"),
    "shard outside": (sharded_outside, r"'\.\./elsewhere\.safetensors' is not the name of a file"),
    "header too long": (lambda f: with_header(f, b"{}", length=2**62), r"its header is cut off"),
    "header nested": (lambda f: with_header(f, b"[" * 50_000), r"not a complete safetensors"),
    "offsets": (
        lambda f: with_header(f, b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[-16,0]}}'),
        r"the data of a is cut off",
    ),
    "adapter": (
        lambda f: (f / "config.json").rename(f / "adapter_config.json"),
        r"is an adapter, not a base model",
    ),
}  # fmt: skip


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_folder, tmp_path / "base")


@pytest.mark.parametrize("name", REFUSED)
def test_a_folder_that_is_no_base_is_refused_in_one_line(folder: Path, name: str, capfd):
    (folder / "lamp.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    spoil, message = REFUSED[name]
    spoil(folder)
    with pytest.raises(ModelError, match=message) as refused:
        load_base(str(folder), dtype="float32", device="cpu")
    assert "\n" not in str(refused.value)
    assert not (folder / "ran").exists()
    assert "LOAD REPORT" not in capfd.readouterr().err


def test_code_that_transformers_does_not_need_is_left_alone(folder: Path):
    configured(auto_map=CODE)(folder)
    assert load_base(str(folder), dtype="float32", device="cpu").linears


def test_buffers_that_old_versions_saved_are_no_fault(folder: Path):
    weighted(lambda w: {**w, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})(folder)
    assert load_base(str(folder), dtype="float32", device="cpu").linears


def test_an_encoder_that_loads_is_told_by_what_it_reads(folder: Path):
    config = BertConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, initializer_range=0.3, is_decoder=False,
    )  # fmt: skip
    torch.manual_seed(0)
    BertLMHeadModel(config).save_pretrained(folder)
    with pytest.raises(ModelError, match="reads tokens that come later, as encoders do"):
        load_base(str(folder), dtype="float32", device="cpu")


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-of-that-name/x", "a\0b", "."])
def test_a_name_that_is_no_path_is_refused(name: str, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError):
        load_base(name)


def test_a_model_that_a_stranger_names_is_not_fetched(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"bank names the base model 'o/m': .*is off"):
        load_named_base("o/m", named_by="bank")
