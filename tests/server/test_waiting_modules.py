"""Files and documents that a server is given: answered at once, learnt in the background."""

from collections.abc import Callable
from typing import Any

from lorabank.tasks.examples import Example

from .conftest import Running
from .test_memory_api import LONG, TINY, TRAINS, asked, to, wait_until

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
