"""The command `synthesise`."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lorabank.cli.main import app
from lorabank.errors import DataError, UsageError
from lorabank.tasks.examples import read_examples
from tests.synthesis.chat_server import Fault, Server, serving
from tests.synthesis.fact_documents import country, word

runner = CliRunner()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving() as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        yield running


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for i in range(3):
        (folder / f"{word(i)}.md").write_text(f"# On {word(i)}\n\n{country(i)}\n")
    return folder


def call(*args: object) -> str:
    result = runner.invoke(app, ["synthesise", *map(str, args)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_documents_become_a_file_learn_can_read(server: Server, docs: Path, tmp_path: Path):
    out = tmp_path / "examples.jsonl"
    server.faults.append(Fault(content="Gladly!"))
    options = [docs, "--generator", "openai:small", "--formats", "qa:6,original", "--out", out]
    estimate = json.loads(call(*options, "--estimate", "--json"))
    assert (estimate["calls"], estimate["kept"], len(server.requests)) == (3, 0, 0)
    assert not list(tmp_path.glob("*.sqlite"))
    report = json.loads(call(*options, "--json"))
    assert len(read_examples(out)) == report["examples"] == report["wanted"] == 21
    assert report["by_format"] == {"original": 3, "qa": 18}
    assert report["refused"] == {"not in the form asked for": 1}
    (refused_reply,) = [
        json.loads(line) for line in Path(report["refused_log"]).read_text().splitlines()
    ]
    assert refused_reply["text"] == "Gladly!"
    example = json.loads(out.read_text().splitlines()[1])
    document = (docs / example["document"]).read_text()
    assert example["answer"] in document[example["start"] : example["end"]]
    text = call(*options)
    assert "0 calls" in text
    assert "4 cached from before" in text
    assert "18 of 18 sentences" in text


def test_an_endpoint_is_asked_without_loading_torch(server: Server, docs: Path, tmp_path: Path):
    check = (
        "import sys; from lorabank.cli.main import app; app(standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )
    arguments = ["synthesise", str(docs), "--generator", "openai:small", "--formats", "qa:2"]
    process = subprocess.run(
        [sys.executable, "-c", check, *arguments, "--out", str(tmp_path / "examples.jsonl")],
        env={**os.environ, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "k"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "examples.jsonl").read_text()


def test_a_budget_that_is_spent_is_reported(server: Server, docs: Path, tmp_path: Path):
    out = tmp_path / "examples.jsonl"
    options = [docs, "--generator", "openai:small", "--formats", "qa:6", "--out", out]
    result = runner.invoke(app, ["synthesise", *map(str, options), "--budget-calls", "1"])
    assert result.exit_code == 0
    assert "2 requests were not made" in result.stderr
    assert len(read_examples(out)) == 6


def test_held_out_questions_stay_out(server: Server, docs: Path, tmp_path: Path):
    held_out = tmp_path / "held.csv"
    held_out.write_text(
        f"prompt,answer\nWhat is the lake of {word(0)}?,x\nWhat is the river of {word(1)}?,y\n"
    )
    out = tmp_path / "examples.jsonl"
    options = ["--generator", "openai:small", "--formats", "qa:6", "--out", out]
    call(docs, *options, "--held-out", held_out)
    assert f"What is the river of {word(1)}?" not in [e.question for e in read_examples(out)]


def test_facts_are_reversed(server: Server, tmp_path: Path):
    facts = tmp_path / "facts.csv"
    facts.write_text("prompt,answer\nWhat is the phone number of Ann Lee?,555-010-0123\n")
    out = tmp_path / "examples.jsonl"
    call(facts, "--generator", "openai:small", "--formats", "original,reverse", "--out", out)
    assert [example.answer for example in read_examples(out)] == ["555-010-0123", "Ann Lee"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--out is missing"),
        (["--out", "{}/x.txt"], r"must be a \.jsonl file"),
        (["--out", "{}/docs/x.jsonl"], "would become part of what is read"),
        (["--out", "{}/no/x.jsonl"], "in a folder that exists"),
        (
            ["--out", "{}/x.jsonl", "--generator", "gpt"],
            "must be rules, local, openai:MODEL or file",
        ),
        (["--out", "{}/x.jsonl", "--generator", "file:"], "must be rules, local, openai:MODEL"),
        (["--out", "{}/x.jsonl", "--generator", "openai:"], "needs a model's name"),
        (["--out", "{}/x.jsonl", "--workers", "0"], r"--workers must be 1\.\.256"),
        (["--out", "{}/x.jsonl", "--budget-calls", "0"], "--budget-calls must be 1 or more"),
        (["--out", "{}/x.jsonl", "--formats", "qa:4,rewite:2"], "did you mean rewrite"),
    ],
)
def test_bad_requests_are_refused_before_any_request_to_the_server(
    server: Server, docs: Path, tmp_path: Path, options: list[str], message: str
):
    args = [docs, *(option.format(tmp_path) for option in options)]
    with pytest.raises(UsageError, match=message):
        call(*args)
    assert not server.requests


def test_documents_without_text_are_refused(server: Server, tmp_path: Path):
    (tmp_path / "empty.md").write_text(" ")
    with pytest.raises(DataError, match="empty"):
        call(tmp_path / "empty.md", "--generator", "openai:m", "--out", tmp_path / "x.jsonl")


def test_a_model_that_writes_nonsense_fails_with_samples(
    docs: Path, tiny_folder: Path, tmp_path: Path
):
    options = ["--base", tiny_folder, "--device", "cpu", "--formats", "summary:1"]
    with pytest.raises(UsageError, match=r"\.md: nothing fit .* in 3 replies .*from local:"):
        call(docs, *options, "--out", tmp_path / "x.jsonl")
    assert not (tmp_path / "x.jsonl").exists()
