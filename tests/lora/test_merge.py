"""Merged products B A equal PEFT's and the formulas; a model sees nothing else of a merge."""

from collections.abc import Sequence

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import merge_utils
from torch import Tensor, nn

from lorabank.errors import UsageError
from lorabank.lora import factors, merge
from lorabank.lora.factors import Factors
from lorabank.lora.merge import RULES, Options

OUT, INNER, R = 24, 40, 4
WEIGHTS = [0.9, 0.35, 0.6]
# Rules that give a single module unchanged, whatever the density.
EXACT = ("mean", "cat", "cat-1/n", "svd", "linear")
PEFT_NAMES = {
    "linear": "linear",
    "cat": "cat",
    "ties": "ties",
    "svd": "svd",
    "magnitude-prune": "magnitude_prune",
}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def module(seed: int, *, r: int = R, scale: float = 0.5) -> Factors:
    g = rng(seed)
    return Factors(torch.randn(r, INNER, generator=g), torch.randn(OUT, r, generator=g), scale)


@pytest.fixture
def modules() -> list[Factors]:
    return [module(1, scale=0.5), module(2, scale=2.0), module(3, scale=1.0)]


def product(f: Factors) -> Tensor:
    return f.scale * (f.b @ f.a)


def total(parts: Sequence[Factors], weights: Sequence[float]) -> Tensor:
    return torch.stack([w * product(p) for p, w in zip(parts, weights, strict=True)]).sum(0)


def merged(
    rule: str, parts: Sequence[Factors], weights: Sequence[float], *, density: float = 0.5
) -> Tensor:
    return product(RULES[rule](parts, weights, Options(rng(), density)))


def peft_model(parts: Sequence[Factors]) -> PeftModel:
    model = nn.Sequential()
    model.add_module("linear", nn.Linear(INNER, OUT, bias=False))
    wrapped: PeftModel | None = None
    for i, part in enumerate(parts):
        alpha = part.scale * part.r
        config = LoraConfig(r=part.r, lora_alpha=alpha, target_modules=["linear"])  # type: ignore[arg-type]
        if wrapped is None:
            wrapped = get_peft_model(model, config, adapter_name=str(i))
        else:
            wrapped.add_adapter(str(i), config)
        layer = wrapped.base_model.model.linear
        layer.lora_A[str(i)].weight.data = part.a.clone()
        layer.lora_B[str(i)].weight.data = part.b.clone()
    assert wrapped is not None
    return wrapped


@pytest.mark.parametrize("weights", [WEIGHTS, [1.0, 1.0, 1.0], [0.5, -0.7, 1.2]], ids=str)
@pytest.mark.parametrize("rule", PEFT_NAMES)
def test_products_are_those_of_peft(modules: list[Factors], rule: str, weights: list[float]):
    model = peft_model(modules)
    names, kind = [str(i) for i in range(3)], PEFT_NAMES[rule]
    model.add_weighted_adapter(names, weights, "m", combination_type=kind, density=0.3)
    peft_product = model.base_model.model.linear.get_delta_weight("m")
    merged_product = merged(rule, modules, weights, density=0.3)
    torch.testing.assert_close(merged_product, peft_product, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rule", ["dare-linear", "dare-ties"])
def test_dare_is_that_of_peft_from_the_same_seed(modules: list[Factors], rule: str):
    roots = torch.tensor([w * p.scale for w, p in zip(WEIGHTS, modules, strict=True)]).sqrt()
    peft_rule = getattr(merge_utils, rule.replace("-", "_"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        a = peft_rule([p.a for p in modules], roots, 0.3)
        b = peft_rule([p.b for p in modules], roots, 0.3)
    merge_result = RULES[rule](modules, WEIGHTS, Options(rng(7), 0.3))
    torch.testing.assert_close(merge_result.a, a, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(merge_result.b, b, atol=1e-5, rtol=1e-5)


def test_dare_keeps_the_expectation_of_linear(modules: list[Factors]):
    options = Options(rng(), 0.5)
    draws = torch.stack(
        [product(RULES["dare-linear"](modules, WEIGHTS, options)) for _ in range(4000)]
    )
    distance = (draws.mean(0) - merged("linear", modules, WEIGHTS)).abs()
    error = draws.std(0) / 4000**0.5
    assert (distance / error).max() < 5  # the largest of 960 normal numbers is about 3.3
    assert (draws.std(0) > 0.1).all()


def test_exact_rules_are_sums_of_products(modules: list[Factors]):
    whole = total(modules, WEIGHTS)
    torch.testing.assert_close(merged("cat", modules, WEIGHTS), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(merged("cat-1/n", modules, WEIGHTS), whole / 3, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        merged("mean", modules, WEIGHTS), whole / sum(WEIGHTS), atol=1e-5, rtol=1e-5
    )


def test_linear_has_the_cross_terms(modules: list[Factors]):
    roots = [(w * p.scale) ** 0.5 for w, p in zip(WEIGHTS, modules, strict=True)]
    expected = sum(
        x * y * (p.b @ q.a)
        for x, p in zip(roots, modules, strict=True)
        for y, q in zip(roots, modules, strict=True)
    )
    merged_product = merged("linear", modules, WEIGHTS)
    torch.testing.assert_close(merged_product, expected, atol=1e-5, rtol=1e-5)
    assert (merged_product - total(modules, WEIGHTS)).norm() > 0.5 * merged_product.norm()


@pytest.mark.parametrize("rank", [1, 5, 12, None])
def test_svd_is_the_best_of_its_rank(modules: list[Factors], rank: int | None):
    whole = total(modules, WEIGHTS)
    u, s, vh = torch.linalg.svd(whole)
    kept_rank = rank or R
    best = u[:, :kept_rank] * s[:kept_rank] @ vh[:kept_rank]
    svd_merge = merge.svd(modules, WEIGHTS, rank=rank)
    assert svd_merge.r == kept_rank
    torch.testing.assert_close(product(svd_merge), best, atol=1e-4, rtol=1e-4)


def test_svd_of_more_ranks_than_the_layer_is_wide():
    parts = [module(i, r=16) for i in range(3)]
    svd_merge = merge.svd(parts, WEIGHTS, rank=48)
    assert svd_merge.r == OUT
    torch.testing.assert_close(product(svd_merge), total(parts, WEIGHTS), atol=1e-4, rtol=1e-4)


def test_ranks_may_differ_where_products_are_summed():
    parts = [module(1, r=2), module(2, r=6)]
    for rule in ("mean", "cat", "cat-1/n"):
        assert RULES[rule](parts, [1.0, 1.0], Options(rng())).r == 8
    assert merge.svd(parts, [1.0, 1.0]).r == 6


@pytest.mark.parametrize("rule", RULES)
def test_a_merge_of_one_module_is_that_module(rule: str):
    single = module(1)
    torch.testing.assert_close(merged(rule, [single], [1.0], density=1.0), product(single))
    if rule in EXACT:
        torch.testing.assert_close(merged(rule, [single], [1.0]), product(single))
    else:
        changed = merged(rule, [single], [1.0], density=0.3) - product(single)
        assert changed.norm() > 0.1 * product(single).norm(), "one module is pruned like several"


@pytest.mark.parametrize("rule", RULES)
def test_order_of_modules_does_not_matter(modules: list[Factors], rule: str):
    density = 1.0 if rule.startswith("dare") else 0.3  # what DARE drops depends on the order
    forwards = merged(rule, modules, WEIGHTS, density=density)
    backwards = merged(rule, modules[::-1], WEIGHTS[::-1], density=density)
    torch.testing.assert_close(forwards, backwards, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_a_module_of_weight_zero_changes_nothing(modules: list[Factors], rule: str):
    including = merged(rule, modules, [0.9, 0.0, 0.6])
    excluding = merged(rule, modules[::2], [0.9, 0.6])
    if rule == "cat-1/n":
        excluding = excluding * 2 / 3  # n counts modules of weight 0 too
    torch.testing.assert_close(including, excluding, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_the_inputs_stay_as_they_were(modules: list[Factors], rule: str):
    merged(rule, modules, WEIGHTS)
    for part, original in zip(modules, (module(1), module(2), module(3)), strict=True):
        assert torch.equal(part.a, original.a)
        assert torch.equal(part.b, original.b)


def test_pruning_keeps_the_requested_share():
    single = module(1)
    for density in (0.01, 0.3, 0.5):
        pruned = merge.magnitude_prune([single], [1.0], density=density)
        assert int((pruned.a != 0).sum()) == max(1, int(density * R * INNER))
        smallest = pruned.a[pruned.a != 0].abs().min() / single.scale**0.5
        assert (single.a.abs() > smallest * 1.0001).sum() < max(1, int(density * R * INNER))
    tiny = merge.ties([single], [1.0], density=1e-6)
    assert int((tiny.a != 0).sum()) == int((tiny.b != 0).sum()) == 1


def test_ties_averages_the_values_of_the_winning_sign():
    def rank_one(*values: float) -> Factors:
        return Factors(torch.tensor([values]), torch.ones(1, 1))

    parts = [rank_one(3.0, 1.0, 2.0), rank_one(-1.0, 2.0, -2.0), rank_one(1.0, 0.0, 4.0)]
    ties_merge = merge.ties(parts, [1.0, 1.0, 1.0], density=1.0)
    torch.testing.assert_close(ties_merge.a, torch.tensor([[2.0, 1.5, 3.0]]))
    cancelled = merge.ties([rank_one(1.0), rank_one(-1.0)], [1.0, 4.0], density=1.0)
    torch.testing.assert_close(cancelled.a, torch.tensor([[1.0]]))  # + wins a tie


def test_norm_is_that_of_the_product(modules: list[Factors]):
    whole = torch.cat([product(p) for p in modules]).norm()
    assert factors.norm(modules) == pytest.approx(float(whole), rel=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_matched_norm_is_the_mean_of_the_modules(rule: str):
    parts = [[module(10 * i + j, scale=j + 1.0) for j in range(4)] for i in range(3)]
    layers = list(zip(*parts, strict=True))
    raw = [RULES[rule](layer, [2.0, 1.0, 1.5], Options(rng())) for layer in layers]
    matched = factors.matched_norm(raw, parts)
    mean_norm = sum(float(torch.cat([product(f) for f in part]).norm()) for part in parts) / 3
    product_after = torch.cat([product(f) for f in matched])
    assert float(product_after.norm()) == pytest.approx(mean_norm, rel=1e-5)
    product_before = torch.cat([product(f) for f in raw])
    ratio = float(product_before.norm()) / mean_norm
    # All layers are scaled by the same factor.
    torch.testing.assert_close(product_after * ratio, product_before, atol=1e-4, rtol=1e-4)
    assert abs(ratio - 1) > 0.05, "a norm that matched already would pass above"


def test_matched_norm_counts_the_scales_of_the_factors():
    layers = [module(1, scale=0.5), module(2, scale=3.0)]
    matched = factors.matched_norm(layers, [[module(3, scale=4.0)] * 2])
    assert [layer.scale for layer in matched] == pytest.approx(
        [matched[0].scale, matched[0].scale * 6]
    )
    assert factors.norm(matched) == pytest.approx(factors.norm([module(3, scale=4.0)] * 2))


@pytest.mark.parametrize("weights", [[0.5, 0.5, -1.0], [0.3, 0.6, -0.9]], ids=str)
def test_modules_that_cancel_cannot_be_scaled_to_a_norm(weights: list[float]):
    single = module(1)
    # The second case cancels up to rounding only.
    cancelled = RULES["cat"]([single] * 3, weights, Options(rng()))
    with pytest.raises(UsageError, match=r"cannot be scaled to .* they cancel"):
        factors.matched_norm([cancelled], [[single]] * 3)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("dare_linear", "dare-linear"), ("magnitude_prune", "magnitude-prune"), ("Ties", "ties")],
)
def test_an_unknown_rule_gets_a_suggestion(name: str, hint: str):
    with pytest.raises(UsageError, match=rf"linear, mean, .*got '{name}'; did you mean {hint}\?"):
        merge.rule_named(name)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 1.0], "merging 3 modules takes as many finite weights, got 1, 1"),
        ([1.0, float("nan"), 1.0], "finite weights, got 1, nan, 1"),
        ([0.0, 0.0, 0.0], "must not all be 0"),
    ],
    ids=["count", "nan", "zero"],
)
def test_weights_that_no_rule_can_take_are_refused(
    modules: list[Factors], rule: str, weights: list[float], message: str
):
    with pytest.raises(UsageError, match=message):
        merged(rule, modules, weights)


@pytest.mark.parametrize("rule", RULES)
def test_merging_nothing_is_refused(rule: str):
    with pytest.raises(UsageError, match="nothing to merge"):
        merged(rule, [], [])


@pytest.mark.parametrize("rule", RULES)
def test_layers_of_two_shapes_are_refused(rule: str):
    other = Factors(torch.ones(R, 7), torch.ones(OUT, R))
    with pytest.raises(UsageError, match="layers of the same shape, got 24 x 7 and 24 x 40"):
        merged(rule, [module(1), other], [1.0, 1.0])


@pytest.mark.parametrize("rule", ["linear", "ties", "dare-linear", "dare-ties", "magnitude-prune"])
def test_rules_on_factors_need_one_rank(rule: str):
    with pytest.raises(
        UsageError, match=r"of the same rank, got 4, 2; use mean, cat, cat-1/n or svd"
    ):
        merged(rule, [module(1), module(2, r=2)], [1.0, 1.0])


@pytest.mark.parametrize("rule", ["ties", "dare-linear", "dare-ties", "magnitude-prune"])
@pytest.mark.parametrize("density", [0.0, -0.1, 1.5])
def test_a_density_out_of_range_is_refused(modules: list[Factors], rule: str, density: float):
    with pytest.raises(UsageError, match=f"above 0 and at most 1, got {density}"):
        merged(rule, modules, WEIGHTS, density=density)


@pytest.mark.parametrize("rank", [0, 13])
def test_an_svd_rank_out_of_range_is_refused(modules: list[Factors], rank: int):
    with pytest.raises(UsageError, match=rf"rank must be 1\.\.12, .* got {rank}"):
        merge.svd(modules, WEIGHTS, rank=rank)


def test_a_mean_with_weights_that_cancel_is_refused(modules: list[Factors]):
    with pytest.raises(UsageError, match=r"must not sum to 0, got 1, -0\.5, -0\.5; use cat"):
        merge.mean(modules, [1.0, -0.5, -0.5])
