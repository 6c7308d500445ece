"""Files that a user names: what is no regular file, too large or no text is refused in one line."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lorabank.cli import plan
from lorabank.cli.bank import passage
from lorabank.errors import DataError
from lorabank.study.spec import load_study
from lorabank.tasks.examples import read_examples

READERS: dict[str, Callable[[Path], object]] = {
    "facts.csv": read_examples,
    "facts.jsonl": read_examples,
    "study.toml": lambda path: load_study(str(path)),
    "text.txt": plan._read,
    "passage.txt": passage,
}


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)  # takes no space on the disk


def make_latin(path: Path) -> None:
    path.write_bytes("Wer hütet Nebo?\n".encode("latin-1"))


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (make_pipe, "it is a folder, a pipe or a device"),
    "folder": (Path.mkdir, "it is a folder, a pipe or a device"),
    "link to a device": (lambda path: path.symlink_to("/dev/zero"), "a pipe or a device"),
    "link to nothing": (lambda path: path.symlink_to("gone"), "no such file"),
    "link to itself": (lambda path: path.symlink_to(path.name), "it is a link, not a file"),
    "too large": (make_large, "it is larger than"),
    "latin-1": (make_latin, "must be UTF-8, got byte 0xfc in line 1"),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_text_file_is_refused_in_one_line(tmp_path: Path, name: str, kind: str):
    make, message = KINDS[kind]
    make(tmp_path / name)
    with pytest.raises(DataError, match=message) as error:
        READERS[name](tmp_path / name)
    assert "\n" not in str(error.value)
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize("name", ["text.txt", "passage.txt"])
def test_a_linked_file_is_read(tmp_path: Path, name: str):
    (tmp_path / "there").write_bytes(b"\xef\xbb\xbfMira keeps it.\r\n")
    (tmp_path / name).symlink_to("there")
    assert "Mira keeps it." in str(READERS[name](tmp_path / name))
