"""The choice of layers by name and number, and parameter counts."""

import pytest

from lorabank.errors import UsageError
from lorabank.lora.shapes import choose, count_parameters, layer_of, parse_layers

LINEARS = {
    f"model.layers.{i}.{part}": shape
    for i in range(4)
    for part, shape in {
        "self_attn.q_proj": (64, 64),
        "self_attn.k_proj": (32, 64),
        "mlp.up_proj": (128, 64),
    }.items()
}


def test_parameter_counts_are_the_published_ones():
    # arXiv:2603.01097's models: parameters per unit of rank, all linears (PAPER arithmetic:
    # Llama-3.1-8B, 32 layers, d 4096, kv 1024, ffn 14336).
    d, kv, ffn = 4096, 1024, 14336
    block = [(d, d), (kv, d), (kv, d), (d, d), (ffn, d), (ffn, d), (d, ffn)]
    assert count_parameters(block * 32, 1) == 2_621_440
    assert count_parameters(block * 32, 4) == 10_485_760


@pytest.mark.parametrize(
    ("targets", "layers", "count"),
    [
        (("all-linear",), None, 12),
        (("attention",), None, 8),
        (("ffn",), (1, 2), 2),
        (("q_proj", "up_proj"), (3,), 2),
    ],
)
def test_choose_returns_the_named_linears_of_the_named_layers(
    targets: tuple[str, ...], layers: tuple[int, ...] | None, count: int
):
    chosen = choose(LINEARS, targets, layers)
    assert len(chosen) == count
    assert layers is None or {layer_of(path) for path in chosen} == set(layers)


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("0-2", [0, 1, 2]),
        ("last-2", [2, 3]),
        ("first-1", [0]),
        ("3,1", [1, 3]),
        ("0,last-1", [0, 3]),
    ],
)
def test_layers_are_parsed_from_text(text: str, layers: list[int]):
    assert parse_layers(text, 4) == layers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0-9", r"within 0\.\.3, got 4, 5"),
        ("last-9", "the model has 4 layers"),
        ("2-1", "the first number must be the smaller"),
        ("some", "takes 0-15, last-10"),
        ("", "takes 0-15, last-10"),
    ],
)
def test_text_that_names_no_layers_is_refused(text: str, message: str):
    with pytest.raises(UsageError, match=message):
        parse_layers(text, 4)


def test_a_target_that_matches_nothing_suggests_another():
    with pytest.raises(UsageError, match=r"q_prj matches no .* did you mean q_proj\?"):
        choose(LINEARS, ("q_prj",))


def test_a_layer_the_model_lacks_is_refused():
    with pytest.raises(UsageError, match=r"within 0\.\.3, got 4"):
        choose(LINEARS, ("ffn",), (4,))
