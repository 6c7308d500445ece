"""The command `judge`."""

import json
from pathlib import Path

import pytest

from tests.cli.test_main import run
from tests.synthesis.chat_server import serving
from tests.synthesis.test_answer_judge import ANSWERS, score_by_match


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    path = tmp_path / "answers.jsonl"
    rows = [
        {"question": a.question, "gold": a.golds[0], "answer": a.text, "document": a.document}
        for a in ANSWERS
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_two_judges_and_a_file_of_marks(answers: Path, capsys, monkeypatch, tmp_path: Path):
    with serving(write=score_by_match) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        arguments = ["judge", answers, "--judge", "openai:a", "--second", "openai:b"]
        code, out, _ = run(capsys, *arguments, "--estimate")
        assert (code, out.split(",")[0]) == (0, "16 calls")
        assert not server.requests
        code, out, _ = run(capsys, *arguments, "--out", tmp_path / "marks.jsonl")
        code, estimate, _ = run(capsys, *arguments, "--estimate", "--json")
        assert json.loads(estimate) == {"calls": 0, "kept": 16, "prompt_tokens": 0}
    assert code == 0
    assert "5.5" in out
    assert "the two agree   rank correlation 1.00, weighted kappa 1.00, 0.00 points apart" in out
    marks = [json.loads(line) for line in (tmp_path / "marks.jsonl").read_text().splitlines()]
    assert [row["marks"][0]["score"] for row in marks] == [10, 10, 1, 1, 10, 1, 10, 1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--judge", "gpt"], "--judge must be openai:MODEL or local, got 'gpt'"),
        (["--judge", "file:x"], "a file of texts cannot judge"),
        (["--judge", "openai:a", "--second", "openai:a"], "--second openai:a is the first judge"),
        (["--judge", "openai:a"], "OPENAI_API_KEY"),
        (["--judge", "openai:a", "--out", "marks.csv"], "--out must be a .jsonl file"),
        (["--judge", "openai:a", "--out", "no/marks.jsonl"], "in a folder that exists"),
        (["--judge", "openai:a", "--out", "{}"], "is the file of answers itself"),
        (["--judge", "local", "--workers", "0"], "--workers must be 1..256"),
    ],
)
def test_bad_requests_are_refused(
    answers: Path, capsys, monkeypatch, args: list[str], message: str
):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    code, _, err = run(capsys, "judge", answers, *(arg.format(answers) for arg in args))
    assert code == 2
    assert message in err
