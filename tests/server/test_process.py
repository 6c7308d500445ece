"""The process: keys, limits, readiness, and an orderly end."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import openai
import pytest

from lorabank.bank.bank import Bank
from lorabank.cli.main import app
from lorabank.errors import DataError, UsageError
from lorabank.server.access import add_key, hash_key, read_keys
from lorabank.server.model_thread import AskOrder, ModelThread
from lorabank.server.prometheus import Metrics
from lorabank.server.refusals import RefusalError
from lorabank.server.row_writer import RowOrder
from lorabank.server.server_settings import ServerSettings
from lorabank.tasks.examples import Example

from .conftest import Running

NewServer = Callable[..., Running]


def chat(question: str, model: str = "memory") -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": question}]}


def test_keys_are_kept_as_hashes_and_made_once(tmp_path: Path):
    path = tmp_path / "keys.jsonl"
    key = add_key(path, "laptop", scopes=["ask"])
    other = add_key(path, "phone", scopes=["ask", "write"], per_minute=2)
    assert key not in path.read_text()
    assert hash_key(key) in path.read_text()
    access = read_keys(path)
    assert access.visitor(key).scopes == {"ask"}
    with pytest.raises(RefusalError, match="not known"):
        access.visitor(key + "x")
    with pytest.raises(RefusalError, match="none was given"):
        access.visitor("")
    assert [access.visitor(other).name for _ in range(2)] == ["phone", "phone"]
    with pytest.raises(RefusalError, match="2 requests in a minute") as often:
        access.visitor(other)
    assert (often.value.status, often.value.headers["retry-after"]) == (429, "30")
    with pytest.raises(UsageError, match="has a key named 'laptop'"):
        add_key(path, "laptop", scopes=["ask"])
    with pytest.raises(UsageError, match="scopes are ask, write, admin"):
        add_key(path, "tablet", scopes=["read"])
    path.write_text('{"name": "a", "sha256": "zz", "scopes": ["ask"]}\n')
    with pytest.raises(DataError, match="line 1: sha256"):
        read_keys(path)
    path.write_text("\n")
    with pytest.raises(DataError, match="no key in it"):
        read_keys(path)


def test_an_open_address_needs_keys_and_limits_are_checked(tmp_path: Path):
    with pytest.raises(UsageError, match="there are no keys"):
        ServerSettings(bank=tmp_path, host="0.0.0.0")
    with pytest.raises(UsageError, match="--max-rows must be at least 1, got 0"):
        ServerSettings(bank=tmp_path, max_rows=0)


def test_metrics_are_prometheus_text():
    metrics = Metrics()
    metrics.count("a_total", "Things.", kind='say "x"\n')
    metrics.observe("b_seconds", "Time.", 0.3, route="/x")
    metrics.gauge("c", "Now.", lambda: 2)
    lines = metrics.render().splitlines()
    assert 'a_total{kind="say \\"x\\"\\n"} 1' in lines
    assert 'b_seconds_bucket{route="/x",le="0.25"} 0' in lines
    assert 'b_seconds_bucket{route="/x",le="0.5"} 1' in lines
    assert 'b_seconds_count{route="/x"} 1' in lines
    assert "# TYPE c gauge" in lines
    assert "c 2" in lines


def test_scopes_and_limits_of_keys_hold(new_server: NewServer, tmp_path: Path, book: list[Example]):
    path = tmp_path / "keys.jsonl"
    reader = add_key(path, "reader", scopes=["ask"])
    rare = add_key(path, "rare", scopes=["ask", "write"], per_minute=1)
    server = new_server("--api-key-file", str(path), "--max-body-bytes", "4096")
    assert server.http.get("/healthz").json() == {"status": "ok"}
    for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": "wrong"}):
        reply = server.http.get("/v1/models", headers=headers)
        assert reply.status_code == 401
        assert reply.json()["error"]["code"] == "invalid_api_key"
    server.key = reader
    reply = server.openai.chat.completions.create(**chat(book[0].question))
    assert reply.choices[0].message.content == book[0].answer
    forbidden = server.http.post("/memories", json={"text": "The door code is 4217"})
    assert (forbidden.status_code, forbidden.json()["error"]["code"]) == (403, "missing_scope")
    large = server.http.post("/v1/chat/completions", json=chat("x" * 5000))
    assert (large.status_code, large.json()["error"]["code"]) == (413, "too_large")
    chunks = (b"x" * 1000 for _ in range(10))  # of a length that is not announced
    large = server.http.post("/v1/chat/completions", content=chunks)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "too_large")
    server.key = rare
    assert server.http.post("/memories", json={"text": "The door code is 4217"}).status_code == 200
    again = server.http.get("/v1/models", headers={"x-api-key": rare})
    assert again.status_code == 429
    assert int(again.headers["retry-after"]) > 1
    assert {event.get("key") for event in server.events()} >= {"reader", "rare", None}
    assert reader not in server.log.read_text()


def test_pages_elsewhere_cannot_call_a_server_without_keys(server: Running):
    foreign = {"host": "evil.example"}
    assert server.http.get("/v1/models", headers=foreign).json()["error"]["code"] == "wrong_host"
    origin = {"origin": "https://evil.example"}
    assert server.http.get("/v1/models", headers=origin).json()["error"]["code"] == "wrong_origin"
    plain = server.http.get("/v1/models")
    assert "access-control-allow-origin" not in plain.headers


def test_a_page_of_an_allowed_origin_may_call_a_server(new_server: NewServer):
    origin = {"origin": "https://notes.example"}
    server = new_server("--allow-origin", "https://notes.example")
    preflight = {**origin, "access-control-request-method": "POST"}
    reply = server.http.options("/memories", headers=preflight)
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == "https://notes.example"
    assert "POST" in reply.headers["access-control-allow-methods"]
    listed = server.http.get("/v1/models", headers=origin)
    assert (listed.status_code, listed.headers["access-control-allow-origin"]) == (
        200,
        "https://notes.example",
    )
    other = server.http.get("/v1/models", headers={"origin": "https://evil.example"})
    assert other.json()["error"]["code"] == "wrong_origin"
    assert "access-control-allow-origin" not in other.headers


def test_sixteen_clients_are_each_answered_by_their_own_module(
    server: Running, book: list[Example]
):
    replies: dict[int, str] = {}

    def ask(client: int) -> None:
        body = chat(book[client % 8].question, "north" if client % 8 < 4 else "south")
        reply = server.http.post("/v1/chat/completions", json={**body, "max_tokens": 24})
        replies[client] = reply.json()["choices"][0]["message"]["content"]

    clients = [threading.Thread(target=ask, args=(n,)) for n in range(16)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert replies == {n: book[n % 8].answer for n in range(16)}


def test_sigterm_lets_answers_end_and_leaves_a_whole_bank(
    new_server: NewServer, tmp_path: Path, book: list[Example]
):
    server = new_server()
    stream = server.openai.chat.completions.create(
        **chat("Tell me of Nebo", "tiny"), max_tokens=300, stream=True, temperature=1.0, seed=1
    )
    pieces = [next(stream)]
    server.process.send_signal(signal.SIGTERM)
    pieces += list(stream)
    assert pieces[-1].choices[0].finish_reason in ("length", "stop")
    assert server.process.wait(timeout=30) == 0
    assert server.events()[-1]["event"] == "stopped"
    command = [sys.executable, "-c", "from lorabank.cli.main import main; main()"]
    command += ["verify", "--bank", str(tmp_path / "bank"), "--json"]
    verified = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(verified.stdout)["damage"] == []


def test_a_busy_server_says_so_and_a_stopped_client_frees_its_row(
    new_server: NewServer, book: list[Example]
):
    server = new_server("--max-waiting", "2", "--max-rows", "1")
    client = server.openai
    options = {"max_tokens": 1000, "temperature": 2.0, "stream": True}
    streams = []

    def open_streams() -> None:
        for seed in range(8):
            stream = client.chat.completions.create(**chat("Who?", "tiny"), seed=seed, **options)
            streams.append(stream)

    with pytest.raises(openai.RateLimitError) as busy:
        open_streams()
    assert busy.value.code == "busy"
    for stream in streams:
        stream.close()
    deadline = time.monotonic() + 30
    while not {"lorabank_waiting 0", "lorabank_rows 0"} <= set(
        server.http.get("/metrics").text.splitlines()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    reply = client.chat.completions.create(**chat(book[0].question))
    assert reply.choices[0].message.content == book[0].answer


def test_what_a_client_has_gone_away_from_keeps_nobody_out(tmp_path: Path):
    settings = ServerSettings(bank=tmp_path, max_waiting=2)
    model = ModelThread(lambda: Bank.open(tmp_path), settings, Metrics())  # which never starts
    question = model.ask(AskOrder("Who?"))
    row = RowOrder((1, 2), listener=lambda token: True)
    model.write_row(row)
    with pytest.raises(RefusalError, match="2 requests wait for the model, of at most 2"):
        model.ask(AskOrder("Where?"))
    question.cancel()
    assert model.waiting == 1
    model.cancel_row(row)
    assert model.waiting == 0
    model.ask(AskOrder("Where?"))


def test_a_bank_that_is_none_is_told_at_once(tmp_path: Path):
    command = [sys.executable, "-c", "from lorabank.cli.main import main; main()", "serve"]
    failed = subprocess.run(
        [*command, str(tmp_path / "none")], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 2
    assert "error:" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_slow_and_half_requests_do_not_hold_the_server(server: Running, book: list[Example]):
    import socket
    from urllib.parse import urlsplit

    address = urlsplit(server.url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as half:
        half.sendall(b"POST /search HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
        results: list[httpx2.Response] = []
        asking = threading.Thread(
            target=lambda: results.append(server.http.post("/search", json={"query": "Kimu"}))
        )
        asking.start()
        asking.join(timeout=30)
        assert results
        assert results[0].status_code == 200


def test_the_commands_are_there():
    names = {command.name for command in app.registered_commands}
    assert {"serve", "key"} <= names
