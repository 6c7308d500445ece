"""Initial weights of the variants, compared with PEFT's and with their definitions."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn

from lorabank.errors import UsageError
from lorabank.lora import variants
from lorabank.lora.variants import VARIANTS, Init, Layer, Variant

OUT, INNER, R, ALPHA = 24, 40, 4, 12.0


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_layer(path: str = "layers.0.q_proj", shape: tuple[int, int] = (OUT, INNER)) -> Layer:
    return Layer(path, shape, torch.randn(shape, generator=rng(99)) / 5)


def start(variant: Variant, *, seed: int = 0, r: int = R, layer: Layer | None = None) -> Init:
    return variants.initial(variant, layer or make_layer(), r=r, alpha=ALPHA, generator=rng(seed))


def peft_model(weight: Tensor, **options: object) -> PeftModel:
    model = nn.Sequential()
    model.add_module("linear", nn.Linear(weight.shape[1], weight.shape[0], bias=False))
    model.linear.weight.data = weight.clone()
    config = LoraConfig(r=R, lora_alpha=int(ALPHA), target_modules=["linear"], **options)
    return get_peft_model(model, config)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(OUT, INNER), (INNER, OUT)])
def test_initial_factors_have_their_shapes_and_a_product_of_zero(
    variant: Variant, shape: tuple[int, int]
):
    init = start(variant, layer=make_layer(shape=shape))
    r = variants.saved_r(variant, R)
    assert init.a.shape == (r, shape[1])
    assert init.b.shape == (shape[0], r)
    assert init.a.dtype == init.b.dtype == torch.float32
    assert init.trainable_a.shape == init.trainable_b.shape == (r,)
    delta = init.b @ init.a
    if variant == "pissa":
        assert delta.abs().max() < 1e-6
    else:
        assert not delta.any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_seed_draws_the_same(variant: Variant):
    first, second = start(variant), start(variant)
    assert torch.equal(first.a, second.a)
    assert torch.equal(first.b, second.b)


@pytest.mark.parametrize("variant", ["lora", "rslora", "orthogonal"])
def test_another_seed_draws_another(variant: Variant):
    assert not torch.equal(start(variant).a, start(variant, seed=1).a)


def test_each_variant_trains_its_own_rows():
    halves = [True] * R + [False] * R
    assert start("pissa").trainable_a.tolist() == start("pissa").trainable_b.tolist() == halves
    assert start("frozen-a").trainable_a.tolist() == [False] * R
    for variant in set(VARIANTS) - {"pissa"}:
        assert start(variant).trainable_b.all()
        assert start(variant).trainable_a.all() == (variant != "frozen-a")


def test_lora_starts_as_peft_draws_it():
    expected = nn.init.kaiming_uniform_(torch.empty(R, INNER), a=math.sqrt(5), generator=rng(3))
    torch.testing.assert_close(start("lora", seed=3).a, expected)
    assert torch.equal(start("lora", seed=3).a, start("rslora", seed=3).a)


@pytest.mark.parametrize(("variant", "flag"), [("lora", False), ("rslora", True)])
def test_the_scale_is_that_of_peft(variant: Variant, flag: bool):
    model = peft_model(torch.zeros(OUT, INNER), use_rslora=flag)
    scaling = model.base_model.model.linear.scaling["default"]
    assert variants.scale(variant, ALPHA, R) == pytest.approx(scaling)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("r", [1, 3, 8])
def test_the_saved_file_keeps_the_scale(variant: Variant, r: int):
    saved = variants.saved_alpha(variant, ALPHA, r) / variants.saved_r(variant, r)
    assert saved == pytest.approx(variants.scale(variant, ALPHA, r))


def test_orthogonal_rows_are_orthonormal():
    a = start("orthogonal", r=R).a
    torch.testing.assert_close(a @ a.T, torch.eye(R), rtol=0, atol=1e-5)
    full = start("orthogonal", r=OUT).a
    torch.testing.assert_close(full @ full.T, torch.eye(OUT), rtol=0, atol=1e-5)


def test_frozen_a_belongs_to_the_layer():
    first, second = start("frozen-a", seed=0), start("frozen-a", seed=1)
    assert torch.equal(first.a, second.a)
    assert not torch.equal(first.a, start("frozen-a", layer=make_layer("layers.1.q_proj")).a)
    # A smaller rank shares the first rows of a larger one, so ranks can be mixed and merged.
    assert torch.equal(first.a[:2], start("frozen-a", r=2).a)
    assert first.a.abs().max() <= 1 / math.sqrt(INNER)


def test_frozen_a_has_the_numbers_of_adapters_on_disk():
    # Adapters on disk share this A; if it changed, new adapters could not be mixed with them.
    first = start("frozen-a").a[0, :3].tolist()
    assert first == pytest.approx([-0.15281142, -0.04080437, -0.08607137])


def test_frozen_a_draws_nothing_from_the_generator_of_the_job():
    generator = rng()
    variants.initial("frozen-a", make_layer(), r=R, alpha=ALPHA, generator=generator)
    assert torch.equal(generator.get_state(), rng().get_state())


def test_pissa_starts_at_the_principal_components():
    model = peft_model(make_layer().weight, init_lora_weights="pissa")
    peft_layer = model.base_model.model.linear
    init = start("pissa")
    torch.testing.assert_close(
        init.b[:, :R] @ init.a[:R],
        peft_layer.lora_B["default"].weight @ peft_layer.lora_A["default"].weight,
        rtol=0,
        atol=1e-5,
    )
    # Values split evenly: both factors have the norms of PEFT's, row by row.
    torch.testing.assert_close(
        init.a[:R].norm(dim=1), peft_layer.lora_A["default"].weight.norm(dim=1), rtol=1e-4, atol=0
    )


def test_trained_pissa_is_what_peft_converts_to(tmp_path: Path):
    """After three SGD steps of both, the function, the file, r and alpha agree."""
    layer = make_layer()
    assert layer.weight is not None
    before = layer.weight.clone()
    x, y = torch.randn(16, INNER, generator=rng(1)), torch.randn(16, OUT, generator=rng(2))

    model = peft_model(layer.weight, init_lora_weights="pissa")
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "start")
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimiser.step()

    init = start("pissa", layer=layer)
    a, b = init.a.clone().requires_grad_(), init.b.clone().requires_grad_()
    scale = variants.scale("pissa", ALPHA, R)
    for _ in range(3):
        loss = F.mse_loss(x @ (layer.weight + scale * b @ a).T, y)
        grad_a, grad_b = torch.autograd.grad(loss, (a, b))
        with torch.no_grad():
            a -= 0.1 * grad_a * init.trainable_a[:, None]
            b -= 0.1 * grad_b * init.trainable_b

    assert torch.equal(layer.weight, before)
    delta = scale * b @ a
    assert delta.abs().max() > 0.01
    torch.testing.assert_close(model(x), x @ (layer.weight + delta).T, rtol=0, atol=1e-4)

    model.save_pretrained(
        tmp_path / "plain", path_initial_model_for_weight_conversion=str(tmp_path / "start")
    )
    config = json.loads((tmp_path / "plain" / "adapter_config.json").read_text())
    assert config["r"] == variants.saved_r("pissa", R)
    assert config["lora_alpha"] == variants.saved_alpha("pissa", ALPHA, R)
    saved = load_file(tmp_path / "plain" / "adapter_model.safetensors")
    their_a, their_b = (
        next(value for name, value in saved.items() if kind in name)
        for kind in ("lora_A", "lora_B")
    )
    converted = config["lora_alpha"] / config["r"] * their_b @ their_a
    torch.testing.assert_close(delta, converted, rtol=0, atol=1e-5)


def test_components_can_be_reused_for_other_jobs():
    layer = make_layer()
    components = variants.principal(layer, 8)
    without_weight = Layer(layer.path, layer.shape)
    for alpha in (1.0, 16.0):
        fresh = variants.initial("pissa", layer, r=3, alpha=alpha, generator=rng())
        reused = variants.initial(
            "pissa", without_weight, r=3, alpha=alpha, generator=rng(), components=components
        )
        assert torch.equal(fresh.a, reused.a)
        assert torch.equal(fresh.b, reused.b)


def test_components_of_a_half_precision_weight_are_computed_in_full_precision():
    layer = make_layer()
    assert layer.weight is not None
    half = Layer(layer.path, layer.shape, layer.weight.bfloat16())
    full = Layer(layer.path, layer.shape, layer.weight.bfloat16().float())
    assert torch.equal(variants.principal(half, R)[0], variants.principal(full, R)[0])


@pytest.mark.parametrize("is_flat", [True, False])
def test_a_large_weight_is_sketched_well(is_flat: bool):
    n = variants.EXACT_UP_TO + 10
    # The sketch treats all axes alike, so a diagonal weight, whose SVD is known, can stand for any.
    s = torch.linspace(2, 0, n) if is_flat else torch.arange(1, n + 1) ** -0.5
    layer = Layer("layers.0.up_proj", (n, n + 20), torch.zeros(n, n + 20))
    assert layer.weight is not None
    layer.weight.diagonal().copy_(s)
    a, b = variants.principal(layer, 4)
    assert torch.equal(a, variants.principal(layer, 4)[0])
    # Values of the flat spectrum are 0.1 % apart, which is harder than trained weights: 0.989.
    assert (b @ a).norm() ** 2 >= 0.98 * (s[:4] ** 2).sum()
    if not is_flat:  # where values differ clearly the vectors are exact
        torch.testing.assert_close((b @ a)[:4, :4], s[:4].diag(), rtol=0, atol=1e-4)
    init = variants.initial("pissa", layer, r=4, alpha=8, generator=rng(), components=(a, b))
    assert (init.b @ init.a).abs().max() < 1e-6


def test_pissa_without_a_weight_raises():
    with pytest.raises(UsageError, match=r"pissa needs the weight of layers\.0\.q_proj"):
        start("pissa", layer=Layer("layers.0.q_proj", (OUT, INNER)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_rank_out_of_range_is_refused(variant: Variant):
    limit = OUT // 2 if variant == "pissa" else OUT
    start(variant, r=limit)
    for r in (0, limit + 1):
        with pytest.raises(
            UsageError, match=rf"--variant {variant}.* r 1\.\.{limit} .*24 x 40\), got {r}; lower"
        ):
            start(variant, r=r)


def test_unknown_name_raises_with_the_nearest():
    with pytest.raises(UsageError, match=r"--variant must be lora, .*did you mean pissa\?"):
        variants.parse("pisa")
    assert [variants.parse(name) for name in VARIANTS] == list(VARIANTS)
