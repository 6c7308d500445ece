"""A server in a process of its own, on a bank of two small phone books and the tiny model."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra lorabank[server]")
pytest.importorskip("openai", reason="the client that the server is tested with")

import httpx2
import openai

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import draft_from_examples
from lorabank.engine.backbone.base import load_info
from lorabank.engine.models.registry import find_model
from lorabank.engine.settings import TrainSettings
from lorabank.tasks.examples import Example
from lorabank.tasks.synthetic import phonebook

TINY = TrainSettings(
    r=4, alpha=8.0, layers=None, lr=1e-2, exposures=200, wordings=0, protect_share=0.0
)
_START_S = 90


@dataclass
class Running:
    """A server that runs, and clients of it."""

    process: subprocess.Popen[str]
    url: str
    log: Path
    key: str = ""
    closing: list[Any] = field(default_factory=list)

    @property
    def http(self) -> httpx2.Client:
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        client = httpx2.Client(base_url=self.url, headers=headers, timeout=60)
        self.closing.append(client)
        return client

    @property
    def openai(self) -> openai.OpenAI:
        client = openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=self.key or "none", max_retries=0, timeout=60
        )
        self.closing.append(client)
        return client

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def request_entry(self, number: str) -> dict[str, Any]:
        """Return what the log says of a request; it is written once the reply is on its way."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for line in self.log.read_text().split("\n")[:-1]:
                if (entry := json.loads(line)).get("id") == number:
                    return dict(entry)
            time.sleep(0.05)
        raise AssertionError(f"the log has no request {number}")

    def close(self) -> None:
        for client in self.closing:
            client.close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.close()
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


def start(bank: Path, *options: str, log: Path, code: str = "") -> Running:
    """Start a server and wait until it listens.

    Args:
        code: Python that runs it in place of the command.
    """
    command = [sys.executable, "-c", code or "from lorabank.cli.main import main; main()"]
    command += ["serve", str(bank), "--port", "0", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr, text=True, env=environment)
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if '"listening"' in line:
                return Running(process, json.loads(line)["url"], log)
        time.sleep(0.05)
    raise AssertionError(f"the server did not start: {log.read_text()}")


def wait_ready(server: Running) -> Running:
    deadline = time.monotonic() + _START_S
    while server.http.get("/readyz").status_code != 200:
        assert server.process.poll() is None, server.log.read_text()
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.1)
    return server


@pytest.fixture(scope="session")
def book() -> list[Example]:
    return phonebook.to_examples(phonebook.build(24, seed=7))


@pytest.fixture(scope="session")
def served_bank(
    tiny_folder: Path, book: list[Example], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bank written once, in which `north` has two versions; copy it before changing it."""
    base = load_info(find_model(str(tiny_folder)), dtype="float32", device="cpu")
    path = tmp_path_factory.mktemp("banks") / "served"
    with Bank.create(path, base=base) as bank:
        other = [(book[0].question, "000-000-0000"), *[(e.question, e.answer) for e in book[1:4]]]
        bank.write("north", other, settings=TINY)
        drafts = [
            draft_from_examples(name, book[4 * i : 4 * i + 4], source=f"{name}.csv")
            for i, name in enumerate(("north", "south"))
        ]
        bank.write_all(drafts[1:], settings=TINY)
        bank.write_all(drafts[:1], settings=TINY, replace=True)
    return path


@pytest.fixture(scope="module")
def server(served_bank: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server for the tests of a file, on a bank of its own."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copytree(served_bank, folder / "bank")
    running = wait_ready(start(folder / "bank", "--pending-limit", "0", log=folder / "log"))
    yield running
    running.stop()


@pytest.fixture
def new_server(served_bank: Path, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start servers on one bank of this test's own; those left are stopped."""
    shutil.copytree(served_bank, tmp_path / "bank")
    servers: list[Running] = []

    def make(*options: str, code: str = "") -> Running:
        log = tmp_path / f"log{len(servers)}"
        servers.append(start(tmp_path / "bank", *options, log=log, code=code))
        return wait_ready(servers[-1])

    yield make
    for running in servers:
        running.close()
        if running.process.poll() is None:
            running.stop(signal.SIGKILL)
