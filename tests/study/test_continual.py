"""Studies about continual writing on a random model: every arm, resumed, and reported."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from lorabank.engine.backbone.base import load_base
from lorabank.errors import UsageError
from lorabank.report.page import write_report
from lorabank.report.study_results import StudyResults
from lorabank.study.continual.arms import ARMS, make_arms
from lorabank.study.continual.axes import ContinualAxes
from lorabank.study.continual.cells import ContinualCell
from lorabank.study.continual.measure import Progress, write_stream
from lorabank.study.continual.run import settings_of
from lorabank.study.continual.stream import make_stream
from lorabank.study.folder import StudyFolder
from lorabank.study.run import run_study
from lorabank.study.spec import list_studies, load_study


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[ContinualCell]:
    folder = tmp_path_factory.mktemp("continual")
    run_study(load_study("continual", preset="smoke"), StudyFolder(folder))
    return StudyFolder(folder).cells()


def test_the_presets_have_every_arm():
    assert set(list_studies()["continual"]["presets"]) == {"smoke", "cpu", "gpu"}
    for preset, n_cells in (("smoke", 8), ("cpu", 32), ("gpu", 48)):
        planned = load_study("continual", preset=preset).cells
        assert len(planned) == n_cells
        assert {cell.axes.arm for cell in planned} == set(ARMS)


def test_each_arm_is_asked_after_each_of_two_writes(cells: list[ContinualCell]):
    assert {cell.axes.arm for cell in cells} == set(ARMS)
    for cell in cells:
        assert [row.writes for row in cell.rows] == [1, 2]
        assert [row.facts for row in cell.rows] == [3, 5]
    by_arm = {cell.axes.arm: cell.last for cell in cells}
    for arm in ("text", "modules", "bank"):
        assert (by_arm[arm].recall_current, by_arm[arm].stale, by_arm[arm].as_of) == (1.0, 0.0, 1.0)
    for arm in ("sequence", "replay", "modules"):
        assert by_arm[arm].exposures == pytest.approx(64)  # equal for each fact stated
    assert by_arm["replayed"].exposures > 64
    assert by_arm["sequence"].as_of is None


def test_a_killed_study_goes_on_with_what_is_missing(cells: list[ContinualCell], tmp_path: Path):
    folder, spec = StudyFolder(tmp_path), load_study("continual", preset="smoke")
    folder.claim(spec)
    for cell in cells:
        if cell.axes.arm != "text":
            folder.write(cell)
    assert run_study(spec, folder).trained == 1


@pytest.mark.parametrize("arm", ["modules", "bank", "replay", "merged", "read"])
def test_a_stream_goes_on_after_its_last_whole_write(
    cells: list[ContinualCell], tmp_path: Path, arm: str
):
    (cell,) = [cell for cell in cells if cell.axes.arm == arm]
    base = load_base("random-tiny", dtype="float32", device="cpu")
    axes = cell.axes
    stream = make_stream("phonebook", facts=3, writes=2, changed_share=0.34, seed=axes.seed)

    def go_on() -> Iterator[Progress]:
        fresh = make_arms(settings_of(base, axes))[arm]  # as another process would have it
        return write_stream(base, fresh, stream, folder=tmp_path, reports=(1,), embeds=False)

    assert [progress.n_writes for progress in islice(go_on(), 2)] == [0, 1]
    *_, progress = go_on()
    assert progress.n_writes == 2
    (again,) = go_on()  # nothing is left to do
    assert again.rows == progress.rows
    kept = {"recall_current", "recall_reworded", "stale", "as_of", "exposures", "bytes", "modules"}
    for row, whole in zip(progress.rows, cell.rows, strict=True):
        assert {key: row[key] for key in kept} == whole.model_dump(include=kept)


def test_the_page_has_a_line_for_each_arm(cells: list[ContinualCell], tmp_path: Path):
    results = StudyResults("continual", "Writes", {"name": "random-tiny"}, cells)
    write_report([results], tmp_path)
    (section,) = json.loads((tmp_path / "report.json").read_text())["sections"]
    (figure,) = section["figures"]
    assert [len(panel["series"]) for panel in figure["panels"]] == [8, 8, 8, 8]
    assert len(section["table"]["rows"]) == 8
    assert any("bank: after 2 writes 100 %" in text for text in section["in_short"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"arm": "disk"}, "arm takes text, read, .*, got 'disk'"),
        ({"writes": 0}, "writes takes 1 to 1,000, got 0"),
        ({"task": "news"}, "task takes phonebook or wikibigedit"),
    ],
)
def test_bad_axes(given: dict[str, object], message: str):
    with pytest.raises(UsageError, match=message):
        ContinualAxes.resolve(given)


def test_real_facts_do_not_change():
    assert ContinualAxes.resolve({"task": "wikibigedit"}).changed_share is None
