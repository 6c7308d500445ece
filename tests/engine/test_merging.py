"""Merged adapters give the logits of PEFT, and adapters that do not fit together are refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from lorabank.engine.adapters.adapter import Adapter, load_adapter, save_adapter
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.adapters.merging import MergeSettings, merge_adapters
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import EncodedDataset, encode_dataset
from lorabank.engine.inference.answer_readings import read_answers
from lorabank.engine.inference.generate import generate
from lorabank.errors import AdapterError, UsageError
from lorabank.lora import factors
from lorabank.lora.factors import Factors
from lorabank.lora.merge import RULES
from lorabank.lora.shapes import choose
from lorabank.tasks.examples import from_pair

WEIGHTS = [0.9, 0.35, 0.6]
PEFT_NAMES = {
    "linear": "linear",
    "cat": "cat",
    "ties": "ties",
    "svd": "svd",
    "magnitude-prune": "magnitude_prune",
}


def random_adapter(
    base: Base,
    seed: int,
    *,
    r: int = 4,
    alpha: float = 8.0,
    activated: bool = False,
    layers: Sequence[int] | None = None,
) -> Adapter:
    rng = torch.Generator().manual_seed(seed)
    weights = {
        path: (
            torch.randn(r, base.linears[path][1], generator=rng) / 8,
            torch.randn(base.linears[path][0], r, generator=rng) / 10,
        )
        for path in choose(base.linears, layers=layers)
    }
    base_record = {"name": base.info.name, "sha256": base.info.sha256}
    return Adapter(weights, r, alpha, activated, {"base": base_record, "facts_sha256": str(seed)})


@pytest.fixture
def adapters(tiny: Base) -> list[Adapter]:
    return [random_adapter(tiny, i, alpha=alpha) for i, alpha in ((1, 8.0), (2, 4.0), (3, 6.0))]


def encode_questions(base: Base, *, activated: bool) -> EncodedDataset:
    return encode_dataset(
        base.chat,
        [from_pair(f"Item {i}?", f"{i * 7}") for i in range(3)],
        recipe="sound",
        max_tokens=base.max_tokens,
        activated=activated,
    )


def logits(base: Base, adapter: Adapter) -> Tensor:
    """Return the logits of the first question, computed by the fleet."""
    question = encode_questions(base, activated=adapter.activated).prompts[0]
    with loaded_fleet(base, [adapter]) as fleet:
        adapter_mask = (
            torch.arange(len(question.prompt_ids))[None, :, None] >= question.adapter_start
        )
        with fleet.assigned([0], adapter_mask=adapter_mask), torch.inference_mode():
            result: Tensor = base.model(input_ids=torch.tensor([question.prompt_ids])).logits
    return result


def prompt(base: Base) -> Tensor:
    return torch.tensor([encode_questions(base, activated=False).prompts[0].prompt_ids])


def save(folder: Path, base: Base, adapter: Adapter, *, dropout: float = 0.0) -> Path:
    save_adapter(folder, adapter, base=base, dropout=dropout)
    return folder


def in_peft(base: Base, folder: Path, *others: Path) -> PeftModel:
    unadapted = AutoModelForCausalLM.from_pretrained(base.info.path, dtype=torch.float32)
    model = PeftModel.from_pretrained(unadapted, folder, adapter_name="0")
    for i, other in enumerate(others, 1):
        model.load_adapter(other, adapter_name=str(i))
    return model.eval()


@pytest.mark.parametrize("activated", [False, True])
@pytest.mark.parametrize("rule", PEFT_NAMES)
def test_logits_are_those_of_a_merge_by_peft(
    tiny: Base, adapters: list[Adapter], tmp_path: Path, rule: str, activated: bool
):
    adapters = [replace(adapter, activated=activated) for adapter in adapters]
    folders = [save(tmp_path / str(i), tiny, adapter) for i, adapter in enumerate(adapters)]
    model = in_peft(tiny, *folders)
    kind = PEFT_NAMES[rule]
    model.add_weighted_adapter(["0", "1", "2"], WEIGHTS, "m", combination_type=kind, density=0.5)
    model.set_adapter("m")
    with torch.inference_mode():
        peft_logits = model.eval()(input_ids=prompt(tiny)).logits
        base_logits = tiny.model(input_ids=prompt(tiny)).logits
    merged_logits = logits(tiny, merge_adapters(adapters, rule=rule, weights=WEIGHTS))
    torch.testing.assert_close(merged_logits, peft_logits, atol=1e-4, rtol=0)
    assert (merged_logits - base_logits).abs().max() > 0.1, (
        "a merge that does nothing would pass above"
    )


@pytest.mark.parametrize("rule", RULES)
def test_a_saved_merge_gives_the_same_logits_in_peft(
    tiny: Base, adapters: list[Adapter], tmp_path: Path, rule: str
):
    merge = merge_adapters(
        adapters, rule=rule, weights=WEIGHTS, settings=MergeSettings(matched_norm=True)
    )
    folder = save(tmp_path / "m", tiny, merge)
    loaded = load_adapter(folder, tiny)
    assert (loaded.r, loaded.alpha) == (merge.r, merge.r)
    merged_logits = logits(tiny, merge)
    assert torch.equal(logits(tiny, loaded), merged_logits)
    with torch.inference_mode():
        peft_logits = in_peft(tiny, folder)(input_ids=prompt(tiny)).logits
    torch.testing.assert_close(merged_logits, peft_logits, atol=1e-4, rtol=0)


def test_a_merge_has_no_dropout(tiny: Base, adapters: list[Adapter], tmp_path: Path):
    folders = [
        save(tmp_path / str(i), tiny, adapter, dropout=0.5) for i, adapter in enumerate(adapters)
    ]
    loaded = [load_adapter(folder, tiny) for folder in folders]
    merge = merge_adapters(loaded, rule="ties", weights=WEIGHTS)
    assert torch.equal(logits(tiny, merge), logits(tiny, merge))
    with torch.no_grad():
        with_dropout = in_peft(tiny, folders[0]).train()
        assert not torch.equal(
            with_dropout(input_ids=prompt(tiny)).logits, with_dropout(prompt(tiny)).logits
        )
        without_dropout = in_peft(tiny, save(tmp_path / "m", tiny, merge)).train()
        assert torch.equal(
            without_dropout(input_ids=prompt(tiny)).logits, without_dropout(prompt(tiny)).logits
        )


@pytest.mark.parametrize("rule", RULES)
def test_a_merge_of_one_adapter_is_that_adapter(tiny: Base, rule: str):
    adapter = random_adapter(tiny, 1)
    merge = merge_adapters([adapter], rule=rule, weights=[1.0], settings=MergeSettings(density=1.0))
    torch.testing.assert_close(logits(tiny, merge), logits(tiny, adapter), atol=1e-4, rtol=0)
    assert merge.r == adapter.r


def test_exact_merges_add_up(tiny: Base, adapters: list[Adapter]):
    first, second = adapters[:2]
    halves = [merge_adapters([part], rule="cat", weights=[0.5]) for part in (first, second)]
    stepwise = merge_adapters(halves, rule="cat", weights=[1.0, 1.0])
    at_once = merge_adapters([second, first], rule="mean", weights=[1.0, 1.0])
    assert stepwise.r == at_once.r == 8
    torch.testing.assert_close(logits(tiny, stepwise), logits(tiny, at_once), atol=1e-4, rtol=0)


def update(adapter: Adapter) -> list[Factors]:
    return [Factors(a, b, adapter.alpha / len(a)) for a, b in adapter.weights.values()]


@pytest.mark.parametrize("rule", RULES)
def test_matched_norm_is_the_mean_norm_of_the_parts(adapters: list[Adapter], rule: str):
    raw = merge_adapters(adapters, rule=rule, weights=WEIGHTS)
    matched = merge_adapters(
        adapters, rule=rule, weights=WEIGHTS, settings=MergeSettings(matched_norm=True)
    )
    mean_norm = sum(factors.norm(update(adapter)) for adapter in adapters) / 3
    assert factors.norm(update(matched)) == pytest.approx(mean_norm, rel=1e-5)
    assert factors.norm(update(raw)) != pytest.approx(mean_norm, rel=0.02)


def test_fleets_read_a_merge_beside_its_parts(tiny: Base, adapters: list[Adapter]):
    adapters = [replace(adapter, activated=True) for adapter in adapters]
    merge = merge_adapters(adapters, rule="cat", weights=WEIGHTS)
    questions = encode_questions(tiny, activated=True).prompts
    prompts = [question.prompt_ids for question in questions]
    with loaded_fleet(tiny, [*adapters, merge]) as fleet:
        bits = [
            read_answers(tiny, questions, fleet=fleet, slots=[slot] * 3)[0].bits
            for slot in range(4)
        ]
        together = generate(tiny, prompts, fleet=fleet, slots=[3] * 3, max_new_tokens=6)
    with loaded_fleet(tiny, [merge]) as fleet:
        alone = read_answers(tiny, questions, fleet=fleet, slots=[0] * 3)[0].bits
        assert generate(tiny, prompts, fleet=fleet, slots=[0] * 3, max_new_tokens=6) == together
    assert bits[3] == pytest.approx(alone, abs=1e-4)
    assert len({round(value, 2) for value in bits}) == 4


def test_what_dare_drops_depends_on_seed_and_layer_only(adapters: list[Adapter]):
    reordered = [replace(a, weights=dict(reversed(a.weights.items()))) for a in adapters]
    merge, same_seed, other_seed = (
        merge_adapters(parts, rule="dare-ties", weights=WEIGHTS, settings=MergeSettings(seed=seed))
        for parts, seed in ((adapters, 1), (reordered, 1), (adapters, 2))
    )
    assert merge.weights.keys() == same_seed.weights.keys() == other_seed.weights.keys()
    for path, (a, b) in merge.weights.items():
        assert torch.equal(a, same_seed.weights[path][0])
        assert torch.equal(b, same_seed.weights[path][1])
        assert not torch.equal(a, other_seed.weights[path][0])
    masks = [a[:, :64] == 0 for a, _ in merge.weights.values()]
    assert not any(torch.equal(masks[0], mask) for mask in masks[1:])


def test_ranks_may_differ(tiny: Base, adapters: list[Adapter], tmp_path: Path):
    small = random_adapter(tiny, 5, r=2)
    for rule, r in (("cat", 6), ("svd", 4)):
        merge = merge_adapters([adapters[0], small], rule=rule, weights=[1.0, 1.0])
        assert merge.r == r
        assert {len(a) for a, _ in merge.weights.values()} == {r}
    with pytest.raises(UsageError, match="of the same rank, got 4, 2"):
        merge_adapters([adapters[0], small], rule="ties", weights=[1.0, 1.0])


def test_svd_takes_a_rank_above_that_of_the_narrowest_layer(tiny: Base, tmp_path: Path):
    parts = [random_adapter(tiny, i, r=20) for i in (1, 2)]
    rank = MergeSettings(rank=40)  # k_proj has 32 outputs
    merge = merge_adapters(parts, rule="svd", weights=[1.0, 1.0], settings=rank)
    assert {len(a) for a, _ in merge.weights.values()} == {40}
    exact = merge_adapters(parts, rule="cat", weights=[1.0, 1.0])
    torch.testing.assert_close(logits(tiny, merge), logits(tiny, exact), atol=1e-4, rtol=0)
    with torch.inference_mode():
        model = in_peft(tiny, save(tmp_path / "m", tiny, merge))
        peft_logits = model(input_ids=prompt(tiny)).logits
    torch.testing.assert_close(logits(tiny, merge), peft_logits, atol=1e-4, rtol=0)


def test_the_record_names_the_rule_and_the_parts(tiny: Base, adapters: list[Adapter]):
    record = merge_adapters(
        adapters, rule="ties", weights=WEIGHTS, settings=MergeSettings(density=0.3)
    ).record
    assert record["base"]["sha256"] == tiny.info.sha256
    assert record["merge"]["rule"] == "ties"
    assert record["merge"]["weights"] == WEIGHTS
    assert record["merge"]["density"] == 0.3
    assert record["merge"]["parts_facts_sha256"] == ["1", "2", "3"]


def test_the_base_of_a_merge_is_that_of_the_parts_which_have_one(
    tiny: Base, adapters: list[Adapter]
):
    foreign = [replace(adapter, record={}) for adapter in adapters]
    assert "base" not in merge_adapters(foreign, rule="cat", weights=WEIGHTS).record
    mixed = merge_adapters([foreign[0], *adapters[1:]], rule="cat", weights=WEIGHTS)
    assert mixed.record["base"]["sha256"] == tiny.info.sha256


def test_adapters_that_do_not_belong_together_are_refused(tiny: Base, adapters: list[Adapter]):
    of_other_base = replace(adapters[1], record={"base": {"name": "other", "sha256": "f" * 64}})
    with pytest.raises(AdapterError, match=r"one base model, got .*tiny \(.*\), other \(ffffff"):
        merge_adapters([adapters[0], of_other_base], rule="cat", weights=[1.0, 1.0])
    activated = replace(adapters[1], activated=True)
    with pytest.raises(AdapterError, match="got 1 activated and 1 always on"):
        merge_adapters([adapters[0], activated], rule="cat", weights=[1.0, 1.0])
    of_last_layer = random_adapter(tiny, 4, layers=[1])
    with pytest.raises(
        AdapterError, match=r"model\.layers\.0\..* is in only one .* adapters 1 and 3 \(7"
    ):
        merge_adapters([*adapters[:2], of_last_layer], rule="cat", weights=WEIGHTS)


def test_requests_that_cannot_be_met_are_refused(adapters: list[Adapter]):
    with pytest.raises(UsageError, match="at least one adapter"):
        merge_adapters([], rule="cat", weights=[])
    with pytest.raises(UsageError, match=r"merge rule must be .* did you mean ties\?"):
        merge_adapters(adapters, rule="tie", weights=WEIGHTS)
    with pytest.raises(UsageError, match="merging 3 modules takes as many finite weights"):
        merge_adapters(adapters, rule="cat", weights=[1.0])
    with pytest.raises(UsageError, match="they cancel"):
        merge_adapters(
            adapters[:1] * 2,
            rule="cat",
            weights=[1.0, -1.0],
            settings=MergeSettings(matched_norm=True),
        )
