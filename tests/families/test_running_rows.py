"""Rows that enter and leave between tokens write what they write alone, in every decoder family."""

from pathlib import Path

import pytest

from tests.engine.test_running_batch import check_rows_that_come_and_go
from tests.families.catalogue import FAMILIES, Family
from tests.families.conformance import load


@pytest.mark.parametrize(
    "family", [f for f in FAMILIES if not f.refusal], ids=lambda family: family.name
)
def test_rows_come_and_go(family: Family, tmp_path: Path):
    if family.lacks_template:
        pytest.skip(f"{family.template}.jinja is not at LORABANK_DATA/templates")
    check_rows_that_come_and_go(load(family.build(tmp_path / "model")))
