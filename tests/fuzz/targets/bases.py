"""Folders of base models: config.json, the index of shards, and headers of tensors."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save

from lorabank.engine.models.folder_checks import check_depth, check_folder, needs_code
from lorabank.engine.models.weight_files import list_tensors, read_weights
from lorabank.planning.cost import read_shape
from tests.fuzz.runner import Target

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 64,
    "max_position_embeddings": 128,
    "rope_scaling": {"rope_type": "yarn", "factor": 2.0},
    "torch_dtype": "bfloat16",
}
NESTED = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": CONFIG}
QUANTISED = {**CONFIG, "quantization_config": {"quant_method": "mxfp4"}, "auto_map": {}}
TOKENIZER = {"chat_template": "{{ messages }}", "eos_token": "<|end|>", "auto_map": {}}
INDEX = {"metadata": {"total_size": 64}, "weight_map": {"a": "1.safetensors", "b": "1.safetensors"}}


def targets() -> Iterator[Target]:
    configs = [json.dumps(values).encode() for values in (CONFIG, NESTED, QUANTISED)]
    yield Target("base-config", configs, _read_config)
    yield Target("base-tokenizer", [json.dumps(TOKENIZER).encode()], _read_tokenizer)
    yield Target("base-index", [json.dumps(INDEX).encode()], _read_index)
    yield Target("base-tensors", [_tensors()], _read_tensors)


def _tensors() -> bytes:
    return save({"a": torch.ones(2, 3), "lm_head.weight": torch.ones(2, dtype=torch.bfloat16)})


def _read_config(data: bytes, folder: Path) -> object:
    (folder / "config.json").write_bytes(data)
    check_folder(folder)
    check_depth(folder, 20)
    return read_shape(folder)


def _read_tokenizer(data: bytes, folder: Path) -> object:
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer_config.json").write_bytes(data)
    return needs_code(folder)


def _read_index(data: bytes, folder: Path) -> object:
    (folder / "config.json").write_text("{}")
    (folder / "1.safetensors").write_bytes(_tensors())
    (folder / "model.safetensors.index.json").write_bytes(data)
    return list_tensors(folder)


def _read_tensors(data: bytes, folder: Path) -> object:
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(data)
    return list_tensors(folder), read_weights(folder)
