"""Folders as PEFT, unsloth, axolotl and LLaMA-Factory leave them: PEFT's logits, or a refusal.

The weights are trained by plain PEFT for a few steps. What the other programs add to the folder and
to its configuration is as they write it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from lorabank.bank.bank import Bank
from lorabank.engine.backbone.base import Base
from lorabank.errors import AdapterError

NAMES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDS = torch.tensor([[1, 5, 9, 33, 7, 2, 40]])
CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"


def train(base: Base, folder: Path, **changes: Any) -> torch.Tensor:
    """Train an adapter by PEFT, save it, and return the logits of what PEFT reads again."""
    torch.manual_seed(0)
    config = LoraConfig(
        **{"r": 4, "lora_alpha": 8, "target_modules": NAMES, "task_type": "CAUSAL_LM"} | changes
    )
    model = get_peft_model(bare(base), config).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=0.02)
    for _ in range(4):
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder)
    return peft_logits(base, folder)


def bare(base: Base) -> Any:
    return AutoModelForCausalLM.from_pretrained(base.info.path, dtype=torch.float32)


def peft_logits(base: Base, folder: Path) -> torch.Tensor:
    with torch.inference_mode():
        return PeftModel.from_pretrained(bare(base), folder).eval()(IDS).logits  # type: ignore[no-any-return]


def reconfigure(folder: Path, **values: Any) -> None:
    content = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(content | values))


def add_trainer_files(folder: Path) -> None:
    """Add what a trainer of transformers leaves beside an adapter, pickles among it."""
    torch.save({"lr": 1e-4}, folder / "training_args.bin")
    (folder / "trainer_state.json").write_text("{}")
    checkpoint = folder / "checkpoint-4"
    checkpoint.mkdir()
    for name in (CONFIG, TENSORS):
        (checkpoint / name).write_bytes((folder / name).read_bytes())
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_0.pth", "scaler.pt"):
        torch.save({}, checkpoint / name)


def as_peft(folder: Path) -> None:
    pass


def as_unsloth(folder: Path) -> None:
    library = "transformers.models.llama.modeling_llama"
    mapping = {
        "base_model_class": "LlamaForCausalLM", "parent_library": library, "unsloth_fixed": True
    }  # fmt: skip
    reconfigure(
        folder,
        auto_mapping=mapping,
        base_model_name_or_path="unsloth/tiny-unsloth-bnb-4bit",
        target_modules=r"(?:.*?(?:self_attn|mlp).*?(?:q|k|v|o|gate|up|down)_proj)",
        inference_mode=True,
    )
    (folder / "tokenizer_config.json").write_text('{"padding_side": "left"}')
    add_trainer_files(folder)


def as_axolotl(folder: Path) -> None:
    reconfigure(folder, base_model_name_or_path="/workspace/models/tiny/", peft_type="LORA")
    (folder / "config.json").write_text('{"model_type": "llama", "quantization_config": {}}')
    (folder / "debug.log").write_text("...")
    (folder / "tokens_state.json").write_text("{}")
    add_trainer_files(folder)


def as_llama_factory(folder: Path) -> None:
    reconfigure(folder, base_model_name_or_path="C:\\models\\tiny")
    for name in ("all_results.json", "train_results.json", "trainer_log.jsonl"):
        (folder / name).write_text("{}")
    (folder / "training_loss.png").write_bytes(b"\x89PNG")
    add_trainer_files(folder)


@pytest.mark.parametrize(
    ("layout", "changes"),
    [
        (as_peft, {}),
        (as_peft, {"target_modules": "all-linear"}),
        (as_unsloth, {}),
        (as_unsloth, {"use_rslora": True}),
        (as_axolotl, {"rank_pattern": {"o_proj": 2}, "alpha_pattern": {"down_proj": 3}}),
        (as_llama_factory, {"use_rslora": True, "lora_dropout": 0.1}),
    ],
)
def test_a_layout_is_imported_with_pefts_logits(
    bank: Bank, tmp_path: Path, layout: Callable[[Path], None], changes: dict[str, Any], caplog: Any
):
    folder = tmp_path / "adapter"
    train(bank.base, folder, **changes)
    layout(folder)
    logits = peft_logits(bank.base, folder)
    version = bank.import_(folder, "theirs")
    assert not caplog.text, "the base's name is that of the bank's base, however it is written"
    with torch.no_grad():
        unadapted = bank.base.model(IDS).logits
        with bank.reader.loaded_fleet([version]) as fleet, fleet.assigned([0]):
            torch.testing.assert_close(bank.base.model(IDS).logits, logits, atol=1e-4, rtol=0)
    assert (unadapted - logits).abs().max() > 0.1, "an adapter that does nothing would pass above"
    kept = set(version.files)
    assert not {name for name in kept if name.endswith((".bin", ".pt", ".pth"))}


def only_pickle(folder: Path) -> None:
    torch.save(load_file(folder / TENSORS), folder / "adapter_model.bin")
    (folder / TENSORS).unlink()


def with_embeddings(folder: Path) -> None:
    """Save the embeddings whole, as PEFT does by itself where tokens were added."""
    tensors = load_file(folder / TENSORS)
    tensors["base_model.model.model.embed_tokens.weight"] = torch.zeros(300, 64)
    save_file(tensors, folder / TENSORS)


@pytest.mark.parametrize(
    ("changes", "spoil", "reason"),
    [
        ({}, only_pickle, r"adapter_model.bin, a pickle.*safe_serialization"),
        ({"use_dora": True}, as_peft, r"use_dora=True is not read here \(DoRA, with magnitudes\)"),
        ({"modules_to_save": ["lm_head"]}, as_llama_factory, r"modules_to_save.*whole modules"),
        ({}, with_embeddings, r"embed_tokens.weight is not read here \(a whole weight, as where"),
        ({"init_lora_weights": "pissa"}, as_peft, r"init_lora_weights=pissa .*path_initial_model"),
    ],
    ids=["bin", "dora", "modules_to_save", "embeddings", "pissa"],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_more_than_a_and_b_is_refused_by_name(
    bank: Bank, tmp_path: Path, changes: dict[str, Any], spoil: Callable[[Path], None], reason: str
):
    train(bank.base, tmp_path / "adapter", **changes)
    spoil(tmp_path / "adapter")
    before = [version.module for version in bank.modules()]
    with pytest.raises(AdapterError, match=reason):
        bank.import_(tmp_path / "adapter", "theirs")
    assert [version.module for version in bank.modules()] == before
