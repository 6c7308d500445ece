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


def adapter(
    base: Base,
    seed: int,
    *,
    r: int = 4,
    alpha: float = 8.0,
    activated: bool = False,
    layers: Sequence[int] | None = None,
) -> Adapter:
    g = torch.Generator().manual_seed(seed)
    weights = {
        path: (
            torch.randn(r, base.linears[path][1], generator=g) / 8,
            torch.randn(base.linears[path][0], r, generator=g) / 10,
        )
        for path in choose(base.linears, layers=layers)
    }
    known = {"name": base.info.name, "sha256": base.info.sha256}
    return Adapter(weights, r, alpha, activated, {"base": known, "facts_sha256": str(seed)})


@pytest.fixture
def three(tiny: Base) -> list[Adapter]:
    return [adapter(tiny, i, alpha=alpha) for i, alpha in ((1, 8.0), (2, 4.0), (3, 6.0))]


def lessons(base: Base, *, activated: bool) -> EncodedDataset:
    return encode_dataset(
        base.chat,
        [from_pair(f"Item {i}?", f"{i * 7}") for i in range(3)],
        recipe="sound",
        max_tokens=base.max_tokens,
        activated=activated,
    )


def logits(base: Base, one: Adapter) -> Tensor:
    """Of the first question, by the fleet."""
    probe = lessons(base, activated=one.activated).prompts[0]
    with loaded_fleet(base, [one]) as fleet:
        on = torch.arange(len(probe.prompt_ids))[None, :, None] >= probe.adapter_start
        with fleet.assigned([0], adapter_mask=on), torch.inference_mode():
            found: Tensor = base.model(input_ids=torch.tensor([probe.prompt_ids])).logits
    return found


def prompt(base: Base) -> Tensor:
    return torch.tensor([lessons(base, activated=False).prompts[0].prompt_ids])


def save(folder: Path, base: Base, one: Adapter, *, dropout: float = 0.0) -> Path:
    save_adapter(folder, one, base=base, dropout=dropout)
    return folder


def in_peft(base: Base, folder: Path, *others: Path) -> PeftModel:
    plain = AutoModelForCausalLM.from_pretrained(base.info.path, dtype=torch.float32)
    model = PeftModel.from_pretrained(plain, folder, adapter_name="0")
    for i, other in enumerate(others, 1):
        model.load_adapter(other, adapter_name=str(i))
    return model.eval()


@pytest.mark.parametrize("activated", [False, True])
@pytest.mark.parametrize("rule", PEFT_NAMES)
def test_logits_are_those_of_a_merge_by_peft(
    tiny: Base, three: list[Adapter], tmp_path: Path, rule: str, activated: bool
):
    three = [replace(one, activated=activated) for one in three]
    folders = [save(tmp_path / str(i), tiny, one) for i, one in enumerate(three)]
    model = in_peft(tiny, *folders)
    kind = PEFT_NAMES[rule]
    model.add_weighted_adapter(["0", "1", "2"], WEIGHTS, "m", combination_type=kind, density=0.5)
    model.set_adapter("m")
    with torch.inference_mode():
        theirs = model.eval()(input_ids=prompt(tiny)).logits
        bare = tiny.model(input_ids=prompt(tiny)).logits
    ours = logits(tiny, merge_adapters(three, rule=rule, weights=WEIGHTS))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert (ours - bare).abs().max() > 0.1, "a merge that does nothing would pass above"


@pytest.mark.parametrize("rule", RULES)
def test_saved_and_loaded_in_plain_peft(
    tiny: Base, three: list[Adapter], tmp_path: Path, rule: str
):
    one = merge_adapters(
        three, rule=rule, weights=WEIGHTS, settings=MergeSettings(matched_norm=True)
    )
    folder = save(tmp_path / "m", tiny, one)
    back = load_adapter(folder, tiny)
    assert (back.r, back.alpha) == (one.r, one.r)
    ours = logits(tiny, one)
    assert torch.equal(logits(tiny, back), ours)
    with torch.inference_mode():
        theirs = in_peft(tiny, folder)(input_ids=prompt(tiny)).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_no_dropout_is_left_on(tiny: Base, three: list[Adapter], tmp_path: Path):
    parts = [save(tmp_path / str(i), tiny, one, dropout=0.5) for i, one in enumerate(three)]
    loaded = [load_adapter(folder, tiny) for folder in parts]
    one = merge_adapters(loaded, rule="ties", weights=WEIGHTS)
    assert torch.equal(logits(tiny, one), logits(tiny, one))
    with torch.no_grad():
        noisy = in_peft(tiny, parts[0]).train()
        assert not torch.equal(noisy(input_ids=prompt(tiny)).logits, noisy(prompt(tiny)).logits)
        still = in_peft(tiny, save(tmp_path / "m", tiny, one)).train()
        assert torch.equal(still(input_ids=prompt(tiny)).logits, still(prompt(tiny)).logits)


@pytest.mark.parametrize("rule", RULES)
def test_one_adapter_is_itself(tiny: Base, rule: str):
    one = adapter(tiny, 1)
    same = merge_adapters([one], rule=rule, weights=[1.0], settings=MergeSettings(density=1.0))
    torch.testing.assert_close(logits(tiny, same), logits(tiny, one), atol=1e-4, rtol=0)
    assert same.r == one.r


def test_exact_merges_add_up(tiny: Base, three: list[Adapter]):
    first, second = three[:2]
    halves = [merge_adapters([one], rule="cat", weights=[0.5]) for one in (first, second)]
    stepwise = merge_adapters(halves, rule="cat", weights=[1.0, 1.0])
    at_once = merge_adapters([second, first], rule="mean", weights=[1.0, 1.0])
    assert stepwise.r == at_once.r == 8
    torch.testing.assert_close(logits(tiny, stepwise), logits(tiny, at_once), atol=1e-4, rtol=0)


def update(one: Adapter) -> list[Factors]:
    return [Factors(a, b, one.alpha / len(a)) for a, b in one.weights.values()]


@pytest.mark.parametrize("rule", RULES)
def test_matched_norm(three: list[Adapter], rule: str):
    raw = merge_adapters(three, rule=rule, weights=WEIGHTS)
    matched = merge_adapters(
        three, rule=rule, weights=WEIGHTS, settings=MergeSettings(matched_norm=True)
    )
    wanted = sum(factors.norm(update(one)) for one in three) / 3
    assert factors.norm(update(matched)) == pytest.approx(wanted, rel=1e-5)
    assert factors.norm(update(raw)) != pytest.approx(wanted, rel=0.02)


def test_fleets_read_a_merge_beside_its_parts(tiny: Base, three: list[Adapter]):
    three = [replace(one, activated=True) for one in three]
    merge = merge_adapters(three, rule="cat", weights=WEIGHTS)
    some = lessons(tiny, activated=True).prompts
    prompts = [probe.prompt_ids for probe in some]
    with loaded_fleet(tiny, [*three, merge]) as fleet:
        bits = [
            read_answers(tiny, some, fleet=fleet, slots=[slot] * 3)[0].bits for slot in range(4)
        ]
        together = generate(tiny, prompts, fleet=fleet, slots=[3] * 3, max_new_tokens=6)
    with loaded_fleet(tiny, [merge]) as fleet:
        alone = read_answers(tiny, some, fleet=fleet, slots=[0] * 3)[0].bits
        assert generate(tiny, prompts, fleet=fleet, slots=[0] * 3, max_new_tokens=6) == together
    assert bits[3] == pytest.approx(alone, abs=1e-4)
    assert len({round(value, 2) for value in bits}) == 4


def test_what_dare_drops_goes_by_seed_and_layer_not_by_order(three: list[Adapter]):
    turned = [replace(one, weights=dict(reversed(one.weights.items()))) for one in three]
    one, again, other = (
        merge_adapters(parts, rule="dare-ties", weights=WEIGHTS, settings=MergeSettings(seed=seed))
        for parts, seed in ((three, 1), (turned, 1), (three, 2))
    )
    assert one.weights.keys() == again.weights.keys() == other.weights.keys()
    for path, (a, b) in one.weights.items():
        assert torch.equal(a, again.weights[path][0])
        assert torch.equal(b, again.weights[path][1])
        assert not torch.equal(a, other.weights[path][0])
    masks = [a[:, :64] == 0 for a, _ in one.weights.values()]
    assert not any(torch.equal(masks[0], mask) for mask in masks[1:])


def test_ranks_may_differ(tiny: Base, three: list[Adapter], tmp_path: Path):
    small = adapter(tiny, 5, r=2)
    for rule, r in (("cat", 6), ("svd", 4)):
        one = merge_adapters([three[0], small], rule=rule, weights=[1.0, 1.0])
        assert one.r == r
        assert {len(a) for a, _ in one.weights.values()} == {r}
    with pytest.raises(UsageError, match="of the same rank, got 4, 2"):
        merge_adapters([three[0], small], rule="ties", weights=[1.0, 1.0])


def test_svd_wider_than_the_narrowest_layer(tiny: Base, tmp_path: Path):
    parts = [adapter(tiny, i, r=20) for i in (1, 2)]
    rank = MergeSettings(rank=40)  # k_proj has 32 outputs
    one = merge_adapters(parts, rule="svd", weights=[1.0, 1.0], settings=rank)
    assert {len(a) for a, _ in one.weights.values()} == {40}
    whole = merge_adapters(parts, rule="cat", weights=[1.0, 1.0])
    torch.testing.assert_close(logits(tiny, one), logits(tiny, whole), atol=1e-4, rtol=0)
    with torch.inference_mode():
        model = in_peft(tiny, save(tmp_path / "m", tiny, one))
        theirs = model(input_ids=prompt(tiny)).logits
    torch.testing.assert_close(logits(tiny, one), theirs, atol=1e-4, rtol=0)


def test_record_says_how_and_of_what(tiny: Base, three: list[Adapter]):
    record = merge_adapters(
        three, rule="ties", weights=WEIGHTS, settings=MergeSettings(density=0.3)
    ).record
    assert record["base"]["sha256"] == tiny.info.sha256
    assert record["merge"]["rule"] == "ties"
    assert record["merge"]["weights"] == WEIGHTS
    assert record["merge"]["density"] == 0.3
    assert record["merge"]["parts_facts_sha256"] == ["1", "2", "3"]


def test_adapters_of_unknown_origin(tiny: Base, three: list[Adapter]):
    foreign = [replace(one, record={}) for one in three]
    assert "base" not in merge_adapters(foreign, rule="cat", weights=WEIGHTS).record
    mixed = merge_adapters([foreign[0], *three[1:]], rule="cat", weights=WEIGHTS)
    assert mixed.record["base"]["sha256"] == tiny.info.sha256


def test_adapters_that_do_not_belong_together(tiny: Base, three: list[Adapter]):
    other = replace(three[1], record={"base": {"name": "other", "sha256": "f" * 64}})
    with pytest.raises(AdapterError, match=r"one base model, got .*tiny \(.*\), other \(ffffff"):
        merge_adapters([three[0], other], rule="cat", weights=[1.0, 1.0])
    activated = replace(three[1], activated=True)
    with pytest.raises(AdapterError, match="got 1 activated and 1 always on"):
        merge_adapters([three[0], activated], rule="cat", weights=[1.0, 1.0])
    last = adapter(tiny, 4, layers=[1])
    with pytest.raises(
        AdapterError, match=r"model\.layers\.0\..* is in only one .* adapters 1 and 3 \(7"
    ):
        merge_adapters([*three[:2], last], rule="cat", weights=WEIGHTS)


def test_requests_that_cannot_be_met(three: list[Adapter]):
    with pytest.raises(UsageError, match="at least one adapter"):
        merge_adapters([], rule="cat", weights=[])
    with pytest.raises(UsageError, match=r"merge rule must be .* did you mean ties\?"):
        merge_adapters(three, rule="tie", weights=WEIGHTS)
    with pytest.raises(UsageError, match="merging 3 modules takes as many finite weights"):
        merge_adapters(three, rule="cat", weights=[1.0])
    with pytest.raises(UsageError, match="they cancel"):
        merge_adapters(
            three[:1] * 2,
            rule="cat",
            weights=[1.0, -1.0],
            settings=MergeSettings(matched_norm=True),
        )
