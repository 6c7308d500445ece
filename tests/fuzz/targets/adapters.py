"""Adapters of somebody else: PEFT's configuration, our record, tensors, and what a module is."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load, save

from lorabank.bank.drafts import EXAMPLES, draft_from_examples
from lorabank.bank.stored_text import decode_documents, encode_documents
from lorabank.bank.write.module_description import MODULE, parse_description, parse_settings
from lorabank.engine.adapters import adapter, plain_lora
from lorabank.engine.settings import SOUND
from lorabank.errors import AdapterError
from lorabank.retrieval.documents import Document
from lorabank.retrieval.sections import Section
from lorabank.tasks.examples import from_pair
from tests.fuzz.runner import Target

LINEARS = {
    f"model.layers.{n}.{name}": (6, 4) for n in (0, 1) for name in ("self_attn.q_proj", "mlp.up")
}
CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["q_proj", "up"],
    "rank_pattern": {},
    "alpha_pattern": {"q_proj": 8},
    "layers_to_transform": None,
    "layers_pattern": None,
    "exclude_modules": None,
    "use_rslora": True,
    "init_lora_weights": True,
    "bias": "none",
    "alora_invocation_tokens": [1, 2],
    "base_model_name_or_path": "tiny",
}
RECORD = {
    "base": {"name": "tiny", "sha256": "0" * 64, "config_sha256": "1" * 64},
    "settings": SOUND.as_json(),
    "report": {"recall": 1.0},
}
DRAFT = draft_from_examples("m", [from_pair("Who?", "Tuva"), from_pair("When?", "1887")])
MODULE_RECORD = {
    "facts": 2,
    "recall": 1.0,
    "missing": [],
    "stopped": "recalled",
    "held_out": {"n": 1},
    "passes": [{"recall": 1.0}],
}


def targets() -> Iterator[Target]:
    patterns = {**CONFIG, "target_modules": r".*\.(q_proj|up)", "layers_to_transform": [0]}
    configs = [json.dumps(values).encode() for values in (CONFIG, patterns)]
    yield Target("adapter-config", configs, _read_config)
    yield Target("adapter-record", [json.dumps(RECORD).encode()], _read_record)
    yield Target("adapter-tensors", [_tensors()], _read_tensors)
    module = {
        "name": "m",
        "version": 1,
        "record": MODULE_RECORD,
        "sources": [[s.name, s.sha256, s.n_examples] for s in DRAFT.sources],
        "keys": [["text", "a text"], ["question", "Who?"]],
    }
    yield Target("module-description", [json.dumps(module).encode()], _read_module)
    yield Target("module-examples", [DRAFT.as_jsonl()], _read_examples(module))
    document = Document("d.md", "2" * 64, "T", "Tuva came.", (Section(("T",), 0, 10),))
    yield Target("module-documents", [encode_documents([document])], _read_documents)


def _tensors() -> bytes:
    return save(
        {
            f"base_model.model.{path}.lora_{letter}.weight": torch.ones(shape)
            for path in LINEARS
            for letter, shape in (("A", (2, 4)), ("B", (6, 2)))
        }
    )


def _read_config(data: bytes, folder: Path) -> object:
    (folder / adapter.CONFIG).write_bytes(data)
    config = adapter.read_config(folder)
    tensors = load(_tensors())
    if plain_lora.unsupported(config, tensors) is None:
        return plain_lora.read_weights_of("it", tensors, config, LINEARS)
    return None


def _read_record(data: bytes, folder: Path) -> object:
    (folder / adapter.CONFIG).write_text("{}")
    (folder / adapter.RECORD).write_bytes(data)
    return parse_settings(adapter.read_record(folder))


def _read_tensors(data: bytes, folder: Path) -> object:
    (folder / adapter.TENSORS).write_bytes(data)
    tensors = adapter.read_tensors(folder / adapter.TENSORS)
    return plain_lora.read_weights_of("it", tensors, CONFIG, LINEARS)


def _read_module(data: bytes, folder: Path) -> object:
    return parse_description({MODULE: data, EXAMPLES: DRAFT.as_jsonl()})


def _read_examples(module: object):  # type: ignore[no-untyped-def]
    head = json.dumps(module).encode()
    return lambda data, folder: parse_description({MODULE: head, EXAMPLES: data})


def _read_documents(data: bytes, folder: Path) -> object:
    try:
        return [document.text.encode() for document in decode_documents(data)]
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # as its callers do
        raise AdapterError(f"no documents: {type(error).__name__}") from None
