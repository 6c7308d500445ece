"""A base in four bits is evaluated, trained on and saved like any other."""

from pathlib import Path

import pytest
import torch

from lorabank.engine.adapters.adapter import load_adapter
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone import fourbit
from lorabank.engine.backbone.base import Base, load_base, load_info
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import read_answers, recall_share
from lorabank.engine.learn import learn, plan_job
from lorabank.engine.models.registry import find_model
from lorabank.engine.settings import settings_for
from lorabank.engine.training.train import fleet_loss
from lorabank.errors import UsageError
from lorabank.tasks.examples import from_pair

EXAMPLES = [from_pair(f"Item {i}?", f"{i * 7}") for i in range(8)]


@pytest.fixture(scope="module")
def packed(tiny_folder: Path) -> Base:
    pytest.importorskip("bitsandbytes")
    info = find_model(str(tiny_folder))
    return load_info(info, dtype="float32", device="cpu", quantize="4bit")


def test_weights_take_an_eighth_of_the_memory_and_stay_close(packed: Base, tiny: Base):
    assert packed.linears == tiny.linears
    for path, (out, inner) in packed.linears.items():
        layer = packed.model.get_submodule(path)
        assert isinstance(layer, fourbit.FourBitLinear)
        assert layer.packed_bytes == out * inner / 2
        error = (packed.weight(path) - tiny.weight(path)).norm() / tiny.weight(path).norm()
        assert 0.02 < error < 0.15  # the error of four bits, and of the same weights


def test_gradients_are_those_of_the_unpacked_weights(packed: Base, tiny: Base):
    for path in tiny.linears:
        tiny.model.get_submodule(path).weight.data.copy_(packed.weight(path))
    settings = settings_for("sound", r=4)
    grads = []
    for base in (packed, tiny):
        job = plan_job(base, EXAMPLES, settings)
        with Fleet(base, paths=job.paths, r=4) as fleet:
            fleet.initialise(0, settings, job.paths)
            fleet.theta += 0.01
            fleet_loss(fleet, [0], [job.dataset.examples]).losses.sum().backward()
            grads.append(fleet.grad.clone())
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-5, atol=1e-6)


def test_an_adapter_of_a_four_bit_base_is_learnt_saved_and_loaded(packed: Base, tmp_path: Path):
    settings = settings_for("sound", r=8, lr=5e-3, wordings=0, layers="all")
    report = learn(packed, EXAMPLES, out=tmp_path / "a", settings=settings)
    assert report.recall == 1.0
    with loaded_fleet(packed, [load_adapter(tmp_path / "a", packed)]) as fleet:
        prompts = plan_job(packed, EXAMPLES, settings).dataset.prompts
        assert recall_share(read_answers(packed, prompts, fleet=fleet, slots=[0] * 8)) == 1.0
    assert packed.precision == "float32 4bit"


def test_unknown_quantization_and_dora_on_four_bits_are_refused(packed: Base):
    with pytest.raises(UsageError, match="must be 4bit, got '3bit'"):
        load_base("random-tiny", quantize="3bit")
    dora = settings_for("sound", variant="dora", activated=False)
    with pytest.raises(UsageError, match="leave --quantize out"):
        plan_job(packed, EXAMPLES, dora)
