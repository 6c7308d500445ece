import subprocess
import sys

from lorabank.engine.backbone.threads import busy_cores

_SETTLE = "import lorabank.engine, os; print(os.environ.get('OMP_WAIT_POLICY'))"


def settled(**env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _SETTLE], capture_output=True, text=True, check=True, env=env
    )
    return done.stdout.strip()


def test_own_setting_wins():
    assert settled(OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"


def test_busy_machine_is_seen_and_threads_sleep():
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        assert busy_cores() > 0.5
        assert settled() == "PASSIVE"
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
