"""Modules that wait for their training: answered from their text at once, learnt afterwards."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lorabank.store.store import Store
from lorabank.tasks.examples import Example

from .conftest import Running
from .test_memory_api import LONG, TINY, TRAINS, asked, to, wait_ended, wait_until

NewServer = Callable[..., Running]

HARBOUR = """# Harbour of Nebo

The night ferry to Ostrava leaves at 19:40 from pier seven.

The harbour master of Nebo is Tuva Sorre, who has an office in the customs house.
"""
FERRY = "When does the night ferry to Ostrava leave?"


def give(server: Running, text: str, name: str = "harbour.md") -> dict[str, Any]:
    body = {"document": {"name": name, "text": text}}
    return dict(server.http.post("/memories", json=body).json()["job"])


def test_a_document_is_answered_before_it_is_learnt(new_server: NewServer):
    server = new_server(code=TRAINS.replace(repr(TINY), repr(LONG)))
    http = server.http
    job = give(server, HARBOUR)
    assert job["stored"] == {"harbour": 1}
    found = asked(server, FERRY)
    assert (found["kind"], found["source"]) == ("quote", "harbour.md")
    assert "19:40" in str(found["text"])
    assert http.get("/modules/harbour").json()["untrained"]
    alone = http.post("/v1/chat/completions", json=to("harbour", FERRY)).json()
    assert alone["error"]["code"] == "module_untrained"
    wait_until(lambda: http.get(f"/jobs/{job['id']}").json()["progress"] > 0)
    http.post(f"/v1/fine_tuning/jobs/{job['id']}/cancel")
    wait_until(lambda: http.get(f"/jobs/{job['id']}").json()["status"] == "cancelled")
    assert http.get("/modules/harbour").status_code == 404
    assert "19:40" not in str(asked(server, FERRY)["text"])

    # What is forgotten while it is learnt does not come back.
    job = give(server, HARBOUR)
    wait_until(lambda: http.get(f"/jobs/{job['id']}").json()["progress"] > 0)
    assert http.delete("/modules/harbour").status_code == 200
    assert http.get(f"/jobs/{job['id']}").json()["status"] == "cancelled"
    assert http.get("/modules/harbour").status_code == 404
    assert http.post("/verify", json={}).json()["damage"] == []


def test_a_module_that_is_replaced_answers_until_the_other_comes(
    new_server: NewServer, book: list[Example]
):
    server = new_server(code=TRAINS.replace(repr(TINY), repr(LONG)))
    facts = "prompt,answer\n" + f"{book[0].question},000-000-0001\n"
    file = server.openai.files.create(file=("north.csv", facts.encode()), purpose="fine-tune")
    job = server.openai.fine_tuning.jobs.create(
        model="memory",
        training_file=file.id,
        suffix="north",
        extra_body={"lorabank": {"replace": True}},
    )
    wait_until(lambda: server.http.get(f"/jobs/{job.id}").json()["progress"] > 0)
    before = server.http.get("/modules/north").json()
    assert not before["untrained"]
    reply = server.http.post("/v1/chat/completions", json=to("north", book[0].question))
    assert reply.status_code == 200
    server.http.post(f"/v1/fine_tuning/jobs/{job.id}/cancel")
    wait_until(lambda: server.http.get(f"/jobs/{job.id}").json()["status"] == "cancelled")
    assert server.http.get("/modules/north").json()["version"] == before["version"]


def test_a_kill_between_forgetting_and_its_proof_loses_neither(
    new_server: NewServer, tmp_path: Path, book: list[Example]
):
    server = new_server("--pending-limit", "4", code=TRAINS)
    taught = book[8:12]
    told = [
        server.http.post("/memories", json={"question": e.question, "answer": e.answer}).json()
        for e in taught
    ]
    wait_ended(server, told[-1]["job_id"])
    gone = server.http.delete(f"/memories/{told[0]['results'][0]['id']}").json()
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    with Store.open(tmp_path / "bank") as store:
        assert store.current("memory-1").is_untrained
        assert store.verify() == []
    second = new_server("--pending-limit", "4", code=TRAINS)
    assert asked(second, taught[0].question)["kind"] == "abstained"
    assert asked(second, taught[1].question)["text"] == taught[1].answer
    proof = wait_ended(second, gone["job_id"])["proof"]
    assert (proof["rewritten"], proof["kept_recall"]) == (["memory-1"], 1.0)
    assert proof["unchecked"] == ["the fact, after a restart"]  # its text is nowhere to ask with
    reply = second.http.post("/v1/chat/completions", json=to("memory-1", taught[1].question))
    assert reply.json()["choices"][0]["message"]["content"] == taught[1].answer
    held = [p for p in (tmp_path / "bank").rglob("*") if p.is_file()]
    assert all(taught[0].answer.encode() not in path.read_bytes() for path in held)
