"""Studies about ranks on a random model: given, planned, fitted and AdaLoRA's, and reported."""

import json
from pathlib import Path

import pytest

from lorabank.errors import UsageError
from lorabank.report.page import write_report
from lorabank.report.ranks.figures import sentences
from lorabank.report.study_results import StudyResults
from lorabank.study.folder import StudyFolder
from lorabank.study.ranks.axes import RanksAxes
from lorabank.study.ranks.cells import RanksCell
from lorabank.study.run import run_study
from lorabank.study.spec import list_studies, load_study


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[RanksCell]:
    folder = tmp_path_factory.mktemp("ranks")
    run_study(load_study("dynamic-rank", preset="smoke"), StudyFolder(folder))
    return StudyFolder(folder).cells()


def test_the_presets_have_every_choice():
    assert set(list_studies()["dynamic-rank"]["presets"]) == {"smoke", "cpu", "gpu"}
    for preset, n_cells in (("smoke", 5), ("cpu", 72), ("gpu", 135)):
        planned = load_study("dynamic-rank", preset=preset).cells
        assert len(planned) == n_cells
        assert {c.axes.choice for c in planned} == {"fixed", "planned", "fitted", "adalora"}


def test_each_choice_ends_at_a_rank_with_its_bytes(cells: list[RanksCell]):
    by_choice = {(cell.axes.choice, cell.axes.r): cell for cell in cells}
    assert len(by_choice) == 5
    fixed = by_choice["fixed", 4]
    assert fixed.r_trained == 4
    assert fixed.bytes_trained == 4 * fixed.trainable_parameters
    assert 0 <= fixed.adapter_bytes - fixed.bytes_trained < 20_000  # names of the tensors
    assert by_choice["planned", None].r_trained == 1  # nothing was measured for this base
    fitted = by_choice["fitted", None]
    assert fitted.trainable_parameters <= fitted.bytes_trained / 4
    adalora = by_choice["adalora", 4]
    assert (adalora.stopped, adalora.exposures_per_fact) == ("budget", 60)
    for cell in cells:
        assert 0 <= cell.recall <= 1
        assert cell.kl_to_base_nats > 0
        assert cell.train_s > 0


def test_the_page_has_a_bar_for_each_choice(cells: list[RanksCell], tmp_path: Path):
    results = StudyResults("dynamic-rank", "Ranks", {"name": "random-tiny"}, cells)
    write_report([results], tmp_path)
    (section,) = json.loads((tmp_path / "report.json").read_text())["sections"]
    (figure,) = section["figures"]
    assert [len(panel["series"]) for panel in figure["panels"]] == [5, 5]
    assert len(section["table"]["rows"]) == 5
    assert section["in_short"] == []  # no rank 8 to compare with
    eight = cells[0].model_copy(
        update={"name": "eight", "axes": RanksAxes.resolve({"facts": 4, "choice": "fixed", "r": 8})}
    )
    fitted = next(cell for cell in cells if cell.axes.choice == "fitted")
    (text,) = sentences([eight, fitted])
    share = fitted.adapter_bytes / eight.adapter_bytes
    assert text.startswith(f"4 facts: fitted ranks take {share:.0%} of the bytes of rank 8")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"choice": "fixed"}, "choice=fixed needs an r, got r=None"),
        ({"choice": "fitted", "r": 4}, "choice=fitted takes no r, got r=4"),
        ({"choice": "fixed", "r": 0}, "r takes 1 to 1024"),
        ({"choice": "grown"}, "choice takes fixed, planned, fitted or adalora"),
    ],
)
def test_bad_axes(given: dict[str, object], message: str):
    with pytest.raises(UsageError, match=message):
        RanksAxes.resolve(given)
