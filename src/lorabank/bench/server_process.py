"""A server of a bank in a process of its own, started as a user starts it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import torch

from lorabank.errors import UnavailableError

_START_S = 300.0
_RUN = "from lorabank.cli.main import main; main()"  # what the command lorabank runs


@contextmanager
def served(bank: Path, *options: str, log: Path) -> Iterator[str]:
    """Serve a bank with as many threads as this process has; yield the URL when it is ready.

    Raises:
        UnavailableError: it does not start; the message has the end of its log.
    """
    command = [sys.executable, "-c", _RUN, "serve", str(bank), "--port", "0", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr, env=environment)
    try:
        yield _wait_ready(process, log)
    finally:
        process.terminate()
        process.wait()


def _wait_ready(process: "subprocess.Popen[bytes]", log: Path) -> str:
    url = ""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if '"listening"' in line:
                url = json.loads(line)["url"]
        if url and httpx2.get(f"{url}/readyz").status_code == 200:
            return url
        time.sleep(0.1)
    raise UnavailableError(f"the server did not start: {log.read_text()[-1000:]}")
