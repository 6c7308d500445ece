"""A synthesis that is killed loses at most one request for each worker."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lorabank.synthesis.cache import ReplyCache
from tests.synthesis.chat_server import Server, serving
from tests.synthesis.scene import country, word

WORKERS = 4
N = 20


def start(server: Server, docs: Path, out: Path) -> subprocess.Popen[str]:
    main = "from lorabank.cli.main import main; main()"
    command = [sys.executable, "-c", main, "synthesise", str(docs)]
    command += ["--generator", "openai:small", "--formats", "qa:6,original", "--out", str(out)]
    command += ["--workers", str(WORKERS), "--json"]
    environment = {**os.environ, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "k"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for i in range(N):
        (folder / f"{word(i)}.md").write_text(f"# On {word(i)}\n\n{country(i)}\n")
    return folder


def test_killed_again_and_again_it_asks_for_little_twice_and_ends_the_same(
    docs: Path, tmp_path: Path
):
    rng = random.Random(0)
    kept_before = kills = 0
    with serving(delay_s=0.02) as server:
        for n in (5, 6):
            killed = start(server, docs, tmp_path / "out.jsonl")
            goal = len(server.asked) + n + rng.randrange(3)
            while len(server.asked) < goal and killed.poll() is None:
                time.sleep(0.001)
            killed.send_signal(signal.SIGKILL)
            killed.communicate()
            kills += killed.returncode == -signal.SIGKILL
            with ReplyCache(tmp_path / "synthesis-cache.sqlite") as cache:
                assert len(cache) >= len(server.asked) - kills * WORKERS
                assert len(cache) > kept_before
                kept_before = len(cache)
            assert not (tmp_path / "out.jsonl").exists()
        last = start(server, docs, tmp_path / "out.jsonl")
        _, errors = last.communicate(timeout=60)
        assert last.returncode == 0, errors
        assert kills == 2
        assert N <= len(server.asked) <= N + kills * WORKERS
    with serving() as server:
        (tmp_path / "fresh").mkdir()
        whole = start(server, docs, tmp_path / "fresh" / "out.jsonl")
        _, errors = whole.communicate(timeout=60)
        assert whole.returncode == 0, errors
        assert len(server.asked) == N
    again = (tmp_path / "fresh" / "out.jsonl").read_text()
    assert (tmp_path / "out.jsonl").read_text() == again
    assert len(again.splitlines()) == 7 * N
