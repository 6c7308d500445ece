"""What the estimates of time make of configurations that name no sizes, or odd ones."""

import json
from pathlib import Path

import pytest

from lorabank.errors import ModelError
from lorabank.planning.cost import read_shape

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 64,
}


def write(folder: Path, config: object) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_sizes_are_read_wherever_the_configuration_has_them(tmp_path: Path):
    plain = read_shape(write(tmp_path, SIZES))
    assert plain is not None
    assert plain.kv_share == 1
    assert read_shape(write(tmp_path, {"text_config": SIZES})) == plain
    grouped = read_shape(write(tmp_path, {**SIZES, "num_key_value_heads": 1}))
    assert grouped is not None
    assert grouped.kv_share == 0.25


@pytest.mark.parametrize("value", ["4", 0, -1, 1.5, None, [4], {}, True])
@pytest.mark.parametrize("key", ["num_attention_heads", "hidden_size"])
def test_a_size_that_is_no_number_is_none_to_count_with(tmp_path: Path, key: str, value: object):
    assert read_shape(write(tmp_path, {**SIZES, key: value})) is None
    assert read_shape(write(tmp_path, {"text_config": "x"})) is None


def test_a_configuration_that_is_no_object_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="must be a JSON object"):
        read_shape(write(tmp_path, [1]))
