"""Adapters as GGUF files compute in llama.cpp what they compute here."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig, Qwen2Config, Qwen3Config

from lorabank.bench.llama_peer import LlamaPeer
from lorabank.engine.adapters.adapter import Adapter
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base, load_info
from lorabank.engine.models.registry import find_model
from lorabank.engine.models.tiny import build_tiny
from lorabank.engine.runtimes.gguf_files import write_adapter
from lorabank.errors import UsageError
from lorabank.tasks.examples import Message
from tests.families.catalogue import SIZES

NEAR = 1e-4  # nats; in half precision it would be some hundredths


def random_adapter(base: Base, *, activated: bool, seed: int = 0) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    weights = {
        path: (
            torch.randn(3, inner, generator=generator) / inner**0.5,
            torch.randn(outer, 3, generator=generator) / 3,
        )
        for path, (outer, inner) in base.linears.items()
    }
    return Adapter(weights, 3, 2.0, activated, record={})


def our_log_p(base: Base, adapter: Adapter, prompt: list[int], scale: float) -> torch.Tensor:
    start = base.chat.header_start(prompt) if adapter.activated else 0
    mask = torch.arange(len(prompt))[None, :, None] >= start
    with (
        loaded_fleet(base, [adapter]) as fleet,
        fleet.assigned([0], adapter_mask=mask, adapter_scales=[scale]),
        torch.inference_mode(),
    ):
        logits = base.model(input_ids=torch.tensor([prompt])).logits[0, -1]
    return logits.float().log_softmax(-1)


def check_same_log_p(base: Base, folder: Path, *, activated: bool) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp reads the files: pip install xllamacpp")
    adapters = [random_adapter(base, activated=activated, seed=seed) for seed in (0, 1)]
    prompts = [base.chat.prompt_ids([Message("user", text)]) for text in ("Who?", "And where?")]
    with closing(LlamaPeer(base, adapters, folder, in_float32=True)) as peer:
        for prompt in prompts:
            for number, scale in [(0, 1.0), (1, 1.0), (1, 0.5), (0, 0.0)]:
                ours = our_log_p(base, adapters[number], prompt, scale)
                scales = [scale if i == number else 0.0 for i in (0, 1)]
                theirs = peer.next_token_log_p(prompt, scales)
                assert len(theirs) >= 20
                assert int(ours.argmax()) == max(theirs, key=theirs.__getitem__)
                assert max(abs(float(ours[i]) - p) for i, p in theirs.items()) < NEAR
                bare = our_log_p(base, adapters[number], prompt, 0.0)
                assert scale == 0 or float((bare - ours).abs().max()) > 0.1, "it does nothing"


@pytest.mark.parametrize("activated", [True, False], ids=["activated", "always on"])
def test_llama_cpp_gives_our_log_probabilities_at_each_scale(
    tiny: Base, tmp_path: Path, activated: bool
):
    check_same_log_p(tiny, tmp_path, activated=activated)


@pytest.mark.parametrize(
    ("config", "options"),
    [(MistralConfig, {}), (Qwen2Config, {}), (Qwen3Config, {"head_dim": 32})],
    ids=["mistral", "qwen2", "qwen3"],
)
def test_other_model_types_too(tmp_path: Path, config: Any, options: dict[str, int]):
    folder = build_tiny(tmp_path / "model")  # for its tokenizer
    n_tokens = json.loads((folder / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 2}
    made = config(**{**SIZES, **options, **ends, "vocab_size": n_tokens})
    AutoModelForCausalLM.from_config(made).save_pretrained(folder)
    info = find_model(str(folder))
    base = load_info(info, dtype="float32", device="cpu")
    check_same_log_p(base, tmp_path, activated=False)


def test_the_file_names_base_alpha_task_and_the_tokens_it_is_on_from(tiny: Base, tmp_path: Path):
    write_adapter(tiny, random_adapter(tiny, activated=True), tmp_path / "a.gguf", name="north")
    fields = gguf.GGUFReader(tmp_path / "a.gguf").fields
    found = {name: field.contents() for name, field in fields.items()}
    assert found["adapter.type"] == "lora"
    assert found["adapter.lora.alpha"] == 2.0
    assert found["adapter.lora.task_name"] == "north"
    assert (
        found["adapter.alora.invocation_tokens"] == tiny.chat.header_ids()[1:]
    )  # as it is on one before
    assert found["lorabank.base.sha256"] == tiny.info.sha256

    write_adapter(tiny, random_adapter(tiny, activated=False), tmp_path / "b.gguf")
    fields = gguf.GGUFReader(tmp_path / "b.gguf").fields
    assert not {"adapter.alora.invocation_tokens", "adapter.lora.task_name"} & set(fields)


def test_a_model_type_that_is_not_written_is_refused(tiny: Base, tmp_path: Path):
    tiny.model.config.model_type = "gemma3"
    with pytest.raises(UsageError, match=r"GGUF is written for llama, .* is gemma3; export with"):
        write_adapter(tiny, random_adapter(tiny, activated=False), tmp_path / "a.gguf")
