"""What a user sees of a fault of ours, and what never gets into its file."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lorabank.cli.last_catch import explain, strike_secrets

FAULTY = """
import lorabank.cli.main as main
def fail(json: bool = False):
    raise RuntimeError("got Bearer abc123secret and " + __import__("os").environ["MY_API_KEY"])
main.app.command("fail")(fail)
main.main()
"""


def run_python(code: str, *args: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TMPDIR": str(folder), "MY_API_KEY": "very-secret-value"}
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip


def test_a_fault_of_ours_is_one_line_and_a_private_file(tmp_path: Path):
    process = run_python(FAULTY, "fail", "--json", folder=tmp_path)
    assert process.returncode == 70
    (file,) = tmp_path.glob("lorabank-traceback-*.txt")
    assert file.stat().st_mode & 0o077 == 0
    written = file.read_text()
    assert "Traceback" in written
    assert "RuntimeError" in written
    (line,) = process.stderr.splitlines()
    assert re.match(r"error: a fault of lorabank itself, .*RuntimeError: got \[secret\]", line)
    assert str(file) in line
    for text in (process.stderr, process.stdout, written):
        assert "very-secret-value" not in text
        assert "abc123secret" not in text


def test_the_traceback_is_on_the_screen_where_no_file_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    try:
        raise ValueError("odd \ud800\n text")
    except ValueError as error:
        line = explain(error)
    assert r"odd \ud800 text" in line
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "Invalid header value b'Bearer sk-12345678\\r'",
        "key sk-12345678",
        "https://me:12345678@host",
    ],
)
def test_what_looks_like_a_key_is_struck_out(text: str):
    assert "12345678" not in strike_secrets(text)


def test_a_reader_that_goes_away_is_no_fault(tmp_path: Path):
    code = "from lorabank.cli.main import main; main()"
    command = f'{sys.executable} -c "{code}" models list | true; echo ${{PIPESTATUS[0]}}'
    process = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert "fault" not in process.stderr
    assert "Traceback" not in process.stderr
    assert not list(tmp_path.glob("lorabank-traceback-*"))


def test_a_name_that_is_no_text_can_be_printed():
    code = (
        "import json, lorabank.cli.main as main\n"
        "name = json.dumps('caf\\udce9', ensure_ascii=False)\n"
        "main.app.command('name')(lambda: print(name))\n"
        "main.main()"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, "name"], capture_output=True, text=True, check=True
    )
    assert json.loads(process.stdout) == "caf\udce9"
