"""The commands and their exit codes, run by `main` in this process."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lorabank.cli.main import main
from lorabank.engine.backbone.base import Base
from lorabank.engine.learn import learn
from lorabank.errors import DataError

COMMANDS = ["quickstart", "learn", "recall", "models list", "models pull", "models show"]


def run(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, str, str]:
    """Run `lorabank` with arguments; return the exit code, stdout and stderr."""
    argv = sys.argv
    sys.argv = ["lorabank", *map(str, args)]
    try:
        with pytest.raises(SystemExit) as stop:
            main()
    finally:
        sys.argv = argv
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    path = tmp_path / "facts.csv"
    path.write_text("prompt,answer\n" + "".join(f"Item {i}?,{i * 7}\n" for i in range(8)))
    return path


def test_help_does_not_wait_for_torch():
    check = "import sys, lorabank.cli.main; print('torch' in sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "False"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example_and_names_json(capsys: pytest.CaptureFixture[str], command: str):
    code, out, _ = run(capsys, *command.split(), "--help")
    assert code == 0
    assert f"Example: lorabank {command}" in out
    assert "--json" in out


def test_learn_then_recall(
    capsys: pytest.CaptureFixture[str], tiny_folder: Path, facts: Path, tmp_path: Path
):
    code, out, _ = run(
        capsys, "learn", facts, "--out", tmp_path / "a", "--base", tiny_folder,
        "--lr", "5e-3", "--exposures", "150", "--until-recall", "0.8", "--json",
    )  # fmt: skip
    report = json.loads(out)
    assert code == 0
    assert report["recall_after"] >= 0.8
    assert report["facts"] == 8
    code, out, _ = run(capsys, "recall", tmp_path / "a", facts, "--json")
    recalled = json.loads(out)
    assert recalled["recall"] == report["recall_after"]
    assert recalled["missing"] == report["missing"]
    code, out, _ = run(capsys, "recall", tmp_path / "a", facts, "--score", "text")
    assert code == 0
    assert re.match(r"recall \d of 8 ", out)


def test_protect_trains_on_ordinary_text_and_lowers_drift(
    capsys: pytest.CaptureFixture[str], tiny_folder: Path, facts: Path, tmp_path: Path
):
    def kl(share: str) -> float:
        out = tmp_path / share
        code, stdout, _ = run(
            capsys, "learn", facts, "--out", out, "--base", tiny_folder,
            "--lr", "5e-3", "--exposures", "60", "--protect", share, "--json",
        )  # fmt: skip
        assert code == 0
        settings = json.loads((out / "lorabank.json").read_text())["settings"]
        assert settings["protect_share"] == float(share)
        return json.loads(stdout)["kl_to_base_nats"]

    assert kl("0.5") < kl("0")


def test_paper_recipe_end_to_end(
    capsys: pytest.CaptureFixture[str], tiny_folder: Path, facts: Path, tmp_path: Path
):
    code, out, _ = run(
        capsys, "learn", facts, "--out", tmp_path / "a", "--base", tiny_folder,
        "--recipe", "paper", "--exposures", "2", "--json",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["exposures_per_fact"] == 2
    record = json.loads((tmp_path / "a" / "lorabank.json").read_text())
    assert record["settings"]["dropout"] == 0.1
    code, out, _ = run(capsys, "recall", tmp_path / "a", facts, "--json")
    assert json.loads(out)["score"] == "published"


def test_show_tokens_marks_what_carries_loss(
    capsys: pytest.CaptureFixture[str], tiny_folder: Path, facts: Path
):
    code, out, _ = run(capsys, "learn", facts, "--base", tiny_folder, "--show-tokens", "1")
    assert code == 0
    assert "2 of" in out
    assert "tokens carry loss" in out
    assert [line.split()[-1] for line in out.splitlines() if "  yes " in line] == [
        "'0'",
        "'<|im_end|>'",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["learn", "{facts}", "--base", "{tiny}"], "--out is missing"),
        (["learn", "nope.csv", "--out", "{out}"], "no such file"),
        (["learn", "{facts}", "--out", "{out}", "--base", "smolm2-135m"], "smollm2-135m"),
        (["learn", "{facts}", "--out", "{out}", "--base", "{tiny}", "--r", "99"], "takes r 1.."),
        (["learn", "{facts}", "--out", "{out}", "--recipe", "best"], "sound or paper"),
        (["learn", "{facts}", "--out", "{full}", "--base", "{tiny}"], "is not empty"),
        (
            ["learn", "{facts}", "--out", "{out}", "--base", "{tiny}", "--layers", "last-9"],
            "the model has 2 layers",
        ),
        (
            ["learn", "{facts}", "--out", "{out}", "--base", "{tiny}", "--target-modules", "w"],
            "matches no linear layer",
        ),
        (["learn", "{facts}", "--out", "{out}", "--base", "{tiny}", "--device", "tpu"], "--device"),
        (["recall", "{full}", "{facts}"], "it has no adapter_config.json"),
        (["recall", "{full}", "{facts}", "--score", "best"], "it has no adapter_config.json"),
        (["quickstart", "--facts", "0", "--out", "{out}"], "phone book size must be"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_requests_print_two_lines_and_exit_with_2(
    capsys: pytest.CaptureFixture[str],
    tiny_folder: Path,
    facts: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    out = tmp_path / "out"
    places = {"facts": facts, "tiny": tiny_folder, "out": out, "full": full}
    code, stdout, stderr = run(capsys, *(a.format(**places) for a in arguments), "--json")
    assert code == 2
    assert message in stderr
    assert stderr.startswith("error: ")
    assert len(stderr.strip().splitlines()) <= 2
    assert json.loads(stdout)["error"] in stderr
    assert not out.exists()
    assert [file.name for file in full.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("command", ["learn", "plan"])
def test_an_example_longer_than_the_context_is_refused_by_its_line(
    capsys: pytest.CaptureFixture[str], tiny_folder: Path, tmp_path: Path, command: str
):
    path = tmp_path / "long.csv"
    path.write_text(f"prompt,answer\nWho?,Tuva\n\nAnd then?,{'on and on ' * 4_000}\n")
    out = ("--out", tmp_path / "a") if command == "learn" else ()
    code, _, err = run(capsys, command, path, "--base", tiny_folder, *out)
    assert code == 2
    assert re.search(r"long\.csv, line 4 has [\d,]+ tokens, the model takes", err)


def test_repeated_facts_in_memory_are_refused_like_those_of_a_file(tiny: Base, tmp_path: Path):
    with pytest.raises(DataError, match=r"contradicts example 1 \(example 2\)"):
        learn(tiny, [("Who?", "Tuva"), ("Who?", "Ilse")], out=tmp_path / "a")


def test_ctrl_c_keeps_the_best_adapter_and_names_its_folder(
    tiny_folder: Path, facts: Path, tmp_path: Path
):
    out = tmp_path / "a"
    process = subprocess.Popen(
        [
            sys.executable, "-c", "from lorabank.cli.main import main; main()",
            "learn", str(facts), "--out", str(out), "--base", str(tiny_folder),
            "--lr", "1e-3", "--exposures", "1000000",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("training:") and "exposures" in line:
            break
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the best adapter so far" in stderr
    assert str(out) in stderr
    assert (out / "adapter_model.safetensors").exists()


@pytest.mark.real
@pytest.mark.usefixtures("kept_base")
def test_quickstart_on_the_real_model(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    code, out, _ = run(capsys, "quickstart", "--facts", "6", "--out", tmp_path / "q", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["recall_before"] == 0
    assert report["recall_after"] >= 5 / 6
    assert 0.8 * 6 * 33.2 < report["bits_stored"] <= 6 * 33.22
    assert report["kl_to_base_nats"] > 0
    assert Path(report["adapter"]) == tmp_path / "q"
    assert all(a["before"] != a["answer"] for a in report["answers"])
    expected = {
        "recall_before", "recall_after", "facts", "exposures_per_fact", "seconds",
        "train_tokens_per_s", "trainable_parameters", "bits_stored", "bits_per_parameter",
        "kl_to_base_nats", "adapter",
    }  # fmt: skip
    assert expected <= report.keys()
