"""Modules in other runtimes: what each is given computes what the module does here."""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from lorabank.bank.bank import Bank
from lorabank.bank.write.runtime_export import (
    GGUF,
    ExportReport,
    ExportSettings,
    Runtime,
    export_for,
)
from lorabank.bench.llama_peer import LlamaPeer
from lorabank.cli.main import main
from lorabank.engine.adapters.adapter import Adapter, load_adapter, save_adapter
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.settings import seed_for
from lorabank.errors import UsageError


def export(
    bank: Bank, name: str, folder: Path, runtime: Runtime, *, always_on: bool = False
) -> ExportReport:
    return export_for(
        bank.store,
        bank.store.current(name),
        folder,
        ExportSettings(runtime, always_on),
        open_reader=lambda: bank.reader,
    )


def prompts_of(bank: Bank, name: str) -> list[tuple[list[int], str]]:
    """Return the prompts of a module's facts as tokens, and their answers."""
    examples = bank.reader.read_draft(bank.store.current(name)).examples
    return [(bank.base.chat.prompt_ids(e.prompt), e.answer) for e in examples]


def random_adapter(base: Base, *, activated: bool = False, r: int = 3) -> Adapter:
    generator = torch.Generator().manual_seed(seed_for(0, "random"))
    weights = {
        path: (
            torch.randn(r, inner, generator=generator) / inner**0.5,
            torch.randn(outer, r, generator=generator) / r,
        )
        for path, (outer, inner) in base.linears.items()
    }
    return Adapter(weights, r, 2.0, activated, record={})


def logits_of(base: Base, adapter: Adapter, prompt: list[int]) -> torch.Tensor:
    with loaded_fleet(base, [adapter]) as fleet, fleet.assigned([0]), torch.inference_mode():
        return base.model(input_ids=torch.tensor([prompt])).logits  # type: ignore[no-any-return]


def test_a_module_answers_in_llama_cpp_as_in_its_bank(bank: Bank, tmp_path: Path):
    pytest.importorskip("xllamacpp", reason="llama.cpp reads the file: pip install xllamacpp")
    names = ("north", "south")
    for name in names:
        export(bank, name, tmp_path / name, "gguf")
        record = json.loads((tmp_path / name / "lorabank.json").read_text())
        assert record["base"]["sha256"] == bank.base.info.sha256
    files = [tmp_path / name / GGUF for name in names]
    with closing(LlamaPeer(bank.base, files, tmp_path, in_float32=True)) as peer:
        for number, name in enumerate(names):
            for prompt, answer in prompts_of(bank, name):
                assert peer.write(prompt, number, 24, to_end=True) == answer
                assert peer.write(prompt, None, 24, to_end=True) != answer
                assert peer.write(prompt, 1 - number, 24, to_end=True) != answer


@pytest.mark.parametrize(
    ("runtime", "reason"),
    [
        ("vllm", "vLLM refuses activated adapters"),
        ("sglang", "SGLang would apply it to every token, unasked"),
        ("merged", "a merged model is on at every token"),
    ],
)
def test_an_activated_module_is_refused_where_it_cannot_run(
    bank: Bank, tmp_path: Path, runtime: Runtime, reason: str
):
    with pytest.raises(UsageError, match=rf"north version 1 is activated .* {reason}; add --alw"):
        export(bank, "north", tmp_path / "out", runtime)
    assert not (tmp_path / "out").exists()


def test_a_converted_module_recalls_everything_on_every_token(bank: Bank, tmp_path: Path):
    report = export(bank, "north", tmp_path / "vllm", "vllm", always_on=True)
    conversion = report.conversion
    assert conversion is not None
    assert conversion.recall_activated["template"] == 1.0
    assert conversion.recall["template"] == 1.0
    assert conversion.recall["none"] == 1.0
    assert conversion.missing == ()
    record = json.loads((tmp_path / "vllm" / "lorabank.json").read_text())
    assert record["always_on"]["recall_unconverted"] == dict(conversion.recall_unconverted)

    plain = AutoModelForCausalLM.from_pretrained(bank.base.info.path, dtype=torch.float32)
    model = PeftModel.from_pretrained(plain, tmp_path / "vllm").eval()
    assert model.peft_config["default"].r == 8
    for prompt, answer in prompts_of(bank, "north"):
        ids = torch.tensor([prompt])
        written = model.generate(ids, max_new_tokens=24, do_sample=False)[0, len(prompt) :]
        assert bank.base.chat.decode(written.tolist()).strip() == answer


def test_a_converted_module_is_imported_in_the_place_of_its_first_form(bank: Bank, tmp_path: Path):
    export(bank, "north", tmp_path / "out", "peft", always_on=True)
    version = bank.import_(tmp_path / "out", "north", replace=True)
    assert version.record["activated"] is False
    assert version.sources == bank.store.version("north", 1).sources
    assert bank.recall("north") == 1.0
    assert bank.reader.read_settings(version).activated is False


def test_a_merged_model_gives_the_same_logits(bank: Bank, tmp_path: Path):
    folder = tmp_path / "adapter"
    adapter = random_adapter(bank.base)
    save_adapter(folder, adapter, base=bank.base)
    before = {name: tensor.clone() for name, tensor in bank.base.model.state_dict().items()}
    bank.import_(folder, "random")
    export(bank, "random", tmp_path / "merged", "merged")
    after = bank.base.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    (prompt, _), *_ = prompts_of(bank, "north")
    with torch.inference_mode():
        merged = model(input_ids=torch.tensor([prompt])).logits
        bare = bank.base.model(input_ids=torch.tensor([prompt])).logits
    torch.testing.assert_close(merged, logits_of(bank.base, adapter, prompt), atol=1e-4, rtol=0)
    assert (merged - bare).abs().max() > 0.1


@pytest.mark.parametrize("runtime", ["vllm", "sglang", "peft"])
def test_ranks_and_scales_by_layer_are_one_rank_and_one_scale(
    bank: Bank, tmp_path: Path, runtime: Runtime
):
    """PEFT reads what it wrote by patterns and rsLoRA, and what engines get without them, alike."""
    folder = tmp_path / "patterns"
    write_patterns(bank.base, folder)
    bank.import_(folder, "patterns")
    export(bank, "patterns", tmp_path / "out", runtime)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert not {"rank_pattern", "alpha_pattern", "use_rslora", "alora_invocation_tokens"} & {
        key for key, value in config.items() if value
    }
    shapes = {
        tensor.shape for tensor in load_file(tmp_path / "out/adapter_model.safetensors").values()
    }
    r = config["r"]
    assert r == (5 if runtime == "peft" else 8)
    assert all(r in shape for shape in shapes)

    (prompt, _), *_ = prompts_of(bank, "north")
    logits = []
    for path in (folder, tmp_path / "out"):
        plain = AutoModelForCausalLM.from_pretrained(bank.base.info.path, dtype=torch.float32)
        model = PeftModel.from_pretrained(plain, path).eval()
        with torch.inference_mode():
            logits.append(model(input_ids=torch.tensor([prompt])).logits)
    torch.testing.assert_close(*logits, atol=1e-4, rtol=0)


def write_patterns(base: Base, folder: Path) -> None:
    """Have PEFT save an adapter with ranks and alphas by layer, and rsLoRA."""
    from peft import LoraConfig, get_peft_model

    plain = AutoModelForCausalLM.from_pretrained(base.info.path, dtype=torch.float32)
    config = LoraConfig(
        r=3,
        lora_alpha=4,
        rank_pattern={"q_proj": 5, "layers.1.mlp.down_proj": 2},
        alpha_pattern={"v_proj": 1.5},
        use_rslora=True,
        target_modules=["q_proj", "v_proj", "down_proj"],
        task_type="CAUSAL_LM",
        init_lora_weights=False,
    )
    torch.manual_seed(0)
    get_peft_model(plain, config).save_pretrained(folder)


def test_what_engines_cannot_take_is_refused(bank: Bank, tmp_path: Path):
    save_adapter(tmp_path / "wide", random_adapter(bank.base, r=40), base=bank.base)
    bank.import_(tmp_path / "wide", "wide")
    with pytest.raises(UsageError, match="wide version 1 is on at every token already"):
        export(bank, "wide", tmp_path / "out", "vllm", always_on=True)
    export(bank, "wide", tmp_path / "out", "sglang")
    assert load_adapter(tmp_path / "out", bank.base).r == 64
    with pytest.raises(UsageError, match=r"--out .* is not empty"):
        export(bank, "wide", tmp_path / "out", "sglang")


def test_a_module_without_examples_cannot_be_converted(bank: Bank, tmp_path: Path):
    save_adapter(tmp_path / "a", random_adapter(bank.base, activated=True), base=bank.base)
    bank.import_(tmp_path / "a", "stranger")
    with pytest.raises(UsageError, match="'stranger' was imported without its examples, so noth"):
        export(bank, "stranger", tmp_path / "out", "merged", always_on=True)


def test_the_command_says_which_runtimes_there_are(
    bank: Bank, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
):
    arguments = ["export", "north", str(tmp_path / "o"), "--bank", str(bank.store.path)]
    monkeypatch.setattr(sys, "argv", ["lorabank", *arguments, "--to", "vlm"])
    with pytest.raises(SystemExit):
        main()
    error = capsys.readouterr().err
    assert "--to must be peft, gguf, vllm, sglang, merged, got 'vlm'; did you mean vllm?" in error
