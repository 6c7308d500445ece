"""The cache folder survives damage, killed processes, full disks and two writers."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lorabank.engine.models import model_cache as cache
from lorabank.errors import ModelError, StorageError


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LORABANK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def ignore(_: str) -> None:
    """Discard a progress message."""


def install(name: str = "tiny", text: str = "weights") -> cache.Manifest:
    with cache.workspace(ignore) as folder:
        built = folder / "model"
        built.mkdir()
        (built / "config.json").write_text("{}")
        (built / "model.safetensors").write_text(text)
        return cache.install(
            built, name, source="test", licence="MIT", weights_sha256="w", parameters=7
        )


@contextmanager
def file_size_limit(n_bytes: int):
    """Limit the size of files, so that a longer write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_location_follows_the_environment(monkeypatch, tmp_path):
    assert cache.root() == tmp_path / "cache"
    monkeypatch.delenv("LORABANK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.root() == tmp_path / "xdg" / "lorabank"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.root() == Path.home() / ".cache" / "lorabank"


def test_installed_model_is_read_back(cache_folder):
    manifest = install()
    assert cache.load("tiny") == manifest
    assert cache.names() == ["tiny"]
    assert manifest.n_bytes == len("{}weights")
    assert [p.name for p in (cache_folder / "models").iterdir()] == ["tiny"]


def test_an_empty_cache_has_no_models():
    assert cache.load("tiny") is None
    assert cache.names() == []


def test_newer_format_counts_as_not_cached(monkeypatch):
    install()
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    assert cache.load("tiny") is None


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", cache.MANIFEST])
def test_flipped_bit_is_detected(name):
    install()
    path = cache.model_folder("tiny") / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"damaged cache file .*{name}: "):
        cache.load("tiny")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "model.safetensors: missing"),
        (lambda path: path.write_text("weigh"), "5 bytes, expected 7"),
    ],
)
def test_missing_or_short_file_is_detected(damage, message):
    install()
    damage(cache.model_folder("tiny") / "model.safetensors")
    with pytest.raises(ModelError, match=message):
        cache.load("tiny")


def test_a_change_of_a_large_model_is_noticed_with_size_and_time_kept(monkeypatch):
    monkeypatch.setattr(cache, "ALWAYS_HASHED_BYTES", 0)
    manifest = install()
    assert cache.load("tiny") == manifest
    path = cache.model_folder("tiny") / "model.safetensors"
    mtime_ns = path.stat().st_mtime_ns
    path.write_text("weighTs")
    os.utime(path, ns=(mtime_ns, mtime_ns))
    with pytest.raises(ModelError, match="damaged cache file"):
        cache.load("tiny")


def test_installing_again_replaces():
    install(text="old")
    install(text="new")
    assert (cache.model_folder("tiny") / "model.safetensors").read_text() == "new"
    assert cache.load("tiny") is not None


def test_a_failed_workspace_leaves_nothing(cache_folder):
    def fail():
        with cache.workspace(ignore) as folder:
            (folder / "half").write_text("half")
            raise RuntimeError("conversion broke")

    with pytest.raises(RuntimeError, match="conversion broke"):
        fail()
    assert list((cache_folder / "models").iterdir()) == []


KILLED_HALFWAY = """
import os, signal
from lorabank.engine.models import model_cache as cache
with cache.workspace(print) as folder:
    (folder / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_leftovers_of_a_killed_process_are_removed(cache_folder):
    process = subprocess.run([sys.executable, "-c", KILLED_HALFWAY], check=False)
    assert process.returncode == -signal.SIGKILL
    assert len(list((cache_folder / "models").iterdir())) == 1
    assert cache.names() == []  # never visible as a model
    install()
    assert [p.name for p in (cache_folder / "models").iterdir()] == ["tiny"]


def test_one_writer_at_a_time():
    messages: list[str] = []
    waiting = threading.Event()
    order: list[str] = []

    def progress(text: str) -> None:
        messages.append(text)
        waiting.set()

    def wait_and_write() -> None:
        with cache.workspace(progress):
            order.append("second")

    thread = threading.Thread(target=wait_and_write)
    with cache.workspace(ignore):
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert "waiting for another process" in messages[0]


def write_plainly(path: Path) -> None:
    path.write_bytes(bytes(100_000))


def write_safetensors(path: Path) -> None:
    save_file({"a": torch.zeros(25_000)}, path)


@pytest.mark.parametrize("write", [write_plainly, write_safetensors])
def test_full_disk_is_a_storage_error(cache_folder, write):
    def build():
        with cache.workspace(ignore) as folder, file_size_limit(10_000):
            write(folder / "model.safetensors")

    with pytest.raises(StorageError, match=r"cannot write .*cache: the disk is full.*set LORABANK"):
        build()
    assert list((cache_folder / "models").iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_error_deep_in_a_chain_is_recognised(tmp_path, code):
    def write():
        with cache.storage_errors(tmp_path / "cache", need_bytes=5_000_000):
            try:
                raise OSError(code, os.strerror(code))
            except OSError as error:
                raise ValueError("could not save") from error

    with pytest.raises(StorageError, match=r"about 5 MB are needed, [\d,]+ MB are free"):
        write()


def test_too_little_room_is_refused_beforehand(cache_folder):
    cache_folder.mkdir()
    with pytest.raises(StorageError, match=r"about 1,000,000,000,000 MB are needed"):
        cache.require_space(10**18)


def test_a_cache_folder_that_cannot_be_made_is_a_storage_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LORABANK_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="Set LORABANK_CACHE to a folder that can be written"):
        install()


def test_errors_that_are_not_about_storage_pass_through(tmp_path):
    with pytest.raises(KeyError), cache.storage_errors(tmp_path):
        raise KeyError("ours")


def test_a_result_is_stored_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_SETTLED_NS", 0)
    file = tmp_path / "weights"
    file.write_text("one")
    os.utime(file, (1_000_000_000, 1_000_000_000))
    calls: list[str] = []

    def compute():
        calls.append(file.read_text())
        return {"text": calls[-1]}

    assert cache.memoised_by_files([file], compute, what="text") == {"text": "one"}
    assert cache.memoised_by_files([file], compute, what="text") == {"text": "one"}
    assert calls == ["one"]
    file.write_text("two")
    monkeypatch.undo()  # changed just now, so it may change once more within one clock tick
    for _ in range(2):
        assert cache.memoised_by_files([file], compute, what="text") == {"text": "two"}
    assert calls == ["one", "two", "two"]
