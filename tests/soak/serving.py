"""A server under mixed load, killed in the middle of it and started again, round after round."""

import threading
import time
from pathlib import Path
from statistics import median

import httpx2

from lorabank.engine.backbone.base import Base

from .served_bank import ServerProcess, make_served_bank
from .served_clients import MAX_BODY_BYTES, Client
from .served_truth import Truth
from .tally import Tally
from .workplace import run_trial

_OPTIONS = ("--pending-limit", "6", "--max-body-bytes", str(MAX_BODY_BYTES), "--max-rows", "6")
_LONGEST_ROUND_S = 1200.0
_WARM_UP_SHARE = 0.4  # of a round, before its memory is looked at
_SHORTEST_JUDGED_S = 240.0  # of a round whose memory is judged
_MOST_GROWTH = 1.05
_SAMPLE_S = 2.0
_END_S = 200.0  # until the clients of a killed server have noticed


def run(place: Path, base: Base, *, clients: int, seconds: float, seed: int) -> Tally:
    """Load a server for some time; every round ends with a kill, the last with an orderly stop."""
    folder = place / "serving"
    folder.mkdir()
    run_trial(lambda: make_served_bank(folder / "bank", base))
    truth = Truth(Tally("serving"))
    n_rounds = max(2, round(seconds / _LONGEST_ROUND_S) + 1)
    lengths = [0.8 * seconds / (n_rounds - 1)] * (n_rounds - 1) + [0.2 * seconds]
    for number, length in enumerate(lengths):
        server = ServerProcess(folder / "bank", *_OPTIONS, log=folder / "log")
        try:
            with server.client() as http:
                truth.learn_versions(http)
                truth.judge_kept(http.get("/memories", params={"limit": 1000}).json()["results"])
            is_last = number == len(lengths) - 1
            _load(server, truth, clients, length, f"{seed}/{number}", is_killed=not is_last)
        finally:
            server.kill()
    if '"level": "error"' in (log := (folder / "log").read_text()):
        lines = [line for line in log.splitlines() if '"level": "error"' in line]
        truth.fault(f"{len(lines)} errors in the log, the first {lines[0][:2000]}")
    return truth.tally


def _load(
    server: ServerProcess, truth: Truth, n: int, seconds: float, seed: str, *, is_killed: bool
) -> None:
    """Let clients do what they do for a while, and end the server one way or the other."""
    clients = [Client(number, server, truth, seed) for number in range(n)]
    for client in clients:
        client.start()
    memory = _watch_memory(server, truth, seconds)
    if is_killed:
        for client in clients:
            client.is_killing = True
        server.kill()
    for client in clients:
        client.over.set()
    for client in clients:
        client.join(timeout=_END_S)
        if client.is_alive():
            truth.fault(f"{client.name} waits for ever")
    if not is_killed:
        with server.client() as http:
            truth.learn_versions(http)
            for version, question, text in truth.unjudged:
                truth.fault(f"version {version} is not listed, and gave {text!r} for {question}")
        started = time.monotonic()
        if code := server.stop():
            truth.fault(f"the server stopped with {code}")
        truth.count("stop", "clean" if time.monotonic() - started < _END_S else "slow")
    _judge_memory(truth, memory, seconds)


def _watch_memory(server: ServerProcess, truth: Truth, seconds: float) -> list[float]:
    """Return the server's memory as it was in the course of some time."""
    samples: list[float] = []
    ends = time.monotonic() + seconds
    waiting = threading.Event()
    with server.client() as http:
        while time.monotonic() < ends:
            try:
                lines = http.get("/metrics").text.splitlines()
            except httpx2.HTTPError as error:
                truth.fault(f"metrics: {error!r}; exit code {server.process.poll()}")
                return samples
            values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
            samples.append(float(values["lorabank_rss_bytes"]))
            waiting.wait(_SAMPLE_S)
    return samples


def _judge_memory(truth: Truth, samples: list[float], seconds: float) -> None:
    if seconds < _SHORTEST_JUDGED_S or len(samples) < 20:
        return
    warm = samples[int(_WARM_UP_SHARE * len(samples)) :]
    fifth = len(warm) // 5
    growth = median(warm[-fifth:]) / median(warm[:fifth])
    truth.count("memory", "flat" if growth <= _MOST_GROWTH else "grows")
    print(f"serving: memory {median(warm[:fifth]) / 1e6:.0f} MB after warm-up, times {growth:.3f}")
    if growth > _MOST_GROWTH:
        truth.fault(f"memory grows {growth:.3f} times after warm-up, to {warm[-1] / 1e6:.0f} MB")
