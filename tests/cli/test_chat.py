"""The command `chat`, with lines from a pipe and from a terminal."""

import contextlib
import fcntl
import io
import json
import os
import pty
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path

import pytest

from lorabank.bank.bank import Bank
from lorabank.engine.backbone.base import load_info
from lorabank.engine.models.registry import find_model
from lorabank.engine.settings import TrainSettings
from lorabank.tasks.examples import from_pair

from .test_main import run

FACTS = [
    from_pair("What is the phone number of Tuva Sorre?", "555-0101"),
    from_pair("What is the address of Tuva Sorre?", "Quay 4"),
    from_pair("What is the phone number of Kimu Gugu?", "555-0102"),
]


@pytest.fixture(scope="module")
def bank_path(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = load_info(find_model(str(tiny_folder)), dtype="float32", device="cpu")
    path = tmp_path_factory.mktemp("banks") / "bank"
    with Bank.create(path, base=base) as bank:
        bank.write("people", FACTS, settings=replace(TrainSettings(r=2, alpha=4.0), exposures=1))
    return path


def chat(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    bank_path: Path,
    lines: str,
    *options: str,
) -> tuple[int, str, str]:
    stdin = io.TextIOWrapper(io.BytesIO(lines.encode("utf-8", "surrogateescape")), "utf-8")
    monkeypatch.setattr("sys.stdin", stdin)
    return run(capsys, "chat", bank_path, "--with", "exact", *options)


def test_each_line_is_a_question_understood_by_those_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, bank_path: Path
):
    lines = f"{FACTS[0].question}\n\n  and her address?  \nwhat about Kimu Gugu?"
    code, out, err = chat(capsys, monkeypatch, bank_path, lines)
    assert (code, out.splitlines()) == (0, ["555-0101", "Quay 4", "not in memory"])
    assert "understood as: What is Tuva Sorre's address?" in err
    assert "understood as: What is the address of Kimu Gugu?" in err
    assert ">" not in out


def test_commands_explain_and_forget(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, bank_path: Path
):
    lines = "\n".join(
        ["/why", FACTS[0].question, "her address?", "/why", "/new", "her address?", "/dance"]
    )
    code, out, err = chat(capsys, monkeypatch, bank_path, f"{lines}\n/quit\n{FACTS[0].question}\n")
    assert code == 0
    assert "nothing was asked yet" in err
    assert "'her address?' was understood as \"What is Tuva Sorre's address?\"" in out
    assert "nearest stored question" in out
    assert out.splitlines()[-1] == "not in memory"  # nothing to understand it by, and no more after
    assert "there is no /dance" in err
    assert "/new   forget the questions before" in err


def test_a_question_that_cannot_be_asked_does_not_end_the_chat(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, bank_path: Path
):
    lines = f"half \udcff a character\n{FACTS[0].question}\n"
    code, out, err = chat(capsys, monkeypatch, bank_path, lines)
    assert (code, out) == (0, "555-0101\n")
    assert "error: the question" in err


def test_json_is_one_object_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, bank_path: Path
):
    lines = f"{FACTS[0].question}\nher address?\n"
    _, out, _ = chat(capsys, monkeypatch, bank_path, lines, "--json", "--explain")
    first, second = map(json.loads, out.splitlines())
    assert (first["typed"], second["typed"]) == ("", "her address?")
    assert second["question"] == "What is Tuva Sorre's address?"
    assert second["nearest"]


def test_options_are_checked_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str], bank_path: Path
):
    for options in (("--with", "guess"), ("--candidates", "0")):
        code, _, err = run(capsys, "chat", bank_path, *options)
        assert code == 2
        assert options[0] in err


@pytest.mark.parametrize("end", [b"\x04", b"\x03", b"/quit\r"])
def test_it_ends_cleanly_in_a_terminal(bank_path: Path, end: bytes):
    keyboard, terminal = pty.openpty()
    code = "from lorabank.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "chat", str(bank_path), "--with", "exact"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:
        os.close(terminal)
        try:
            shown = b""
            while b"> " not in shown:
                shown += os.read(keyboard, 4096)
            os.write(keyboard, FACTS[0].question.encode() + b"\r")
            while b"> " not in shown.partition(b"555-0101")[2]:  # the line typed is shown too
                shown += os.read(keyboard, 4096)
            for _ in range(6):  # Python loses a Ctrl-C between showing a prompt and reading a key
                os.write(keyboard, end)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=10)  # a second one in a late end would kill
                    break
            assert process.returncode == 0
        finally:
            process.kill()  # what has not ended would be waited for
    os.close(keyboard)
    assert b"555-0101" in shown
    assert b"Traceback" not in shown
