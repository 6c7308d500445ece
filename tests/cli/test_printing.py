"""What commands print goes through `say` and `status`, which escape control characters."""

import ast
import re
import shutil
import sys
from pathlib import Path

import pytest

import lorabank.cli
from lorabank.cli.main import main
from lorabank.cli.progress_display import ProgressDisplay

ESCAPES = "\x1b]0;title\x07\x1b[2J\x9b31m\u202egnp"
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
PRINTS_ITSELF = {"output.py", "reference.py"}  # the latter writes docs/cli.md from our own texts


def test_no_command_prints_past_the_escapes():
    folder = Path(lorabank.cli.__file__).parent
    bare = [
        f"{path.name}:{node.lineno}"
        for path in folder.glob("*.py")
        if path.name not in PRINTS_ITSELF
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and (getattr(node.func, "id", "") == "print" or ast.unparse(node.func) == "typer.echo")
    ]
    assert bare == []


def test_a_name_with_control_characters_is_shown_escaped(
    tiny_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    folder = shutil.copytree(tiny_folder, tmp_path / f"x{ESCAPES}")
    monkeypatch.setattr(sys, "argv", ["lorabank", "models", "show", str(folder)])
    with pytest.raises(SystemExit) as ending:
        main()
    printed = capsys.readouterr()
    assert ending.value.code in (0, None)
    assert not CONTROL.search(printed.out + printed.err)
    assert "\\x1b]0;title" in printed.out


def test_the_progress_display_shows_text_escaped_on_one_line(capsys: pytest.CaptureFixture[str]):
    display = ProgressDisplay("training", None)
    display.next_line_at = 0.0
    display.update(0.5, f"{ESCAPES}\nfalse line")
    line = capsys.readouterr().err
    assert not CONTROL.search(line)
    assert line.count("\n") == 1
