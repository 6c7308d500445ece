"""LoRA folders of PEFT give PEFT's logits here, or are refused with what they are."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import check_target_module_exists
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from lorabank.engine.adapters.adapter import (
    CONFIG,
    RECORD,
    TENSORS,
    Adapter,
    is_plain_lora,
    load_adapter,
    save_adapter,
)
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.adapters.plain_lora import is_target
from lorabank.engine.backbone.base import Base
from lorabank.engine.peft_backend.wrapped import opened
from lorabank.errors import AdapterError

IDS = torch.tensor([[1, 5, 9, 33, 7, 2, 40]])
QV = ["q_proj", "v_proj"]

READ: dict[str, dict[str, Any]] = {
    "plain": {},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "rslora": {"use_rslora": True, "r": 16},
    "ranks": {"rank_pattern": {"q_proj": 2, r"model\.layers\.1\..*v_proj": 6}},
    "alphas": {"alpha_pattern": {"v_proj": 3, "q_proj": 17}},
    "ranks and alphas, rslora": {
        "rank_pattern": {"layers.0.self_attn.q_proj": 1},
        "alpha_pattern": {"layers.1.self_attn.v_proj": 2},
        "use_rslora": True,
    },
    "regex": {"target_modules": r".*\.layers\.1\..*(k|o|down)_proj"},
    "excluded": {"target_modules": r".*_proj", "exclude_modules": ["up_proj", "down_proj"]},
    "blocks": {"layers_to_transform": [1], "layers_pattern": "layers"},
    "all linear": {"target_modules": "all-linear"},
}
OPENED = {
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "head": {"target_modules": [*QV, "lm_head"]},
    "embeddings": {"target_modules": [*QV, "embed_tokens"]},
    "saved head": {"modules_to_save": ["lm_head"]},
    "tokens": {"trainable_token_indices": {"embed_tokens": [5, 9]}},
    "bias": {"lora_bias": True},
    "dora": {"use_dora": True},
}


def bare(base: Base) -> Any:
    return AutoModelForCausalLM.from_pretrained(base.info.path, dtype=torch.float32)


def write(base: Base, folder: Path, changes: dict[str, Any]) -> torch.Tensor:
    """Write a random adapter with PEFT; return the logits that PEFT gives after reading it."""
    settings = {"r": 4, "lora_alpha": 8, "target_modules": QV, "task_type": "CAUSAL_LM", **changes}
    torch.manual_seed(1)
    model = get_peft_model(bare(base), LoraConfig(**settings))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    with torch.inference_mode():
        logits: torch.Tensor = PeftModel.from_pretrained(bare(base), folder).eval()(IDS).logits
    return logits


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READ)
def test_a_folder_that_is_read_gives_the_logits_of_peft(tiny: Base, tmp_path: Path, name: str):
    logits = write(tiny, tmp_path / "a", READ[name])
    assert is_plain_lora(tmp_path / "a")
    with torch.no_grad():
        unadapted = tiny.model(IDS).logits
        with loaded_fleet(tiny, [load_adapter(tmp_path / "a", tiny)]) as fleet, fleet.assigned([0]):
            torch.testing.assert_close(tiny.model(IDS).logits, logits, atol=1e-4, rtol=0)
    assert (unadapted - logits).abs().max() > 0.1, "an adapter that does nothing would pass above"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OPENED)
def test_other_folders_are_refused_by_name_and_opened_through_peft(
    tiny: Base, tmp_path: Path, name: str
):
    logits = write(tiny, tmp_path / "a", OPENED[name])
    with torch.inference_mode():
        unadapted = tiny.model(IDS).logits
        with pytest.raises(AdapterError, match=r"is not read here \(.*lorabank recall"):
            load_adapter(tmp_path / "a", tiny)
        assert not is_plain_lora(tmp_path / "a")
        with opened(tmp_path / "a", tiny) as model:
            torch.testing.assert_close(model(IDS).logits, logits, atol=1e-4, rtol=0)
        assert torch.equal(tiny.model(IDS).logits, unadapted), "the base was left changed"


@pytest.mark.parametrize("targets", [*(READ[n] for n in READ if n != "all linear")], ids=str)
def test_the_same_layers_are_adapted_as_in_peft(tiny: Base, targets: dict[str, Any]):
    values = {"target_modules": QV, **targets}
    config = LoraConfig(**values)
    for path in tiny.linears:
        assert is_target(values, path) == bool(check_target_module_exists(config, path))


@pytest.fixture
def folder(tiny: Base, tmp_path: Path) -> Path:
    torch.manual_seed(1)
    weights = {
        path: (torch.randn(4, inner), torch.randn(out, 4))
        for path, (out, inner) in tiny.linears.items()
        if path.endswith("q_proj")
    }
    record = {"base": {"name": "tiny", "sha256": tiny.info.sha256}}
    save_adapter(tmp_path / "a", Adapter(weights, 4, 8.0, False, record), base=tiny)
    return tmp_path / "a"


def configured(**values: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps({**config, **values}))

    return change


def recorded(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / RECORD).write_text(text)


def weighted(change: Callable[[torch.Tensor], torch.Tensor], part: str = "lora_A"):
    def rewrite(folder: Path) -> None:
        tensors = load_file(folder / TENSORS)
        key = next(name for name in tensors if part in name)
        tensors[key] = change(tensors[key]).contiguous()
        save_file(tensors, folder / TENSORS)

    return rewrite


def linked(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(folder.parent / "elsewhere")

    return change


def as_pipe(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


NESTED = "[" * 5000 + "]" * 5000
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "rank true": (configured(r=True), "r must be a rank of 1 to"),
    "rank 0": (configured(r=0), "r must be a rank of 1 to"),
    "rank text": (configured(r="4"), "r must be a rank of 1 to"),
    "rank of layer": (configured(rank_pattern={"q_proj": -1}), "q_proj must be a rank of 1 to"),
    "alpha 0": (configured(lora_alpha=0), "lora_alpha must be an alpha above 0"),
    "alpha huge": (configured(lora_alpha=1e300), "lora_alpha must be an alpha above 0"),
    "alpha nan": (configured(lora_alpha=float("nan")), "NaN is not a number"),
    "alpha long": (configured(lora_alpha=10**400), "more than 63 bits"),
    "alpha of layer": (configured(alpha_pattern={"q_proj": None}), "q_proj must be an alpha"),
    "unknown setting": (configured(lamp_mode=True), "lamp_mode=True is not read here .*not known"),
    "token 0": (configured(trainable_token_indices=0), "trainable_token_indices=0 is not read"),
    "number 0.0": (configured(lamp_level=0.0), "lamp_level=0.0 is not read here .*not known"),
    "kasa": (configured(kasa_config={"beta": 1}), "kasa_config=.* is not read here"),
    "parameters": (configured(target_parameters=["x"]), "target_parameters=.* is not read here"),
    "replicated": (configured(layer_replication=[[0, 1]]), "layer_replication=.* is not read here"),
    "corda": (configured(init_lora_weights="corda"), "init_lora_weights=corda is not read here"),
    "task": (configured(task_type="SEQ_CLS"), "task_type=SEQ_CLS is not read here"),
    "type": (configured(peft_type="XLORA"), "must be a LoRA adapter, got XLORA"),
    "slow pattern": (
        configured(target_modules="(([a-z_.0-9])+.?)+!"),
        "takes too long|target_modules leave out",
    ),
    "bad pattern": (configured(rank_pattern={"(": 2}), r"the pattern .* cannot be used"),
    "targets of numbers": (configured(target_modules=[1, 2]), "must be names of layers"),
    "fewer targets": (configured(target_modules=["v_proj"]), "which its target_modules leave out"),
    "more targets": (configured(target_modules=["q_proj", "v_proj"]), "lacks A and B of"),
    "three dimensions": (weighted(lambda t: t[None]), "must be 4 x 64 .* got 1 x 4 x 64"),
    "a number": (weighted(lambda t: t.sum()), "got a single number"),
    "nan": (weighted(lambda t: t / 0), "contains NaN, infinity"),
    "far too large": (weighted(lambda t: t + 1e38), "numbers beyond 1,000,000"),
    "whole numbers": (weighted(lambda t: t.to(torch.int64), "lora_B"), "must be of a float dtype"),
    "config nested": (lambda f: (f / CONFIG).write_text(NESTED), "nests deeper than"),
    "record a list": (recorded("[]"), "must contain a JSON object"),
    "base a list": (recorded('{"base": ["x"]}'), r"has base \"\['x'\]\""),
    "base of numbers": (recorded('{"base": {"sha256": 5}}'), "must give the base's sha256 as text"),
    "settings a number": (recorded('{"settings": 5}'), "has settings '5'"),
    "report a number": (recorded('{"report": 5}'), "has report '5'"),
    "record nested": (recorded('{"a": ' + NESTED + "}"), "nests deeper than"),
    "half a character": (recorded('{"note": "\\ud800"}'), "half of a character"),
    "record a link": (linked(RECORD), "lorabank.json cannot be read: it is a link"),
    "tensors a link": (linked(TENSORS), "it is a link"),
    "config a link": (linked(CONFIG), "it is a link"),
    "record a pipe": (as_pipe(RECORD), "a folder, a pipe or a device"),
    "tensors a pipe": (as_pipe(TENSORS), "a folder, a pipe or a device"),
    "config a pipe": (as_pipe(CONFIG), "a folder, a pipe or a device"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_folder_that_does_not_hold_what_it_should_is_refused(tiny: Base, folder: Path, name: str):
    spoil, message = REFUSED[name]
    spoil(folder)
    with pytest.raises(AdapterError, match=message) as refused:
        load_adapter(folder, tiny)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        {"peft_type": "XLORA", "adapters": {"0": "o/m"}},
        {"peft_type": "PROMPT_TUNING", "tokenizer_kwargs": {"trust_remote_code": True}},
        {"use_dora": True, "megatron_config": {"a": 1}, "megatron_core": "antigravity"},
    ],
    ids=str,
)
def test_nothing_is_fetched_or_imported_to_open_a_folder(
    tiny: Base, folder: Path, values: dict[str, Any]
):
    configured(**values)(folder)
    with pytest.raises(AdapterError, match="is not opened"), opened(folder, tiny):
        pass


def test_another_base_named_without_a_record_is_warned_of(
    tiny: Base, folder: Path, caplog: pytest.LogCaptureFixture
):
    (folder / RECORD).unlink()
    configured(base_model_name_or_path="lamps/Large-8B")(folder)
    load_adapter(folder, tiny)
    assert "was made for lamps/Large-8B" in caplog.text
