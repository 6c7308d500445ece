"""Ranks that fit: growing changes nothing at its moment, misses make a job grow, PEFT reads it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lorabank.engine.adapters.adapter import load_adapter, read_record
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.fit_rank import grow, train_and_fit
from lorabank.engine.learn import learn, plan_job
from lorabank.engine.settings import TrainSettings, settings_for
from lorabank.engine.training.train import train
from lorabank.errors import UsageError
from lorabank.lora.growth import grown
from lorabank.tasks.synthetic import phonebook

FACTS = phonebook.to_examples(phonebook.build(6, seed=3))
AUTO = TrainSettings(
    r=1,
    auto_r=True,
    alpha=2.0,
    layers=None,
    lr=1e-2,
    exposures=200,
    wordings=0,
    protect_share=0.0,
)
IDS = torch.tensor([[1, 5, 9, 33, 7, 2, 40]])


def logits(base: Base, adapter: object, fleet_r: int) -> torch.Tensor:
    from lorabank.engine.adapters.adapter import Adapter
    from lorabank.engine.fleet.fleet import Fleet

    assert isinstance(adapter, Adapter)
    with Fleet(base, paths=list(adapter.weights), r=fleet_r) as fleet:
        fleet.load(0, adapter.weights, alpha=adapter.alpha, activated=False)
        with fleet.assigned([0]):
            return base.model(input_ids=IDS).logits  # type: ignore[no-any-return]


def test_growing_keeps_the_product_and_gives_new_columns_a_gradient():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 16, generator=generator), torch.randn(9, 2, generator=generator)
    wide_a, wide_b = grown(a, b, 5, generator)
    assert wide_a.shape == (5, 16)
    assert torch.equal(wide_a[:2], a)
    assert torch.equal(wide_b[:, :2], b)
    assert not wide_b[:, 2:].any()
    assert bool((wide_a[2:].abs() <= 0.25).all())
    assert bool(wide_a[2:].any(dim=1).all())  # zero in both factors would never train


def test_logits_are_equal_to_the_bit_when_an_adapter_grows(tiny: Base):
    settings = replace(AUTO, exposures=3, activated=False, auto_r=False, until_recall=None)
    (outcome,) = train(tiny, [plan_job(tiny, FACTS, settings)])
    job = grow(tiny, replace(outcome, job=replace(outcome.job, settings=AUTO)))
    assert job.start is not None
    assert (job.settings.r, job.settings.alpha) == (2, 4.0)
    wide = replace(outcome.adapter, weights=job.start, r=2, alpha=4.0)
    before, after = logits(tiny, outcome.adapter, 2), logits(tiny, wide, 2)
    assert torch.equal(before, after)
    assert not torch.equal(before, tiny.model(input_ids=IDS).logits)
    torch.testing.assert_close(logits(tiny, outcome.adapter, 1), after)


def test_a_job_that_misses_facts_grows_and_goes_on_from_its_weights(tiny: Base):
    brief = replace(AUTO, exposures=4)
    job = plan_job(tiny, FACTS, brief)
    (outcome,) = train_and_fit(tiny, [job], [FACTS])
    assert outcome.job.settings.r > 1
    assert outcome.exposures % 4 == 0 or outcome.stopped == "recalled"
    assert outcome.exposures > 4
    losses = [epoch.loss for epoch in outcome.curve]
    assert losses[4] < losses[0]  # the second stage begins where the first ended


def test_what_was_fitted_recalls_all_in_fewer_bytes_and_peft_reads_it(
    tiny: Base, tiny_folder: Path, tmp_path: Path
):
    whole = replace(AUTO, r=8, alpha=16.0, auto_r=False, activated=False)
    fixed = learn(tiny, FACTS, out=tmp_path / "r8", settings=whole)
    fitted = learn(tiny, FACTS, out=tmp_path / "auto", settings=replace(AUTO, activated=False))
    assert fixed.recall == fitted.recall == 1.0
    assert fitted.adapter_bytes < fixed.adapter_bytes / 2
    assert fitted.trainable_parameters < fixed.trainable_parameters / 2
    assert read_record(tmp_path / "auto")["settings"]["auto_r"] is True
    adapter = load_adapter(tmp_path / "auto", tiny)
    with loaded_fleet(tiny, [adapter]) as fleet, fleet.assigned([0]):
        ours = tiny.model(input_ids=IDS).logits
    plain = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(plain, tmp_path / "auto").eval()(input_ids=IDS).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_ranks_that_cannot_be_are_refused(tiny: Base, tmp_path: Path):
    from lorabank.cli.options import parse_rank

    with pytest.raises(UsageError, match=r"takes r 1\.\.\d+ for these layers .* got 4096"):
        learn(tiny, FACTS, out=tmp_path / "a", settings=replace(AUTO, r=4096))
    with pytest.raises(UsageError, match="--r auto takes --recipe sound and --variant lora"):
        replace(AUTO, variant="pissa")
    with pytest.raises(UsageError, match="--r auto goes by recall"):
        settings_for("sound", auto_r=True, r=1, exposures=5)
    with pytest.raises(UsageError, match="--r must be a rank, or auto, got 'some'"):
        parse_rank("some")
    assert parse_rank("auto") == {"r": 1, "auto_r": True}
    assert parse_rank("4") == {"r": 4}
    assert parse_rank(None) == {}


def test_growing_stops_at_what_the_layers_take(tiny: Base):
    limit = min(min(shape) for shape in tiny.linears.values())
    stuck = replace(AUTO, exposures=1, lr=1e-6, r=limit // 2, alpha=float(limit))
    (outcome,) = train_and_fit(tiny, [plan_job(tiny, FACTS, stuck)], [FACTS])
    assert outcome.job.settings.r == min(64, limit)
    assert outcome.stopped == "budget"
