"""The script for a machine with a GPU, run small on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "bench" / "gpu.sh"


def run(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    command = {"LORABANK": str(Path(sys.executable).with_name("lorabank")), "DEVICE": "cpu"}
    environment = {**os.environ, **command, **settings}
    return subprocess.run(
        ["bash", str(SCRIPT), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_each_bench_leaves_its_json(tiny_folder: Path, tmp_path: Path):
    ended = run(tmp_path, BASE=str(tiny_folder), FACTS="4", BENCHES="fleet recall")
    assert ended.returncode == 0, ended.stderr
    results = [json.loads(path.read_text("utf-8")) for path in sorted(tmp_path.glob("*.json"))]
    assert [result["bench"] for result in results] == ["fleet", "recall"]
    assert {result["machine"]["device"] for result in results} == {"cpu"}


def test_what_was_not_measured_is_named(tiny_folder: Path, tmp_path: Path):
    ended = run(tmp_path, BASE=str(tiny_folder), BENCHES="fleet", MINUTES="0")
    assert ended.returncode == 1
    assert "not measured: fleet(no time left)" in ended.stderr
    assert not list(tmp_path.glob("*.json"))
