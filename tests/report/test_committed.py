"""Every committed study is true to its cells: its reports, and the numbers its README quotes."""

from pathlib import Path

import pytest

from lorabank.report.study_check import check_study

STUDIES = Path(__file__).parents[2] / "studies"
NAMES = [path.parent.name for path in sorted(STUDIES.glob("*/README.md"))]


def test_every_committed_study_has_a_readme():
    assert sorted(path.name for path in STUDIES.iterdir() if path.is_dir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_made_anew_it_has_the_same_numbers_and_quotes_them(name: str):
    result = check_study(STUDIES / name)
    assert result.n_reports >= 1
    assert not result.faults
