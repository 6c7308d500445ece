"""Adapters trained through PEFT: DoRA and others learn, are saved and leave the base alone."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lorabank.cli.main import main
from lorabank.engine.backbone.base import Base
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.learn import learn, plan_job
from lorabank.engine.peft_backend import tuner
from lorabank.engine.peft_backend.tuner import applied, train_with_peft
from lorabank.engine.peft_backend.wrapped import opened, tuner_names
from lorabank.engine.settings import PAPER, PLAIN, settings_for
from lorabank.engine.training.job_progress import Progress
from lorabank.engine.training.train import train
from lorabank.errors import AdapterError, UsageError
from lorabank.tasks.examples import from_pair

EXAMPLES = [from_pair(f"Item {i}?", f"{i * 7}") for i in range(8)]
DORA = replace(
    PLAIN, variant="dora", activated=False, lr=5e-3, exposures=150, until_recall=0.9, batch_size=4
)
SHORT = replace(DORA, exposures=2, until_recall=None)


def logits(base: Base) -> torch.Tensor:
    ids = torch.tensor([base.chat.prompt_ids(EXAMPLES[0].prompt)])
    with torch.no_grad():
        return base.model(input_ids=ids).logits  # type: ignore[no-any-return]


def state_of(base: Base) -> dict[str, Any]:
    """Return everything of a base that a tuner could leave changed."""
    modules = [(name, id(m), m.training) for name, m in base.model.named_modules()]
    weights = {name: (p.clone(), p.requires_grad) for name, p in base.model.named_parameters()}
    return {"modules": modules, "weights": weights, "attributes": set(vars(base.model))}


def assert_same_state(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert after["modules"] == before["modules"]
    assert after["attributes"] == before["attributes"]
    assert after["weights"].keys() == before["weights"].keys()
    for name, (weight, grad) in before["weights"].items():
        assert torch.equal(after["weights"][name][0], weight)
        assert after["weights"][name][1] == grad


def test_dora_learns_and_plain_peft_and_recall_agree(
    tiny: Base, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before = state_of(tiny)
    out = tmp_path / "a"
    report = learn(tiny, EXAMPLES, out=out, settings=DORA)
    assert_same_state(before, state_of(tiny))
    assert (report.stopped, report.recall_before) == ("recalled", 0)
    assert report.recall >= 0.9
    assert report.kl_to_base_nats > 0
    magnitudes = sum(out for out, _ in tiny.linears.values())
    lora = sum(8 * (out + inner) for out, inner in tiny.linears.values())
    assert report.trainable_parameters == lora + magnitudes
    assert report.adapter_bytes == (out / "adapter_model.safetensors").stat().st_size
    assert {file.name for file in out.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "lorabank.json",
    }  # fmt: skip
    assert json.loads((out / "lorabank.json").read_text())["settings"]["variant"] == "dora"
    facts = tmp_path / "facts.csv"
    facts.write_text("prompt,answer\n" + "".join(f"Item {i}?,{i * 7}\n" for i in range(8)))
    argv, sys.argv = sys.argv, ["lorabank", "recall", str(out), str(facts), "--json"]
    try:
        with pytest.raises(SystemExit):
            main()
    finally:
        sys.argv = argv
    recalled = json.loads(capsys.readouterr().out)
    assert (recalled["recall"], recalled["missing"]) == (report.recall, [*report.missing])


@pytest.mark.filterwarnings("ignore:The following rank_pattern keys:RuntimeWarning")
def test_adalora_lets_ranks_fall_to_the_mean_asked_for(tiny: Base, tmp_path: Path):
    """What it masks is not saved, and plain PEFT reads the rest with the trained logits."""
    before, r = state_of(tiny), 4
    settings = replace(SHORT, variant="peft:adalora", r=r, alpha=8.0, exposures=30, lr=2e-2)
    report = learn(tiny, EXAMPLES, out=tmp_path / "a", settings=settings)
    assert_same_state(before, state_of(tiny))
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    ranks = [sum(kept) for kept in config["rank_pattern"].values()]
    assert len(ranks) == len(tiny.linears)
    assert sum(ranks) == pytest.approx(r * len(ranks), rel=0.1)
    assert len(set(ranks)) > 1
    whole = sum(6 * (out + inner + 1) for out, inner in tiny.linears.values())
    assert report.trainable_parameters == whole  # one and a half times the rank, to begin with
    with opened(tmp_path / "a", tiny):
        reloaded = logits(tiny)
    plain = AutoModelForCausalLM.from_pretrained(tiny.info.path, dtype=torch.float32)
    model = PeftModel.from_pretrained(plain, tmp_path / "a").eval()
    ids = torch.tensor([tiny.chat.prompt_ids(EXAMPLES[0].prompt)])
    with torch.no_grad():
        torch.testing.assert_close(reloaded, model(input_ids=ids).logits, atol=1e-4, rtol=0)
    with applied(tiny, train_with_peft(tiny, plan_job(tiny, EXAMPLES, settings))):
        trained = logits(tiny)
    torch.testing.assert_close(reloaded, trained, atol=1e-4, rtol=0)
    assert (trained - logits(tiny)).abs().max() > 0.05


@pytest.mark.parametrize("variant", ["dora", "peft:ia3", "peft:loha", "peft:vera", "peft:oft"])
def test_a_saved_adapter_gives_the_trained_logits_in_plain_peft(
    tiny: Base, tmp_path: Path, variant: str
):
    settings = replace(SHORT, variant=variant, r=4, exposures=10, lr=2e-2)
    outcome = train_with_peft(tiny, plan_job(tiny, EXAMPLES, settings))
    assert outcome.curve[-1].loss < outcome.curve[0].loss
    report = learn(tiny, EXAMPLES, out=tmp_path / "a", settings=settings)
    assert report.exposures_per_fact == 10
    base_logits = logits(tiny)
    with applied(tiny, outcome):
        trained = logits(tiny)
    with opened(tmp_path / "a", tiny):
        reloaded = logits(tiny)
    unadapted = AutoModelForCausalLM.from_pretrained(tiny.info.path, dtype=torch.float32)
    model = PeftModel.from_pretrained(unadapted, tmp_path / "a").eval()
    ids = torch.tensor([tiny.chat.prompt_ids(EXAMPLES[0].prompt)])
    with torch.no_grad():
        peft_logits = model(input_ids=ids).logits
    torch.testing.assert_close(trained, peft_logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(reloaded, peft_logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(logits(tiny), base_logits, atol=0, rtol=0)
    assert (trained - base_logits).abs().max() > 0.05, (
        "an adapter that does nothing would pass above"
    )


def test_lora_through_peft_takes_the_steps_of_the_fleet(tiny: Base):
    """The fleet and PEFT train the same adapter: same batches, loss, clip and schedule."""
    settings = replace(SHORT, exposures=4, weight_decay=0.1, objective="memft-window")
    fleet_job = plan_job(tiny, EXAMPLES, replace(settings, variant="lora"))
    peft_job = plan_job(tiny, EXAMPLES, replace(settings, variant="peft:lora"))
    with Fleet(tiny, paths=fleet_job.paths, r=8) as fleet:
        fleet.initialise(0, fleet_job.settings, fleet_job.paths)
        start = fleet.extract(0, r=8, paths=fleet_job.paths)
    with tuner._built(tiny, peft_job) as model:
        for path, pair in start.items():
            layer = model.base_model.model.get_submodule(path)
            layer.lora_A["default"].weight.data.copy_(pair[0])
            layer.lora_B["default"].weight.data.copy_(pair[1])
        training = tuner._Training(tiny, peft_job, model)
        tuned = training.outcome(training.run(lambda _: None))
    trained = train(tiny, [fleet_job])[0]
    assert (tuned.steps, tuned.trained_tokens) == (trained.steps, trained.trained_tokens)
    assert (tuned.recall, tuned.stopped) == (trained.recall, trained.stopped)
    for fleet_epoch, peft_epoch in zip(trained.curve, tuned.curve, strict=True):
        assert peft_epoch.loss == pytest.approx(fleet_epoch.loss, abs=1e-3)
        assert (peft_epoch.exposures, peft_epoch.seen_recall) == (
            fleet_epoch.exposures,
            fleet_epoch.seen_recall,
        )
    for path, pair in trained.weights.items():
        for letter, tensor in zip("AB", pair, strict=True):
            name = f"base_model.model.{path}.lora_{letter}.default.weight"
            # B starts at zero, where Adam's first step is the sign of a gradient: a few may flip
            torch.testing.assert_close(tuned.state[name], tensor, atol=1e-3, rtol=0)


def test_layers_and_modules_chosen_are_the_ones_adapted(tiny: Base):
    settings = replace(SHORT, target_modules=("q_proj", "down_proj"), layers=(1,))
    job = plan_job(tiny, EXAMPLES, settings)
    names = train_with_peft(tiny, job).state
    adapted = {name.removeprefix("base_model.model.").split(".lora_")[0] for name in names}
    assert adapted == {*job.paths}


def test_paper_recipe_with_dropout_runs_and_repeats(tiny: Base):
    settings = replace(PAPER, variant="dora", steps=4, lr=1e-3)
    job = plan_job(tiny, EXAMPLES, settings)
    first, second = (train_with_peft(tiny, job) for _ in range(2))
    assert first.curve == second.curve
    assert all(torch.equal(first.state[name], second.state[name]) for name in first.state)
    no_dropout = plan_job(tiny, EXAMPLES, replace(settings, dropout=0.0))
    without_dropout = train_with_peft(tiny, no_dropout)
    assert any(
        not torch.equal(first.state[name], without_dropout.state[name]) for name in first.state
    )


def test_interrupt_keeps_the_best_so_far(tiny: Base, tmp_path: Path):
    before = state_of(tiny)
    settings = replace(DORA, exposures=1000, until_recall=1.0, lr=2e-3)
    report = learn(tiny, EXAMPLES, out=tmp_path / "a", settings=settings, on_step=_stop_at(36))
    assert report.stopped == "interrupted"
    assert report.recall > 0
    assert (tmp_path / "a" / "adapter_model.safetensors").exists()
    assert_same_state(before, state_of(tiny))


def test_divergence_is_an_error_and_writes_nothing(tiny: Base, tmp_path: Path):
    with torch.no_grad():
        tiny.model.get_output_embeddings().weight[7] = math.nan
    with pytest.raises(UsageError, match=r"diverged after .* exposures"):
        learn(tiny, EXAMPLES, out=tmp_path / "a", settings=SHORT)
    assert list(tmp_path.iterdir()) == []


def test_divergence_leaves_the_last_good_state(tiny: Base):
    job = plan_job(tiny, EXAMPLES, replace(SHORT, exposures=4))
    head, head_before = tiny.model.get_output_embeddings().weight, []

    def break_the_head(progress: Progress) -> None:
        if progress.steps == 5:  # in the third epoch of two steps
            head_before.append(head.clone())
            with torch.no_grad():
                head[7] = math.nan

    outcome = train_with_peft(tiny, job, on_step=break_the_head)
    with torch.no_grad():
        head.copy_(head_before[0])
    assert (outcome.stopped, outcome.steps) == ("diverged", 5)
    two_epochs = replace(SHORT, exposures=2)
    expected_state = train_with_peft(tiny, plan_job(tiny, EXAMPLES, two_epochs)).state
    assert all(torch.equal(outcome.state[name], expected_state[name]) for name in expected_state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "peft:xyz"}, r"peft:xyz is not a tuner of PEFT .*; choose from dora, .*loha"),
        ({"variant": "peft:lohaa"}, r"did you mean loha"),
        ({"variant": "peft:poly"}, r"peft:poly is not supported, as it needs a task"),
        ({"variant": "dora", "r": 65}, r"--variant dora takes r 1\.\.32 .* got 65"),
    ],
)
def test_settings_that_cannot_be_trained_are_refused_before_training(
    tiny: Base, changes: dict[str, Any], message: str
):
    with pytest.raises(UsageError, match=message):
        plan_job(tiny, EXAMPLES, replace(SHORT, **changes))


@pytest.mark.parametrize("variant", ["dora", "peft:loha"])
def test_activated_is_refused_naming_the_flag(variant: str):
    with pytest.raises(UsageError, match=rf"--variant {variant} .* add --always-on"):
        settings_for("sound", variant=variant)
    assert settings_for("sound", variant=variant, activated=False).through_peft


def test_tuner_that_does_not_fit_leaves_the_base_whole(tiny: Base, tmp_path: Path):
    before = state_of(tiny)
    settings = replace(SHORT, variant="peft:vblora")  # needs multiples of 256 inputs
    with pytest.raises(UsageError, match=r"peft:vblora does not fit these layers: .*256"):
        learn(tiny, EXAMPLES, out=tmp_path / "a", settings=settings)
    assert_same_state(before, state_of(tiny))


def test_folder_of_another_kind_or_base_is_refused(tiny: Base, tmp_path: Path):
    out = tmp_path / "a"
    learn(tiny, EXAMPLES, out=out, settings=SHORT)
    config = json.loads((out / "adapter_config.json").read_text())
    before = state_of(tiny)
    (out / "adapter_config.json").write_text(json.dumps({**config, "r": 4}))
    with pytest.raises(AdapterError, match=r"cannot be read for"), opened(out, tiny):
        pass
    assert_same_state(before, state_of(tiny))
    record = json.loads((out / "lorabank.json").read_text())
    record["base"]["sha256"] = "0" * 64
    (out / "lorabank.json").write_text(json.dumps(record))
    with pytest.raises(AdapterError, match="belongs to the base model"), opened(out, tiny):
        pass


def test_tuner_names_are_those_of_the_installed_peft():
    names = tuner_names()
    assert {"dora", "lora", "loha", "lokr", "ia3", "vera", "oft"} <= {*names}
    assert not {"xlora", "prefix_tuning", "poly", "trainable_tokens"} & {*names}


def _stop_at(steps: int) -> Any:
    def stop(progress: Progress) -> None:
        if progress.steps == steps:
            raise KeyboardInterrupt

    return stop
