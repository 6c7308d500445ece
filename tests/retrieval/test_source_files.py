"""What is found in folders: links, pipes, odd names, empty and doubled files."""

import logging
import os
import sys
import unicodedata
from pathlib import Path

import pytest

from lorabank.errors import DataError
from lorabank.retrieval.documents import read_document, read_documents
from lorabank.retrieval.source_files import find_files


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Text of {name}")


def names_in(folder: Path) -> list[str]:
    return [document.name for document in read_documents([folder])]


def test_linked_folders_are_followed_once_and_never_in_a_circle(tmp_path: Path):
    write(tmp_path, "docs/a.md", "docs/sub/b.md", "shared/c.md")
    for link, target in (
        ("docs/up", tmp_path / "docs"),
        ("docs/above", tmp_path),
        ("docs/linked", tmp_path / "shared"),
        ("docs/again", tmp_path / "shared"),
        ("docs/a-sub", tmp_path / "docs/sub"),
        ("shared/back", tmp_path / "docs"),
        ("docs/itself", tmp_path / "docs/itself"),
    ):
        (tmp_path / link).symlink_to(target)
    assert names_in(tmp_path / "docs") == ["a.md", "again/c.md", "sub/b.md"]


def test_pipes_devices_and_dead_links_in_a_folder_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING)
    write(tmp_path, "a.md")
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    (tmp_path / "gone.md").symlink_to(tmp_path / "nowhere")
    assert names_in(tmp_path) == ["a.md"]
    assert "2 pipe or device" in caplog.text
    assert "1 dead link" in caplog.text


def test_a_pipe_or_device_that_is_named_is_refused_and_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    for name in ("pipe.md", "zero.txt"):
        with pytest.raises(DataError, match=r"a pipe, a device or a folder; save its text"):
            read_document(tmp_path / name)


def test_empty_and_doubled_files_in_a_folder_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING)
    for name, text in (
        ("a.md", "Same"),
        ("sub/a.md", "Same"),
        ("_index.md", "---\ntitle: Only a title\n---\n"),
        ("blank.txt", " \n"),
        ("app.html", "<script>draw()</script>"),
    ):
        write(tmp_path, name)
        (tmp_path / name).write_text(text)
    assert names_in(tmp_path) == ["a.md"]
    for name in ("sub/a.md holds the same bytes as", "_index.md: no text", "blank.txt: an empty"):
        assert name in caplog.text
    with pytest.raises(DataError, match=r"blank\.txt: an empty file"):
        read_documents([tmp_path / "blank.txt"])


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are always Unicode")
def test_names_that_are_no_utf_8_are_shown_and_stored_safely(tmp_path: Path):
    (tmp_path / os.fsdecode(b"caf\xe9\x1b.md")).write_text("The port is 8123.")
    (document,) = read_documents([tmp_path])
    assert document.name == "caf\ufffd\ufffd.md"
    assert document.title.encode()
    with pytest.raises(DataError, match="caf\ufffd: a document must be one of") as error:
        read_document(tmp_path / os.fsdecode(b"caf\xe9"))
    assert str(error.value).encode()


def test_names_are_composed(tmp_path: Path):
    write(tmp_path, unicodedata.normalize("NFD", "Café.md"))
    assert names_in(tmp_path) == ["Café.md"]


def test_a_path_that_no_file_can_have_is_refused_in_one_line(tmp_path: Path):
    for name in ("x" * 5000, "a\0b.md"):
        with pytest.raises(DataError, match="cannot be read"):
            find_files(tmp_path / name)
    with pytest.raises(DataError, match="no such file or folder"):
        find_files(tmp_path / "gone.md" / "deeper.md")
