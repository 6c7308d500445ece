"""Every decoder family works as docs/models.md says, or is refused at load in one line."""

from pathlib import Path

import pytest

from lorabank.errors import ModelError
from tests.families.catalogue import FAMILIES, Family
from tests.families.conformance import check, load

SYSTEM_TURN = "too few steps for the long system turn of its template"
THINKING = "not taught with thinking off"
OTHER_STATE = "layers that carry other states than keys and values"
NARROW = "a router or gate narrower than the rank"
PENDING = {
    "Llama 4": "experts with a two-dimensional input",
    "Qwen 2 MoE": NARROW,
    "Qwen 3": THINKING,
    "Qwen 3 MoE": THINKING,
    "Qwen 3 Next": NARROW,
    "Qwen 3.5": OTHER_STATE,
    "Gemma 3n": NARROW,
    "Gemma 4": "layers that share keys and values",
    "Mistral 0.1": "padding inside a sliding window",
    "Mistral Small 3.2": "the text decoder of a multimodal model",
    "OLMo 3": "padding inside a sliding window",
    "Granite 3.3": SYSTEM_TURN,
    "Granite 4 dense": SYSTEM_TURN,
    "Granite 4 hybrid": OTHER_STATE,
    "SmolLM3": THINKING,
    "gpt-oss": "a document kept in its sliding windows",
    "GLM 4.6": "PEFT takes no activated adapter for some of its layers",
    "DeepSeek V3.1": "values narrower than queries",
    "LFM2": OTHER_STATE,
    "Falcon-H1": OTHER_STATE,
    "Mamba 2": OTHER_STATE,
}
"""Families that do not pass yet, and why; an entry goes when its family passes."""


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(
            family,
            id=family.name,
            marks=pytest.mark.xfail(strict=True, reason=PENDING[family.name])
            if family.name in PENDING
            else (),
        )
        for family in FAMILIES
    ],
)
def test_a_family_works_or_is_refused(family: Family, tmp_path: Path):
    if family.lacks_template:
        pytest.skip(f"{family.template}.jinja is not at LORABANK_DATA/templates")
    folder = family.build(tmp_path / "model")
    if family.refusal:
        with pytest.raises(ModelError, match=family.refusal) as refused:
            load(folder)
        assert "\n" not in str(refused.value)
        return
    check(family, folder, tmp_path)
