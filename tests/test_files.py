"""Files are written whole or not at all, and only a disk's own errors become a StorageError."""

import errno
import os
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from lorabank.errors import DataError, StorageError
from lorabank.files import atomic_path, staged_folder, storage_errors, write_atomically


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "a.json"
    write_atomically(path, "old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_what_a_killed_writer_left_is_removed_by_the_next_and_what_is_written_is_not(
    tmp_path: Path,
):
    path = tmp_path / "a.refused.jsonl"
    code = (
        "import os, pathlib, sys\n"
        "from lorabank.files import atomic_path\n"
        "with atomic_path(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert killed.returncode == -9
    (litter,) = tmp_path.iterdir()
    others = {f".{path.name}.mine.part", ".b.jsonl.0123456789ab.part"}
    for name in others:
        (tmp_path / name).write_text("kept")
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert litter.exists()  # only a moment old
        for file in tmp_path.iterdir():
            os.utime(file, (0, 0))
        write_atomically(path, "between")
        assert not litter.exists()
        assert temporary.exists()
    assert {file.name for file in tmp_path.iterdir()} == {path.name} | others
    assert path.read_text() == "whole"


def test_folders_that_killed_processes_began_are_removed_by_the_next(tmp_path: Path):
    path = tmp_path / "module"
    code = (
        "import os, pathlib, sys\n"
        "from lorabank.files import staged_folder\n"
        "with staged_folder(pathlib.Path(sys.argv[1])) as staging:\n"
        "    (staging / 'inner').mkdir()\n"
        "    (staging / 'inner' / 'half').write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert killed.returncode == -9
    (litter,) = tmp_path.iterdir()
    with staged_folder(path) as staging:
        (staging / "whole").write_text("whole")
        for file in (litter, staging):
            os.utime(file, (0, 0))
        with staged_folder(tmp_path / "other"):
            assert litter.exists()  # it is of another name
        with suppress(ZeroDivisionError), staged_folder(path):
            assert not litter.exists()
            assert staging.exists()  # its process lives
            raise ZeroDivisionError
    assert sorted(file.name for file in tmp_path.iterdir()) == ["module", "other"]
    assert [file.name for file in path.iterdir()] == ["whole"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_permissions_follow_the_umask(tmp_path: Path, mask: int, mode: int):
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "a.json", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == mode


def test_a_full_disk_is_named_even_where_a_library_gives_its_number_in_text():
    message = r"cannot write x: the disk is full; free some space"
    with pytest.raises(StorageError, match=message), storage_errors(Path("x")):
        raise RuntimeError(f"I/O error: No space left on device (os error {errno.ENOSPC})")


@pytest.mark.parametrize("error", [DataError("line 3 is empty"), KeyError("answer")])
def test_other_errors_pass_through_even_after_a_handled_error_of_the_disk(error: Exception):
    error.__context__ = FileNotFoundError(errno.ENOENT, "no such file")
    with pytest.raises(type(error), match=r"line 3|answer"), storage_errors(Path("x")):
        raise error
