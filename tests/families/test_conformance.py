"""Every decoder family works as docs/models.md says, or is refused at load in one line."""

from pathlib import Path

import pytest

from lorabank.errors import ModelError
from tests.families.catalogue import FAMILIES, Family
from tests.families.conformance import check, load


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
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
