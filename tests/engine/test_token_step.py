"""The short way to the next token gives transformers' logits, or is not taken."""

import gc
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lorabank.engine.backbone.base import Base
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference import token_step as steps
from lorabank.engine.inference.running_batch import RowRequest, RunningBatch
from lorabank.engine.inference.token_step import TokenStep, token_step
from tests.engine.test_running_batch import QUESTIONS, random_fleet, requests
from tests.families.catalogue import FAMILIES, Family
from tests.families.conformance import load

SHORT = ("Llama 3.1", "Qwen 2.5", "Mistral Nemo", "DeepSeek R1 distill")
LONG = ("Mistral 0.1", "Gemma 3", "Qwen 3", "Granite 3.3", "Mixtral", "Phi 3.5")


def logits_of(base: Base, fleet: Fleet, asked: Sequence[RowRequest], *, short: bool) -> Tensor:
    """Return the logits of five columns of rows that are all written to the end."""
    running = RunningBatch(base, fleet)
    assert running._token_step is not None
    running._token_step = running._token_step if short else None
    for request in asked:
        running.add(RowRequest(request.prompt, request.slot, 1.0, 5, stops=frozenset()))
    kept: list[Tensor] = []
    while running:
        running.step(lambda _, logits: kept.append(logits))
    return torch.stack(kept)


def assert_same_logits(base: Base, asked: Sequence[RowRequest], fleet: Fleet) -> None:
    with fleet:
        short, long = (logits_of(base, fleet, asked, short=short) for short in (True, False))
    torch.testing.assert_close(short, long, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n_rows", [1, 2, len(QUESTIONS)])
def test_logits_are_those_of_transformers(tiny: Base, n_rows: int):
    assert_same_logits(tiny, requests(tiny)[:n_rows], random_fleet(tiny))


def test_adapters_on_some_of_the_layers_with_one_input(tiny: Base):
    names = ("k_proj", "v_proj", "up_proj", "o_proj")
    paths = [path for path in tiny.linears if path.endswith(names)]
    fleet = Fleet(tiny, paths=paths, r=2, width=6)
    fleet.theta.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    fleet.scale.fill_(1.0)
    prompt = requests(tiny)[1].prompt
    for n in (1, 6):  # zeros beside B for few groups of rows, parts for many
        asked = [RowRequest(prompt, slot) for slot in range(n)]
        assert_same_logits(tiny, asked, fleet)


@pytest.mark.parametrize(
    "family", [f for f in FAMILIES if f.name in SHORT], ids=lambda family: family.name
)
def test_families_of_the_three_classes(family: Family, tmp_path: Path):
    if family.lacks_template:
        pytest.skip(f"{family.template}.jinja is not at LORABANK_DATA/templates")
    base = load(family.build(tmp_path / "model"))
    for module in base.model.modules():  # biases are zero where a model is made
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.data.normal_(std=0.3)
    assert_same_logits(base, requests(base), random_fleet(base))


@pytest.mark.parametrize(
    "family", [f for f in FAMILIES if f.name in LONG], ids=lambda family: family.name
)
def test_other_families_are_left_to_transformers(family: Family, tmp_path: Path):
    assert token_step(load(family.build(tmp_path / "model"))) is None


def test_layers_that_are_not_plain_are_left_to_transformers(tiny: Base):
    class Other(nn.Linear):
        """A layer that something else has put in."""

    mlp = tiny.model.model.layers[1].mlp
    mlp.up_proj = Other(64, 128)
    assert token_step(tiny) is None


def test_half_precision_where_it_is_exact(tiny: Base, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(steps, "_STEPS_BEFORE_HALVES", 0)
    for parameter in tiny.model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).float()
    exact = tiny.model.model.layers[0].mlp.down_proj.weight
    exact.data[0, 0] = 1 + 2**-15  # of this one matrix half precision would lose something
    assert_same_logits(tiny, requests(tiny), random_fleet(tiny))
    step = token_step(tiny)
    assert isinstance(step, TokenStep)
    assert not step._unpacked
    packed = [product._packed is not None for layer in step._layers for product in layer.products]
    assert packed == [True, True, True, False, True, True, True, True]


def test_what_a_fleet_adds_is_of_that_fleet_alone(tiny: Base):
    """A fleet that is gone may have had the id that a new one gets."""
    prompt = requests(tiny)[1].prompt
    for seed in range(3):
        fleet = Fleet(tiny, paths=list(tiny.linears), r=2, width=1)
        fleet.theta.normal_(std=0.1, generator=torch.Generator().manual_seed(seed))
        fleet.scale.fill_(1.0)
        assert_same_logits(tiny, [RowRequest(prompt, 0)], fleet)
        step = token_step(tiny)
        assert step is not None
        assert step._updates_of_fleet() is fleet
        del fleet
        gc.collect()
        assert step._updates_of_fleet() is None
