"""A synthesis that is killed loses at most one request of each worker."""

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
from tests.synthesis.fact_documents import country, word

WORKERS = 4
N_DOCUMENTS = 20


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
    for i in range(N_DOCUMENTS):
        (folder / f"{word(i)}.md").write_text(f"# On {word(i)}\n\n{country(i)}\n")
    return folder


def test_a_run_killed_twice_repeats_few_requests_and_ends_with_the_same_file(
    docs: Path, tmp_path: Path
):
    rng = random.Random(0)
    n_cached = n_kills = 0
    with serving(delay_s=0.02) as server:
        for n_more in (5, 6):
            killed = start(server, docs, tmp_path / "out.jsonl")
            goal = len(server.requests) + n_more + rng.randrange(3)
            while len(server.requests) < goal and killed.poll() is None:
                time.sleep(0.001)
            killed.send_signal(signal.SIGKILL)
            killed.communicate()
            n_kills += killed.returncode == -signal.SIGKILL
            with ReplyCache(tmp_path / "synthesis-cache.sqlite") as cache:
                assert len(cache) >= len(server.requests) - n_kills * WORKERS
                assert len(cache) > n_cached
                n_cached = len(cache)
            assert not (tmp_path / "out.jsonl").exists()
        last = start(server, docs, tmp_path / "out.jsonl")
        _, errors = last.communicate(timeout=300)
        assert last.returncode == 0, errors
        assert n_kills == 2
        assert N_DOCUMENTS <= len(server.requests) <= N_DOCUMENTS + n_kills * WORKERS
    with serving() as server:
        (tmp_path / "fresh").mkdir()
        uninterrupted = start(server, docs, tmp_path / "fresh" / "out.jsonl")
        _, errors = uninterrupted.communicate(timeout=300)
        assert uninterrupted.returncode == 0, errors
        assert len(server.requests) == N_DOCUMENTS
    text = (tmp_path / "fresh" / "out.jsonl").read_text()
    assert (tmp_path / "out.jsonl").read_text() == text
    assert len(text.splitlines()) == 7 * N_DOCUMENTS
