"""Every decoder family works as docs/models.md says, or is refused at load in one line."""

from pathlib import Path

import pytest

from lorabank.errors import ModelError
from tests.families.catalogue import FAMILIES, Family
from tests.families.conformance import check, load

THINKING = "an adapter taught after one rendering of the header is asked after another"
PENDING = dict.fromkeys(("Qwen 3 Next", "SmolLM3", "GLM 4.6"), THINKING)
"""Families that do not pass yet, and why; an entry goes when its family passes."""


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(
            family,
            id=family.name,
            marks=pytest.mark.xfail(reason=PENDING[family.name]) if family.name in PENDING else (),
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
