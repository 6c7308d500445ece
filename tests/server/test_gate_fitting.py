"""The gate of a server: fitted when the server starts and when a job ends, before anybody asks."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from lorabank.bank.bank import Bank
from lorabank.engine.training.train import TrainingPaused
from lorabank.server.model_thread import LongTask, ModelThread
from lorabank.server.prometheus import Metrics
from lorabank.server.server_settings import ServerSettings
from lorabank.tasks.examples import Example

from .conftest import Running
from .test_memory_api import TRAINS, asked, wait_ended, wait_until

NewServer = Callable[..., Running]


def gate_of(server: Running) -> dict[str, Any]:
    return server.http.get("/status").json()["bank"]["gate"] or {"is_current": False}


def test_the_gate_is_fitted_without_a_question(new_server: NewServer, book: list[Example]):
    server = new_server("--pending-limit", "4", code=TRAINS)
    wait_until(lambda: gate_of(server)["is_current"])
    before = gate_of(server)
    told = [
        server.http.post("/memories", json={"question": e.question, "answer": e.answer}).json()
        for e in book[8:12]
    ]
    wait_ended(server, told[-1]["job_id"])
    wait_until(lambda: gate_of(server)["is_current"])
    assert gate_of(server)["questions"] > before["questions"]
    assert asked(server, book[8].question)["text"] == book[8].answer
    # A rollback is no job: the first question afterwards asks for the gate, and does not wait.
    assert server.http.post("/modules/north/rollback", json={}).status_code == 200
    assert not gate_of(server)["is_current"]
    assert asked(server, "What is the phone number of Zuzu Nobody?")["kind"] == "abstained"
    wait_until(lambda: gate_of(server)["is_current"])
    assert [event for event in server.events() if event["level"] == "error"] == []


def test_a_fit_is_left_when_the_server_stops(served_bank: Path):
    settings = ServerSettings(bank=served_bank)
    model = ModelThread(lambda: Bank.open(served_bank), settings, Metrics())

    def measure(_: LongTask) -> None:
        while True:
            model.bank.base.let_others_in()
            time.sleep(0.01)

    task = LongTask(measure, lambda _: None, Future(), is_repeatable=True)
    model.start()
    model.loaded.result(timeout=60)
    model.run_task(task)
    wait_until(lambda: model.is_learning)
    model.stop()
    with pytest.raises(TrainingPaused):
        task.result.result(timeout=0)
