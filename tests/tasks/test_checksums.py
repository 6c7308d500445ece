"""Verification of data files by the list of checksums beside them."""

import hashlib
from pathlib import Path

import pytest

from lorabank.errors import DataError
from lorabank.tasks.datasets import checksums


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "eval").mkdir()
    files = {"a b.txt": b"Ada", "eval/b.jsonl": b"{}\n"}
    rows = []
    for mark, (name, content) in zip(" *", files.items(), strict=True):
        (tmp_path / name).write_bytes(content)
        rows.append(f"{hashlib.sha256(content).hexdigest()} {mark}{name}")
    (tmp_path / "SHA256SUMS").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


def test_files_that_match_the_list_are_verified(folder: Path):
    (folder / "other").write_bytes(b"not listed")
    assert checksums.verify(folder) is True


def test_without_a_list_nothing_is_verified(tmp_path: Path):
    assert checksums.verify(tmp_path) is False


@pytest.mark.parametrize("content", [b"Ad", b"Adb", b""])
def test_a_truncated_or_altered_file_raises(folder: Path, content: bytes):
    (folder / "a b.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"a b\.txt: is not the file SHA256SUMS lists"):
        checksums.verify(folder)


def test_a_missing_file_raises(folder: Path):
    (folder / "eval" / "b.jsonl").unlink()
    with pytest.raises(DataError, match=r"b\.jsonl: no such file, but SHA256SUMS lists it"):
        checksums.verify(folder)


@pytest.mark.parametrize("row", ["abc  a b.txt", "0" * 64, "not a list"])
def test_a_malformed_list_raises(folder: Path, row: str):
    with (folder / "SHA256SUMS").open("a") as file:
        file.write(row)
    with pytest.raises(DataError, match="SHA256SUMS, line 3: must be a SHA-256 and a file name"):
        checksums.verify(folder)
