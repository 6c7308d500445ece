"""Adapters on disk: PEFT reads what is saved, and folders that do not fit are refused."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lorabank.engine.adapters.adapter import (
    Adapter,
    check_output_folder,
    load_adapter,
    save_adapter,
)
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base, load_info
from lorabank.engine.fleet.fleet import Weights
from lorabank.engine.inference.generate import generate
from lorabank.engine.learn import learn, plan_job
from lorabank.engine.models.registry import find_model
from lorabank.engine.models.tiny import build_tiny
from lorabank.engine.settings import PLAIN
from lorabank.errors import AdapterError, StorageError, UsageError
from lorabank.tasks.examples import Example, from_pair

EXAMPLES = [from_pair(f"Item {i}?", f"{i * 7}") for i in range(6)]
QUICK = replace(PLAIN, lr=5e-3, exposures=60, until_recall=0.5)


@pytest.fixture
def adapter_folder(tiny: Base, tmp_path: Path) -> Path:
    learn(tiny, EXAMPLES, out=tmp_path / "a", settings=QUICK)
    return tmp_path / "a"


def random_weights(base: Base, paths: list[str], r: int) -> Weights:
    torch.manual_seed(1)
    return {
        path: (torch.randn(r, base.linears[path][1]), torch.randn(base.linears[path][0], r))
        for path in paths
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activated": False},
        {"layers": (1,)},
        {"target_modules": ("q_proj", "down_proj")},
        {"r": 3, "alpha": 5.0},
    ],
    ids=str,
)
def test_plain_peft_gives_the_same_logits_and_answers(
    tiny: Base, tmp_path: Path, changes: dict[str, object]
):
    settings = replace(QUICK, **changes)  # type: ignore[arg-type]
    job = plan_job(tiny, EXAMPLES, settings)
    learn(tiny, EXAMPLES, out=tmp_path / "a", settings=settings)
    prompts = [p.prompt_ids for p in job.dataset.prompts]
    with loaded_fleet(tiny, [load_adapter(tmp_path / "a", tiny)]) as fleet:
        adapter_mask = (
            torch.arange(len(prompts[0]))[None, :, None] >= job.dataset.prompts[0].adapter_start
        )
        with fleet.assigned([0], adapter_mask=adapter_mask), torch.inference_mode():
            logits = tiny.model(input_ids=torch.tensor([prompts[0]])).logits
        replies = generate(tiny, prompts, fleet=fleet, slots=[0] * 6, max_new_tokens=8)
    unadapted = AutoModelForCausalLM.from_pretrained(tiny.info.path, dtype=torch.float32)
    model = PeftModel.from_pretrained(unadapted, tmp_path / "a").eval()
    with torch.inference_mode():
        peft_logits = model(input_ids=torch.tensor([prompts[0]])).logits
        base_logits = tiny.model(input_ids=torch.tensor([prompts[0]])).logits
        texts = [
            tiny.chat.decode(
                model.generate(torch.tensor([p]), max_new_tokens=8, do_sample=False)[0]
            )
            for p in prompts
        ]
    torch.testing.assert_close(logits, peft_logits, atol=1e-4, rtol=0)
    assert (logits - base_logits).abs().max() > 0.1, "an adapter that does nothing would pass above"
    questions = [tiny.chat.decode(p) for p in prompts]
    assert [t.removeprefix(q).strip() for t, q in zip(texts, questions, strict=True)] == replies


def test_a_saved_adapter_is_loaded_unchanged(tiny: Base, tmp_path: Path):
    paths = list(tiny.linears)[:3]
    weights = random_weights(tiny, paths, r=4)
    save_adapter(tmp_path / "a", Adapter(weights, 4, 8.0, False, {"note": "é"}), base=tiny)
    loaded = load_adapter(tmp_path / "a", tiny)
    assert (loaded.r, loaded.alpha, loaded.record) == (4, 8.0, {"note": "é"})
    for path in paths:
        assert torch.equal(loaded.weights[path][0], weights[path][0])
        assert torch.equal(loaded.weights[path][1], weights[path][1])


def test_an_adapter_is_loaded_from_a_path_given_as_text(tiny: Base, tmp_path: Path):
    weights = random_weights(tiny, list(tiny.linears)[:1], r=2)
    save_adapter(tmp_path / "a", Adapter(weights, 2, 4.0, False, {}), base=tiny)
    from_text, from_path = (
        load_adapter(str(tmp_path / "a"), tiny),
        load_adapter(tmp_path / "a", tiny),
    )
    assert (from_text.r, from_text.alpha) == (2, 4.0)
    for path, pair in from_path.weights.items():
        assert all(map(torch.equal, from_text.weights[path], pair))


def test_the_record_names_the_base_the_settings_and_the_facts(tiny: Base, adapter_folder: Path):
    record = json.loads((adapter_folder / "lorabank.json").read_text())
    assert record["base"]["sha256"] == tiny.info.sha256
    assert record["settings"]["lr"] == QUICK.lr
    assert record["report"]["facts"] == 6


def test_adapter_of_another_base_is_refused(adapter_folder: Path, tmp_path: Path):
    folder = build_tiny(tmp_path / "other", seed=5)
    other_base = load_info(find_model(str(folder)), dtype="float32", device="cpu")
    with pytest.raises(AdapterError, match=r"belongs to the base model .* got .* --base"):
        load_adapter(adapter_folder, other_base)


def test_foreign_adapter_of_another_shape_is_refused(adapter_folder: Path, tmp_path: Path):
    (adapter_folder / "lorabank.json").unlink()
    folder = build_tiny(tmp_path / "other", layers=1)
    other_base = load_info(find_model(str(folder)), dtype="float32", device="cpu")
    with pytest.raises(AdapterError, match="matches no layer of"):
        load_adapter(adapter_folder, other_base)


def test_a_folder_without_an_adapter_is_refused(tiny: Base, tmp_path: Path):
    with pytest.raises(AdapterError, match=r"it has no adapter_config\.json"):
        load_adapter(tmp_path, tiny)


def test_damaged_weights_are_refused(tiny: Base, adapter_folder: Path):
    file = adapter_folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(AdapterError, match="cannot be read"):
        load_adapter(adapter_folder, tiny)


def test_a_dora_adapter_is_refused(tiny: Base, adapter_folder: Path):
    config = json.loads((adapter_folder / "adapter_config.json").read_text())
    (adapter_folder / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    with pytest.raises(AdapterError, match="use_dora=True is not read here"):
        load_adapter(adapter_folder, tiny)


def test_full_output_folder_is_refused_before_training(tiny: Base, adapter_folder: Path):
    record = (adapter_folder / "lorabank.json").read_bytes()
    with pytest.raises(UsageError, match="is not empty"):
        learn(tiny, EXAMPLES, out=adapter_folder, settings=QUICK)
    assert (adapter_folder / "lorabank.json").read_bytes() == record


def test_an_output_folder_that_is_a_file_is_refused(tmp_path: Path):
    (tmp_path / "f").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        check_output_folder(tmp_path / "f")


_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from lorabank.engine.adapters.adapter import Adapter, save_adapter
from lorabank.engine.backbone.base import load_base
import torch
base = load_base(sys.argv[1], dtype="float32", device="cpu")
weights = {p: (torch.ones(8, i), torch.ones(o, 8)) for p, (o, i) in base.linears.items()}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
save_adapter(Path(sys.argv[2]), Adapter(weights, 8, 8.0, False, {}), base=base)
"""


def test_disk_that_fills_up_leaves_nothing(tiny_folder: Path, tmp_path: Path):
    out = tmp_path / "out" / "a"
    process = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tiny_folder), str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"StorageError: cannot write {out}: the disk is full" in process.stderr
    assert list(out.parent.iterdir()) == []


def test_an_output_folder_that_cannot_be_written_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        check_output_folder(tmp_path / "file" / "a")


def test_learning_nothing_is_refused(tiny: Base, tmp_path: Path):
    no_examples: list[Example] = []
    with pytest.raises(UsageError, match="nothing to learn"):
        learn(tiny, no_examples, out=tmp_path / "a")
