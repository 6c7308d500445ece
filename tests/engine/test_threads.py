"""Effects of importing the engine on the process: OpenMP's wait policy, and nothing printed."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lorabank.engine.backbone import threads

IMPORT_ENGINE = """
import itertools, os, pathlib, sys
readings, read_text = itertools.count(1), pathlib.Path.read_text
def read(path, *args, **options):  # /proc/stat of a machine that is as busy as argv says
    if str(path) != "/proc/stat":
        return read_text(path, *args, **options)
    n = next(readings)
    return f"cpu {n * int(sys.argv[1])} 0 0 {n * int(sys.argv[2])} 0 0 0 0\\n"
pathlib.Path.read_text = read
import lorabank.engine
print(os.environ.get("OMP_WAIT_POLICY"))
"""


def chosen_policy(*, work: int, idle: int, **environment: str) -> str:
    """Return OMP_WAIT_POLICY after an import of the engine on a machine of that load."""
    process = subprocess.run(
        [sys.executable, "-c", IMPORT_ENGINE, str(work), str(idle)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return process.stdout.strip()


def test_a_policy_set_by_the_user_is_kept():
    assert chosen_policy(work=100, idle=0, OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"


def test_threads_sleep_on_a_busy_machine():
    assert chosen_policy(work=100, idle=0) == "PASSIVE"


def test_threads_spin_on_an_idle_machine():
    assert chosen_policy(work=0, idle=100) == "None"


def test_busy_cores_are_the_share_of_work_between_two_readings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 20 30 400 50 0 0 0 0 0\ncpu0 1 1 1 1 1 0 0 0 0 0\n")
    later = "cpu  130 30 40 440 60 0 0 0 0 0\ncpu0 9 9 9 9 9 0 0 0 0 0\n"  # 50 of 100 ticks work
    monkeypatch.setattr(threads, "_STAT", stat)
    monkeypatch.setattr(threads.time, "sleep", lambda _: stat.write_text(later))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert threads.busy_cores() == 4


def test_importing_what_uses_peft_prints_nothing():
    code = "import lorabank.engine.adapters.adapter, sys; assert 'peft' in sys.modules"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


def test_only_the_known_warning_of_bitsandbytes_is_hidden(caplog: pytest.LogCaptureFixture):
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    with caplog.at_level(logging.WARNING):
        logger.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s", "gone")
        logger.warning("the blocks are too small")
    assert caplog.messages == ["the blocks are too small"]
