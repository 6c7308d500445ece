"""What `lorabank shrink` refuses before it loads anything; docs/ranks.md shows what it does."""

from pathlib import Path

import pytest

from lorabank.engine.adapters.adapter import CONFIG

from .test_records import run

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "is an adapter's folder: give --facts (what it was taught) and --out"),
        (["--out", "smaller"], "a folder takes both --facts (what it was taught) and --out"),
        (["--keep-recall", "2"], "--keep-recall must be above 0 and at most 1, got 2"),
        (["--r", "0"], "--r must be at least 1, got 0"),
        (["--dtype", "int4"], "int4"),
    ],
)
def test_what_is_refused_of_a_folder(
    tmp_path: Path, arguments: list[str], reason: str, capsys: Capture, monkeypatch: Patch
):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / CONFIG).write_text("{}")
    code, _, err = run(capsys, monkeypatch, "shrink", folder, *arguments)
    assert code == 2
    assert reason in err
    assert len(err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_a_base_is_not_chosen_for_a_bank(tmp_path: Path, capsys: Capture, monkeypatch: Patch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, monkeypatch, "shrink", "team", "--base", "random-tiny")
    assert code == 2
    assert "--base is for a folder" in err
