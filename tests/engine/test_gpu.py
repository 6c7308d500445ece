"""The engine on a CUDA GPU gives the CPU's gradients, recall and texts; skipped without a GPU."""

from pathlib import Path

import pytest
import torch

from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base, load_info
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import read_answers, recall_share
from lorabank.engine.inference.generate import generate
from lorabank.engine.learn import learn, plan_job
from lorabank.engine.models.registry import find_model
from lorabank.engine.settings import settings_for
from lorabank.engine.training.train import FleetSettings, fleet_loss, train
from lorabank.tasks.examples import from_pair

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU"),
]
EXAMPLES = [from_pair(f"Item {i}?", f"{i * 7}") for i in range(8)]


def on_cuda(folder: Path, **options: str) -> Base:
    return load_info(find_model(str(folder)), **{"dtype": "float32", "device": "cuda", **options})


def gradient(base: Base) -> torch.Tensor:
    settings = settings_for("sound", r=4)
    job = plan_job(base, EXAMPLES, settings)
    with Fleet(base, paths=job.paths, r=4) as fleet:
        fleet.initialise(0, settings, job.paths)
        torch.manual_seed(0)
        fleet.theta += 0.01 * torch.randn(fleet.theta.shape).to(base.device)
        fleet_loss(fleet, [0], [job.dataset.examples]).losses.sum().backward()
        return fleet.grad.cpu()


def test_gradients_are_those_of_the_cpu(tiny_folder: Path, tiny: Base):
    torch.testing.assert_close(gradient(on_cuda(tiny_folder)), gradient(tiny), rtol=1e-3, atol=1e-4)


def test_a_fleet_learns_and_answers(tiny_folder: Path):
    base = on_cuda(tiny_folder)
    jobs = [
        plan_job(base, EXAMPLES, settings_for("sound", r=r, lr=5e-3), name=f"r={r}") for r in (4, 8)
    ]
    outcomes = train(base, jobs, fleet_settings=FleetSettings(gradient_checkpointing=True))
    assert [outcome.stopped for outcome in outcomes] == ["recalled", "recalled"]
    with loaded_fleet(base, [outcome.adapter for outcome in outcomes]) as fleet:
        prompts = [*jobs[0].dataset.prompts, *jobs[1].dataset.prompts]
        slots = [0] * 8 + [1] * 8
        assert recall_share(read_answers(base, prompts, fleet=fleet, slots=slots)) == 1.0
        prompt_ids = [prompt.prompt_ids for prompt in prompts]
        texts = generate(base, prompt_ids, fleet=fleet, slots=slots, max_new_tokens=8)
    assert texts == [prompt.answer for prompt in prompts]


def test_an_adapter_is_saved_and_a_base_in_four_bits_learns(tiny_folder: Path, tmp_path: Path):
    pytest.importorskip("bitsandbytes")
    base = on_cuda(tiny_folder, dtype="bfloat16", quantize="4bit")
    settings = settings_for("sound", r=8, lr=5e-3)
    assert learn(base, EXAMPLES, out=tmp_path / "a", settings=settings).recall >= 0.9
    assert (tmp_path / "a" / "adapter_model.safetensors").exists()
