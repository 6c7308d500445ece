"""The command `bench`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lorabank.bench.benches import BENCHES
from lorabank.cli.bench import BenchName
from lorabank.cli.main import app
from lorabank.errors import UsageError

runner = CliRunner()


def test_every_bench_has_a_name_on_the_command_line():
    assert [name.value for name in BenchName] == list(BENCHES)


def test_json_is_one_object_on_stdout_and_the_same_in_the_file(tiny_folder: Path, tmp_path: Path):
    out = tmp_path / "fleet.json"
    args = ["bench", "fleet", "--base", str(tiny_folder), "--device", "cpu", "--dtype", "float32"]
    sizes = ["--pairs", "1", "--facts", "4"]
    result = runner.invoke(app, [*args, *sizes, "--json", "--out", str(out)])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer == json.loads(out.read_text())
    assert answer["bench"] == "fleet"
    assert answer["equal"] is True
    assert set(answer["pairs"][0]) == {"ours_s", "peer_s"}


def test_an_out_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path):
    args = ["bench", "recall", "--out", str(tmp_path / "no" / "such" / "recall.json")]
    with pytest.raises(UsageError, match="must be a file in a folder that exists"):
        runner.invoke(app, args, catch_exceptions=False)


def test_facts_are_refused_where_the_bench_has_its_own():
    with pytest.raises(UsageError, match="--facts does not go with generate"):
        runner.invoke(app, ["bench", "generate", "--facts", "3"], catch_exceptions=False)
