"""inspect-ai, in a process of its own, asks a running server for what its modules were taught."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("inspect_ai", reason="needs the extra lorabank[inspect-ai]")

from lorabank.tasks.examples import Example

from .conftest import Running

EVALUATE = """
import json, sys
from inspect_ai import eval as evaluate
from inspect_ai.model import get_model
from lorabank.integrations.inspect_tasks import held_out, near_misses

url, folder = sys.argv[1:]
model = get_model("openai-api/lorabank/memory", base_url=url, api_key="none")
tasks = [held_out(f"{folder}/taught.jsonl"), near_misses(f"{folder}/near.jsonl")]
logs = evaluate(tasks, model=model, log_dir=f"{folder}/logs", display="none", max_tasks=1)
print(json.dumps([log.results.scores[0].metrics["accuracy"].value for log in logs]))
"""


def test_the_bank_answers_what_it_was_taught_and_refuses_near_misses(
    server: Running, book: list[Example], tmp_path: Path
):
    rows = {
        "taught": [(example.question, example.answer) for example in book[:3]],
        "near": [("What is the phone number of Kimo Gaga?", "Not in memory")],
    }
    for name, pairs in rows.items():
        lines = [json.dumps({"question": q, "answer": a, "fact": ""}) for q, a in pairs]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    command = [sys.executable, "-c", EVALUATE, f"{server.url}/v1", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [1.0, 1.0]
