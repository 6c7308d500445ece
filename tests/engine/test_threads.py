"""What importing the engine does to the process: OpenMP's wait policy, and no noise on stderr."""

import logging
import subprocess
import sys

import pytest

from lorabank.engine.backbone.threads import busy_cores

_PRINT_POLICY = "import lorabank.engine, os; print(os.environ.get('OMP_WAIT_POLICY'))"


def chosen_policy(**env: str) -> str:
    process = subprocess.run(
        [sys.executable, "-c", _PRINT_POLICY], capture_output=True, text=True, check=True, env=env
    )
    return process.stdout.strip()


def test_own_setting_wins():
    assert chosen_policy(OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"


def test_threads_sleep_on_a_busy_machine():
    busy_processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in "12"]
    try:
        assert busy_cores() > 0.5
        assert chosen_policy() == "PASSIVE"
    finally:
        for process in busy_processes:
            process.kill()
            process.wait()


def test_importing_what_uses_peft_prints_nothing():
    code = "import lorabank.engine.adapters.adapter, sys; assert 'peft' in sys.modules"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


def test_other_warnings_of_bitsandbytes_are_shown(caplog: pytest.LogCaptureFixture):
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    with caplog.at_level(logging.WARNING):
        logger.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s", "gone")
        logger.warning("the blocks are too small")
    assert caplog.messages == ["the blocks are too small"]
