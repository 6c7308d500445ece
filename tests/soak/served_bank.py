"""A bank with modules of two versions, and a server process on it that can be killed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx2

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import draft_from_examples
from lorabank.engine.backbone.base import Base
from lorabank.engine.settings import TrainSettings
from lorabank.server.access import add_key
from lorabank.store.store import Store
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.synthetic import phonebook

SETTINGS = TrainSettings(
    r=4, alpha=8.0, layers=None, lr=1e-2, exposures=200, wordings=0, protect_share=0.0
)
CHANGING, STEADY = "north", "south"
"""A module that is replaced and rolled back under load, and one that stays."""
_BOOK = phonebook.to_examples(phonebook.build(8, seed=7))
_START_S = 120
_RUN = (  # the command, with settings under which the tiny model learns
    "from dataclasses import replace\n"
    "import lorabank.cli.serve\n"
    "from lorabank.engine.settings import TrainSettings\n"
    "from lorabank.server import run_server\n"
    f"settings = {SETTINGS!r}\n"
    "run = run_server.run_server\n"
    "run_server.run_server = lambda s: run(replace(s, train_settings=settings))\n"
    "from lorabank.cli.main import main; main()\n"
)


def facts_of(source: str) -> list[Example]:
    """Return the facts of a file by its name: those of `a…` and of `b…` answer differently."""
    if source.startswith("south"):
        return _BOOK[4:]
    own = _BOOK[:4]
    if source.startswith("a"):
        return own
    return [from_pair(e.question, e.answer[::-1]) for e in own]


def make_served_bank(path: Path, base: Base) -> None:
    """Write a bank of two modules, of which one has two versions."""
    Bank.create(path, base=base).close()
    with Bank(Store.open(path), base, embeds=False) as bank:
        for name, source in ((CHANGING, "a0.csv"), (STEADY, "south.csv"), (CHANGING, "b0.csv")):
            draft = draft_from_examples(name, facts_of(source), source=source)
            bank.write_all([draft], settings=SETTINGS, replace=True)


class ServerProcess:
    """A server that runs, with the key of its only user."""

    def __init__(self, bank: Path, *options: str, log: Path):
        """Start it and wait until it is ready.

        Raises:
            RuntimeError: it does not start; the message has the end of its log.
        """
        keys = log.with_name("keys.jsonl")
        if not keys.exists():
            key = add_key(keys, "soak", scopes=["ask", "write", "admin"])
            log.with_name("key").write_text(key)
        self.key = log.with_name("key").read_text()
        command = [sys.executable, "-c", _RUN, "serve", str(bank), "--port", "0", *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.log = log
        with log.open("a") as stderr:
            self._from = stderr.tell()
            self.process = subprocess.Popen(
                [*command, "--api-key-file", str(keys)], stderr=stderr, env=environment
            )
        self.url = self._wait_ready()

    def _wait_ready(self) -> str:
        url, deadline = "", time.monotonic() + _START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in self.log.read_text()[self._from :].splitlines():
                if '"listening"' in line:
                    url = str(json.loads(line)["url"])
            if url and httpx2.get(f"{url}/readyz").status_code == 200:
                return url
            time.sleep(0.1)
        raise RuntimeError(f"the server did not start: {self.log.read_text()[-2000:]}")

    def client(self) -> httpx2.Client:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=180)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Stop it as a service is stopped; return its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=180)
