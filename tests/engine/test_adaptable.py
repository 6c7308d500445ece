"""Layers that an adapter can go around are found by what they are given, not by their names."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import draft_from_examples
from lorabank.cli.learn import report_rows
from lorabank.cli.output import left_out
from lorabank.cli.write_documents import report_text
from lorabank.engine.adapters.adapter import load_adapter
from lorabank.engine.backbone.adaptable import adaptable_linears, adaptable_share
from lorabank.engine.backbone.base import Base, load_base
from lorabank.engine.learn import learn
from lorabank.engine.settings import SOUND
from lorabank.errors import AdapterError
from lorabank.tasks.examples import from_pair

IDS = torch.tensor([[1, 5, 9], [3, 3, 8]])
FACTS = [from_pair("Who?", "Me"), from_pair("Why?", "So")]
ONE_STEP = replace(SOUND, steps=1, r=2, until_recall=None)


@pytest.fixture(scope="module")
def mixture(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The tiny model with four experts, of which PEFT and we can adapt nothing but attention."""
    folder = tmp_path_factory.mktemp("models") / "mixture"
    folder.mkdir()
    for file in tiny_folder.iterdir():
        if "token" in file.name or file.suffix == ".jinja":
            (folder / file.name).write_bytes(file.read_bytes())
    small = json.loads((tiny_folder / "config.json").read_text())
    kept = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "max_position_embeddings", "bos_token_id", "eos_token_id",
            "initializer_range", "pad_token_id")  # fmt: skip
    config = MixtralConfig(
        **{key: small[key] for key in kept},
        intermediate_size=64,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=None,
    )
    torch.manual_seed(0)
    MixtralForCausalLM(config).save_pretrained(folder)
    return load_base(str(folder), dtype="float32", device="cpu")


def test_all_linear_layers_of_a_llama(tiny: Base):
    linears = adaptable_linears(tiny.model, IDS)
    assert len(linears) == 2 * 7
    assert adaptable_share(tiny.model, linears) == 1.0
    assert not left_out(1.0)


def test_experts_and_routers_are_left_out(mixture: Base):
    names = {path.rpartition(".")[2] for path in mixture.linears}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj"}
    attention = sum(out * inner for out, inner in mixture.linears.values())
    experts = 2 * (4 * 3 * 64 * 64 + 4 * 64)  # with their routers
    assert mixture.adaptable_share == pytest.approx(attention / (attention + experts))


def test_layers_that_are_never_run_are_left_out(tiny: Base):
    attention = tiny.model.model.layers[0].self_attn
    attention.unused = torch.nn.Linear(64, 64)
    assert not any("unused" in path for path in adaptable_linears(tiny.model, IDS))


def test_reports_say_how_much_is_left_out(mixture: Base, tmp_path: Path):
    report = learn(mixture, FACTS, out=tmp_path / "a", settings=ONE_STEP)
    share = f"{1 - mixture.adaptable_share:.0%} of the decoder's weights"
    assert report.as_json()["adaptable_share"] == mixture.adaptable_share
    assert dict(report_rows(report))["not adapted"].startswith(share)
    with Bank.create(tmp_path / "bank", base=mixture) as bank:
        draft = draft_from_examples("two", FACTS, source="two.csv")
        (written,) = bank.write_all([draft], settings=ONE_STEP)
    assert f"not adapted: {share}" in report_text(written)
    assert written.as_json()["adaptable_share"] == mixture.adaptable_share


@pytest.mark.parametrize(
    "target", [{"target_modules": ["gate"]}, {"target_parameters": ["mlp.experts.gate_up_proj"]}]
)
def test_an_adapter_of_layers_that_are_left_out_is_told_so(
    mixture: Base, tmp_path: Path, target: dict[str, list[str]]
):
    plain = AutoModelForCausalLM.from_pretrained(mixture.info.path, dtype=torch.float32)
    config = LoraConfig(r=2, task_type="CAUSAL_LM", **target)
    get_peft_model(plain, config).save_pretrained(tmp_path / "a")
    with pytest.raises(AdapterError, match=r"left out here|parameters that are no layers"):
        load_adapter(tmp_path / "a", mixture)
