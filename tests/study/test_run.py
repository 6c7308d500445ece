"""Running a study: every cell once, whatever happens on the way, and the same numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lorabank.errors import DataError, UsageError
from lorabank.report.study_results import read_results
from lorabank.study import run as running
from lorabank.study.capacity.search import search_study
from lorabank.study.folder import StudyFolder
from lorabank.study.run import run_study
from lorabank.study.sealed_json import read_sealed, write_sealed
from lorabank.study.spec import StudySpec, load_study
from lorabank.tasks.datasets import counterfact

SPEC = """
name = "mine"
title = "Mine"
[preset.cpu]
base = "random-tiny"
dtype = "float32"
width = 2
[preset.cpu.fixed]
lr = 1e-2
exposures = 40
[preset.cpu.axes]
r = [2, 8]
facts = [4, 8]
[[preset.cpu.arms]]
layers = "all"
[[preset.cpu.arms]]
layers = "last-1"
"""


@pytest.fixture
def spec(tmp_path: Path) -> StudySpec:
    file = tmp_path / "mine.toml"
    file.write_text(SPEC)
    return load_study(str(file))


def contents(folder: Path) -> dict[str, str]:
    """Cell files as text, timings aside."""
    found = {}
    for file in sorted((folder / "cells").iterdir()):
        cell = json.loads(file.read_text())
        assert {"seconds", "peak_bytes"} <= cell.pop("cost").keys()
        assert len(cell.pop("sha256")) == 64
        found[file.name] = json.dumps(cell)
    return found


@pytest.fixture
def done(spec: StudySpec, tmp_path: Path) -> Path:
    run_study(spec, StudyFolder(tmp_path / "done"))
    return tmp_path / "done"


def test_cells_hold_what_was_measured(spec: StudySpec, done: Path):
    cells = {cell.name: cell for cell in StudyFolder(done).cells()}
    assert set(cells) == {cell.name for cell in spec.cells}
    for cell in cells.values():
        n = cell.axes.facts
        assert len(cell.per_fact.recalled) == len(cell.per_fact.bits) == n
        assert cell.recall == sum(cell.per_fact.recalled) / n
        assert cell.recall_published >= cell.recall
        assert cell.bits_likelihood == pytest.approx(sum(cell.per_fact.bits), abs=1e-2)
        assert cell.bits_demanded == pytest.approx(33.219 * n, rel=1e-3)
        assert cell.bits_exact == pytest.approx(cell.recall * cell.bits_demanded)
        assert cell.exposures_per_fact == 40
        assert cell.kl_to_base_nats > 0
    whole = next(c for c in cells.values() if c.placement.endswith("all blocks") and c.axes.r == 8)
    last = next(c for c in cells.values() if c.placement.endswith("block 1") and c.axes.r == 8)
    assert whole.trainable_parameters == 2 * last.trainable_parameters
    assert whole.loss_drop > 1  # nats a token: it has learnt


def test_a_killed_study_goes_on_to_the_same_bytes(
    spec: StudySpec, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(running, "_EVERY_S", 0.0)
    folder = tmp_path / "killed"

    def stop_in_fleet(number: int):
        lines = []

        def on_line(line: str) -> None:
            lines.append(line)
            if sum(line.startswith(f"fleet {number} of") for line in lines) == 20:
                raise KeyboardInterrupt

        return on_line

    for number in (1, 3):
        on_line = stop_in_fleet(number)
        with pytest.raises(KeyboardInterrupt):
            run_study(spec, StudyFolder(folder), on_line=on_line, checkpoint_every_s=0.0)
    first = {cell.name for cell in StudyFolder(folder).cells()}
    assert 0 < len(first) < len(spec.cells)
    before = {name: (folder / "cells" / f"{name}.json").stat().st_mtime_ns for name in first}
    report = run_study(spec, StudyFolder(folder))
    assert report.trained == len(spec.cells) - len(first)
    assert contents(folder) == contents(done)
    for name, at in before.items():
        assert (folder / "cells" / f"{name}.json").stat().st_mtime_ns == at
    assert not (folder / "fleets").exists()


def test_a_broken_cell_is_set_aside_and_redone_to_the_same_bytes(spec: StudySpec, done: Path):
    whole = contents(done)
    broken = done / "cells" / f"{spec.cells[1].name}.json"
    broken.write_text(broken.read_text()[:100])
    said: list[str] = []
    report = run_study(spec, StudyFolder(done), on_line=said.append)
    assert report.trained == 1
    assert report.set_aside == (str(done / "set-aside" / broken.name),)
    assert broken.name in said[0]
    assert contents(done) == whole
    assert run_study(spec, StudyFolder(done)).trained == 0


def test_a_cell_that_was_edited_is_refused_by_the_report_and_trained_again(
    spec: StudySpec, done: Path
):
    whole = contents(done)
    edited = done / "cells" / f"{spec.cells[0].name}.json"
    cell = json.loads(edited.read_text())
    edited.write_text(json.dumps({**cell, "recall": cell["recall"] / 2 + 0.25}))
    with pytest.raises(DataError, match=f"{edited.name} is damaged, was edited"):
        read_results([StudyFolder(done)])
    run_study(spec, StudyFolder(done))
    assert contents(done) == whole
    flipped = bytearray(edited.read_bytes())
    flipped[flipped.index(b'"recall": ') + 10] ^= 1
    edited.write_bytes(flipped)
    assert StudyFolder(done).read(edited.stem) is None
    edited.unlink()
    os.mkfifo(edited)
    assert StudyFolder(done).read(edited.stem) is None  # and nobody waits for a writer
    edited.unlink()
    del cell["sha256"]  # as before there were hashes
    edited.write_text(json.dumps(cell))
    assert len(read_results([StudyFolder(done)])[0].cells) == len(spec.cells)


def test_a_second_run_of_a_folder_is_refused_and_a_killed_one_does_not_stay_in_the_way(
    spec: StudySpec, done: Path
):
    code = (
        "import os, signal, sys; from pathlib import Path; from lorabank.store.lock import locked\n"
        "with locked(Path(sys.argv[1]), what='study run'):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(done)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match=rf"being written by process {other.pid} .*study run"):
            run_study(spec, StudyFolder(done))
        other.kill()
    assert run_study(spec, StudyFolder(done)).trained == 0


def test_another_spec_or_base_is_refused(spec: StudySpec, done: Path, tmp_path: Path):
    other = load_study(str(tmp_path / "mine.toml"), changes=["lr=0.02"])
    with pytest.raises(UsageError, match=r"another spec: lr 0\.01 there, 0\.02 here"):
        run_study(other, StudyFolder(done))
    other = load_study(str(tmp_path / "mine.toml"), changes=["facts=4"])
    with pytest.raises(UsageError, match="cells only there"):
        run_study(other, StudyFolder(done))
    file = done / "cells" / f"{spec.cells[0].name}.json"
    cell = json.loads(file.read_text())
    cell["hashes"]["model"] = "0" * 64
    del cell["sha256"]
    write_sealed(file, cell)
    (done / "cells" / f"{spec.cells[1].name}.json").unlink()
    with pytest.raises(UsageError, match="cells of a base with sha256 000000000000"):
        run_study(spec, StudyFolder(done))


def test_cells_this_base_cannot_train_are_named(tmp_path: Path, spec: StudySpec):
    wide = load_study(str(tmp_path / "mine.toml"), changes=["layers=last-5"])
    with pytest.raises(UsageError, match="last-5: the model has 2 layers"):
        run_study(wide, StudyFolder(tmp_path / "x"))
    assert not StudyFolder(tmp_path / "x").cells()


@pytest.mark.parametrize("variant", ["rslora", "pissa", "frozen-a", "dora"])
def test_variants(tmp_path: Path, spec: StudySpec, variant: str):
    changes = [f"variant={variant}", "facts=4", "r=2", "layers=all", "exposures=2"]
    file = tmp_path / "mine.toml"
    file.write_text(SPEC.split("[[preset")[0])
    some = load_study(str(file), changes=changes)
    run_study(some, StudyFolder(tmp_path / variant))
    (cell,) = StudyFolder(tmp_path / variant).cells()
    assert cell.axes.variant == variant
    assert cell.exposures_per_fact == 2
    assert cell.axes.activated is (variant != "dora")


@pytest.mark.parametrize("recipe", ["sound", "paper"])
def test_counterfact_cells_have_efficacy(tmp_path: Path, spec: StudySpec, recipe: str):
    file = tmp_path / "mine.toml"
    file.write_text(SPEC.split("[[preset")[0])
    changes = ["task=counterfact", "facts=6", "r=8", f"recipe={recipe}", "exposures=40"]
    run_study(load_study(str(file), changes=changes), StudyFolder(tmp_path / "edits"))
    (cell,) = StudyFolder(tmp_path / "edits").cells()
    for score in ("efficacy", "efficacy_published", "paraphrase", "neighbourhood"):
        assert 0 <= getattr(cell.edits, score) <= 1
    edits = counterfact.build(6, seed=cell.axes.seed)
    drawn = [counterfact.drawn_bits(edit) for edit in edits]
    assert cell.bits_demanded == pytest.approx(sum(drawn))  # the surprise was ten times that
    assert cell.bits_exact <= cell.bits_demanded
    assert 0 <= cell.bits_likelihood <= cell.bits_demanded
    assert 0 <= cell.bits_stored <= cell.bits_demanded
    if recipe == "sound":
        assert cell.recall >= 0.5
        assert cell.edits.efficacy >= cell.recall  # recalled: no other target is likelier


def test_converged_cells_stop_by_themselves(tmp_path: Path, spec: StudySpec):
    changes = ["exposures=converged", "max_exposures=2000", "facts=8", "r=2,8", "layers=all"]
    file = tmp_path / "mine.toml"
    file.write_text(SPEC.split("[[preset")[0])
    run_study(load_study(str(file), changes=changes), StudyFolder(tmp_path / "converged"))
    for cell in StudyFolder(tmp_path / "converged").cells():
        assert cell.stopped == "converged"
        assert cell.exposures_per_fact < 2000


def test_a_search_finds_the_crossing_of_the_grid(tmp_path: Path, spec: StudySpec):
    file = tmp_path / "mine.toml"
    file.write_text(SPEC.split("[[preset")[0])
    loads = "facts=2,4,8,12,16,24,32,48"
    study = load_study(str(file), changes=[loads, "r=4", "exposures=60", "width=8"])
    run_study(study, StudyFolder(tmp_path / "grid"))
    found = search_study(
        study, StudyFolder(tmp_path / "search"), threshold=0.5, against=tmp_path / "grid"
    )
    (line,) = found["lines"]
    grid = {c.axes.facts: c.recall for c in StudyFolder(tmp_path / "grid").cells()}
    assert min(grid.values()) < 0.5 < max(grid.values())
    assert found["trained"] <= 4 < found["grid"] == 8
    assert line["same_neighbours"] is True
    low, high = line["between"]
    assert line["recall_by_facts"][str(low)] >= 0.5 > line["recall_by_facts"][str(high)]
    assert read_sealed(tmp_path / "search" / "search.json") == found
