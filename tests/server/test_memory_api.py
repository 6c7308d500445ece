"""The memory API of a running server: remembered at once, learnt later, never lost."""

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorabank.bank.fact_book import FactBook
from lorabank.store.store import Store
from lorabank.tasks.examples import Example

from .conftest import TINY, Running

NewServer = Callable[..., Running]
KIMU = "What is the phone number of Kimu Vale?"
LONG = replace(TINY, exposures=2000, until_recall=None)
TRAINS = (  # the command, with settings under which the tiny model learns
    "import lorabank.cli.serve as serve\n"
    "from dataclasses import replace\n"
    "from lorabank.engine.settings import TrainSettings\n"
    "from lorabank.server import run_server, server_settings\n"
    f"settings = {TINY!r}\n"
    "run = run_server.run_server\n"
    "run_server.run_server = lambda s: run(replace(s, train_settings=settings))\n"
    "from lorabank.cli.main import main; main()\n"
)


def asked(server: Running, question: str) -> dict[str, object]:
    body = {"model": "memory", "messages": [{"role": "user", "content": question}]}
    reply = server.http.post("/v1/chat/completions", json=body).json()
    return {**reply["lorabank"], "text": reply["choices"][0]["message"]["content"]}


def wait_until(is_true: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_memory_from_its_beginning_to_its_end(new_server: NewServer):
    server = new_server("--pending-limit", "0")
    http = server.http
    told = http.post(
        "/memories",
        json={"text": "The phone number of Kimu Vale is 519-017-5311", "valid_at": "2026-01-15"},
    ).json()
    (result,) = told["results"]
    assert (result["event"], result["question"]) == ("ADD", KIMU)
    assert asked(server, "kimu vale phone number")["text"] == "519-017-5311"
    name = result["id"]
    changed = http.put(f"/memories/{name}", json={"answer": "347-555-0182"}).json()
    assert (changed["id"], changed["answer"], changed["state"]) == (name, "347-555-0182", "pending")
    assert asked(server, KIMU)["text"] == "347-555-0182"
    history = http.get(f"/memories/{name}/history").json()
    assert [entry["event"] for entry in history] == ["ADD", "UPDATE"]
    assert history[1]["old_memory"] == f"{KIMU} 519-017-5311"
    found = http.post("/search", json={"query": "Kimu Vale phone", "top_k": 1}).json()["results"]
    assert (found[0]["id"], found[0]["answer"]) == (name, "347-555-0182")
    past = http.post("/search", json={"query": KIMU, "top_k": 1, "as_of": "2026-02-01"}).json()[
        "results"
    ]
    assert past[0]["answer"] == "519-017-5311"
    assert http.get("/memories", params={"q": "vale"}).json()["total"] == 1
    gone = http.delete(f"/memories/{name}").json()
    assert gone["trained_again"] == []
    assert wait_ended(server, gone["job_id"])["proof"]["remaining"] == []
    assert http.get(f"/memories/{name}").status_code == 404
    assert asked(server, KIMU)["text"] != "347-555-0182"


def wait_ended(server: Running, job: str) -> dict[str, Any]:
    http = server.http
    wait_until(lambda: http.get(f"/jobs/{job}").json()["finished_at"] is not None, 240)
    ended = http.get(f"/jobs/{job}").json()
    assert ended["status"] == "succeeded", ended
    return dict(ended)


def test_a_taught_fact_is_gone_at_once_and_its_module_trained_again_while_others_learn(
    new_server: NewServer, book: list[Example]
):
    long = TRAINS.replace(repr(TINY), repr(replace(TINY, exposures=400, until_recall=None)))
    server = new_server("--pending-limit", "4", code=long)
    http = server.http
    taught = book[8:12]
    told = [
        http.post("/memories", json={"question": e.question, "answer": e.answer}).json()
        for e in taught
    ]
    wait_ended(server, told[-1]["job_id"])
    busy = [  # another training is running
        http.post("/memories", json={"question": e.question, "answer": e.answer}).json()
        for e in book[12:16]
    ]
    wait_until(lambda: http.get(f"/jobs/{busy[-1]['job_id']}").json()["progress"] > 0)
    name = told[0]["results"][0]["id"]
    started = time.monotonic()
    gone = http.delete(f"/memories/{name}").json()
    assert time.monotonic() - started < 10
    assert http.get(f"/jobs/{busy[-1]['job_id']}").json()["finished_at"] is None
    # Neither text nor weights answer it; the module's other facts are answered as text.
    assert http.get(f"/memories/{name}").status_code == 404
    for model in ("memory", "memory:adapter", "memory:exact"):
        reply = http.post("/v1/chat/completions", json=to(model, taught[0].question)).json()
        assert reply["lorabank"]["kind"] != "example"
        assert reply["choices"][0]["message"]["content"] != taught[0].answer
    assert asked(server, taught[1].question)["text"] == taught[1].answer
    assert gone["trained_again"] == ["memory-1"]
    alone = http.post("/v1/chat/completions", json=to("memory-1", taught[0].question))
    assert (alone.status_code, alone.json()["error"]["code"]) == (503, "module_untrained")
    cancelled = http.post(f"/v1/fine_tuning/jobs/{gone['job_id']}/cancel")
    assert cancelled.json()["error"]["code"] == "job_is_needed"
    # The other training is not disturbed; then the module is trained again and the proof made.
    wait_ended(server, busy[-1]["job_id"])
    proof = wait_ended(server, gone["job_id"])["proof"]
    assert (proof["recall_before"], proof["recall_after"], proof["kept_recall"]) == (1.0, 0.0, 1.0)
    assert (proof["rewritten"], proof["remaining"], proof["unchecked"]) == (["memory-1"], [], [])
    assert taught[0].answer not in str(http.get(f"/jobs/{gone['job_id']}").json())
    (entry,) = http.get(f"/memories/{name}/history").json()
    assert (entry["event"], entry["proof"]) == ("DELETE", proof)
    reply = http.post("/v1/chat/completions", json=to("memory-1", taught[1].question)).json()
    assert reply["choices"][0]["message"]["content"] == taught[1].answer
    assert http.post("/verify", json={"recall": True}).json()["damage"] == []


def to(model: str, question: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": question}]}


def test_conversations_pairs_and_lists_are_remembered(server: Running):
    http = server.http
    turns = [
        {
            "role": "user",
            "content": "Hello there! The door code is 4217. Odd Sunde lives in Mosstead.",
        },
        {"role": "assistant", "content": "The sky is green."},
    ]
    told = http.post("/memories", json={"messages": turns}).json()
    assert {(r["question"], r["answer"]) for r in told["results"]} == {
        ("What is the door code?", "4217"),
        ("Where does Odd Sunde live?", "Mosstead"),
    }
    assert [refused["sentence"] for refused in told["not_understood"]] == ["Hello there!"]
    pairs = [
        {"question": "Who keeps the lighthouse at Nebo?", "answer": "Tuva Sorre"},
        "The gate code is 1234",
    ]
    told = http.post("/memories", json={"facts": pairs}).json()
    assert [r["event"] for r in told["results"]] == ["ADD", "ADD"]
    again = http.post("/memories", json=pairs[0]).json()
    assert again["results"][0]["event"] == "NONE"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "give one of text"),
        ({"text": "Hello"}, "no rule makes a question"),
        ({"question": "Who?"}, "give both"),
        ({"text": "The code is 4", "user_id": "ann"}, "memory of one owner"),
        ({"text": "The code is 4", "txt": 1}, "no field of this body"),
        ({"text": "The code is 4", "valid_at": "tomorrow"}, "must be a date"),
        ({"facts": [{"question": "Who?"}]}, "required"),
    ],
)
def test_what_cannot_be_remembered_is_refused(server: Running, body: dict, says: str):
    reply = server.http.post("/memories", json=body)
    assert reply.status_code == 400
    assert says.casefold() in reply.json()["error"]["message"].casefold()


def test_modules_versions_rollback_and_verify(new_server: NewServer, book: list[Example]):
    http = (server := new_server()).http
    modules = {m["name"]: m for m in http.get("/modules").json()["results"]}
    assert modules["north"]["recall"] == 1.0
    assert modules["north"]["version"] == 2
    north = {"model": "north", "messages": [{"role": "user", "content": book[0].question}]}

    def says() -> str:
        reply = http.post("/v1/chat/completions", json=north).json()
        return str(reply["choices"][0]["message"]["content"])

    # Slots and caches know weights by their hash: after each change the other version answers.
    assert says() == book[0].answer
    assert http.post("/modules/north/rollback", json={}).json()["version"] == 1
    assert says() == "000-000-0000"
    assert asked(server, book[0].question)["version"] == 1
    assert http.post("/modules/north/rollback", json={"version": 2}).json()["version"] == 2
    assert says() == book[0].answer
    assert asked(server, book[0].question)["text"] == book[0].answer
    assert [v["version"] for v in http.get("/modules/north").json()["versions"]] == [1, 2]
    examples = http.get("/modules/south/examples").json()["results"]
    assert {e["answer"] for e in examples} == {e.answer for e in book[4:8]}
    verified = http.post("/verify", json={"recall": True}).json()
    assert verified["damage"] == []
    assert verified["recall"]["south"]["template"] == 1.0
    proof = http.delete("/modules/south").json()["proof"]
    assert (proof["recall_before"], proof["recall_after"]) == (1.0, 0.0)
    assert http.get("/modules/south").status_code == 404
    unknown = http.post("/v1/chat/completions", json={**north, "model": "south"})
    assert unknown.json()["error"]["code"] == "model_not_found"


def test_pending_facts_are_learnt_in_the_background_while_questions_are_answered(
    new_server: NewServer, book: list[Example]
):
    server = new_server("--pending-limit", "4", code=TRAINS)
    http = server.http
    told = [
        http.post("/memories", json={"question": e.question, "answer": e.answer}).json()
        for e in book[8:12]
    ]
    assert told[-1]["job_id"]
    waits: list[float] = []

    def is_done() -> bool:
        started = time.monotonic()
        answer = asked(server, book[0].question)
        waits.append(time.monotonic() - started)
        assert (answer["text"], answer["module"], answer["version"]) == (
            book[0].answer,
            "north",
            2,
        )
        return bool(http.get(f"/jobs/{told[-1]['job_id']}").json()["status"] == "succeeded")

    wait_until(is_done)
    assert len(waits) > 2
    job = http.get(f"/jobs/{told[-1]['job_id']}").json()
    assert job["versions"] == ["memory-1@1"]
    assert job["reports"][0]["recall"] == 1.0
    assert "4 of 4 facts stuck" in job["events"][-2]["message"]
    memory = http.get(f"/memories/{told[0]['results'][0]['id']}").json()
    assert (memory["state"], memory["module"]) == ("learnt", "memory-1")
    # Visible without a restart, by itself too.
    reply = server.openai.chat.completions.create(
        model="memory-1", messages=[{"role": "user", "content": book[8].question}]
    )
    assert reply.choices[0].message.content == book[8].answer


def test_a_module_is_written_while_answers_are_always_being_written(
    new_server: NewServer, book: list[Example]
):
    server = new_server("--pending-limit", "0", code=TRAINS)
    over, statuses = threading.Event(), []

    def ask_on() -> None:
        http = server.http
        body = {"model": "north", "messages": [{"role": "user", "content": book[0].question}]}
        while not over.is_set():
            reply = http.post(
                "/v1/chat/completions", json={**body, "max_tokens": 100, "ignore_eos": True}
            )
            statuses.append(reply.status_code)

    clients = [threading.Thread(target=ask_on) for _ in range(6)]
    for client in clients:
        client.start()
    lines = "".join(f"{e.question},{e.answer}\n" for e in book[16:18])
    file = server.openai.files.create(
        file=("west.csv", f"prompt,answer\n{lines}".encode()), purpose="fine-tune"
    )
    body = {"model": "memory", "training_file": file.id, "suffix": "west"}
    job = server.http.post("/v1/fine_tuning/jobs", json=body).json()
    try:
        wait_until(
            lambda: server.http.get(f"/jobs/{job['id']}").json()["status"] == "succeeded", 240
        )
    finally:
        over.set()
        for client in clients:
            client.join()
    assert set(statuses) == {200}


def test_a_file_is_taught_as_a_tuning_job(new_server: NewServer, book: list[Example]):
    server = new_server("--pending-limit", "0", code=TRAINS)
    client = server.openai
    lines = "".join(f"{e.question},{e.answer}\n" for e in book[12:16])
    body = ("east.csv", f"prompt,answer\n{lines}".encode())
    file = client.files.create(file=body, purpose="fine-tune")
    assert client.files.retrieve(file.id).filename == "east.csv"
    assert client.files.content(file.id).content == body[1]
    job = client.fine_tuning.jobs.create(model="memory", training_file=file.id, suffix="east")
    assert job.status in ("queued", "running")
    wait_until(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "succeeded")
    done = client.fine_tuning.jobs.retrieve(job.id)
    assert done.fine_tuned_model == "east@2"  # the first is its text
    events = [event.message for event in client.fine_tuning.jobs.list_events(job.id)]
    assert events[0] == "done"
    assert events[-1] == "queued"
    assert asked(server, book[13].question)["module"] == "east"
    assert [j.id for j in client.fine_tuning.jobs.list()] == [job.id]
    again = server.http.post(
        "/v1/fine_tuning/jobs",
        json={"model": "memory", "training_file": file.id, "suffix": "east"},
    )
    assert again.status_code == 400
    assert "exists" in again.json()["error"]["message"]
    bad = server.http.post(
        "/v1/files", files={"file": ("../../x.exe", b"x")}, data={"purpose": "fine-tune"}
    )
    assert "must be facts" in bad.json()["error"]["message"]
    faulty = client.files.create(file=("f.csv", b"prompt,answer\nWho?,\n"), purpose="fine-tune")
    refused = server.http.post(
        "/v1/fine_tuning/jobs", json={"model": "memory", "training_file": faulty.id}
    )
    assert "f.csv, line 2" in refused.json()["error"]["message"]
    assert client.files.delete(file.id).deleted
    found = server.http.post("/v1/vector_stores/memory/search", json={"query": "Kimu Gugu"}).json()
    assert found["data"][0]["content"][0]["text"]


def test_every_acknowledged_memory_is_there_after_a_kill(
    new_server: NewServer, tmp_path: Path, book: list[Example]
):
    server = new_server("--pending-limit", "3", code=TRAINS)
    acknowledged: list[str] = []

    def remember(writer: int) -> None:
        http = server.http
        for i in range(1000):
            answer = f"{writer:03}-{i:04}"
            body = {"question": f"What is the code of room {writer}-{i}?", "answer": answer}
            try:
                if http.post("/memories", json=body).status_code == 200:
                    acknowledged.append(answer)
            except Exception:  # the server is killed
                return

    writers = [threading.Thread(target=remember, args=(n,)) for n in range(3)]
    for writer in writers:
        writer.start()
    wait_until(lambda: len(acknowledged) >= 12)
    time.sleep(2)
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    for writer in writers:
        writer.join()
    with Store.open(tmp_path / "bank") as store:
        held = {fact.answer for fact in FactBook(store.facts()).current}
        assert set(acknowledged) <= held
        assert store.verify() == []
    second = new_server("--pending-limit", "0", code=TRAINS)
    assert asked(second, "What is the code of room 1-0?")["text"] == "001-0000"


def test_a_stop_in_the_middle_of_learning_is_gone_on_from(
    new_server: NewServer, book: list[Example]
):
    code = TRAINS.replace(repr(TINY), repr(LONG))
    server = new_server("--pending-limit", "4", code=code)
    for example in book[8:12]:
        body = {"question": example.question, "answer": example.answer}
        server.http.post("/memories", json=body)

    def progress(running: Running) -> float:
        return float(running.http.get("/jobs").json()["results"][0]["progress"])

    wait_until(lambda: progress(server) > 0.05)
    reached = progress(server)
    assert server.stop() == 0
    second = new_server("--pending-limit", "4", code=code)
    name = second.http.get("/jobs").json()["results"][0]["id"]
    events = second.http.get(f"/jobs/{name}").json()["events"]
    assert "paused: the server stops" in [event["message"] for event in events]
    seen: list[float] = []

    def is_going_on() -> bool:
        seen.append(float(second.http.get(f"/jobs/{name}").json()["progress"]))
        return seen[-1] > reached

    wait_until(is_going_on)
    assert min(share for share in seen if share) >= reached  # not from the beginning
    assert second.stop() == 0
