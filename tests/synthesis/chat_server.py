"""A server of chat completions with a simple model in it, which can be made to misbehave.

The model reads sentences of the form `The <thing> of <name> is <value>.` in its prompt and writes a
question about each. If the prompt says which sentences to ask about, it asks about those alone.
Each of the `faults` replaces one answer, beginning with the first.
"""

import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FACT = re.compile(r"The (\w+) of (\w+) is (\w+)\.")
Body = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """A response that the server gives in place of the model's reply."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    text: str | None = None
    """Raw body; None for a chat reply."""
    content: str | None = None
    """Text of the chat reply; None for the model's."""
    finish: str = "stop"
    refusal: str | None = None
    wait_s: float = 0.0


@dataclass
class Server:
    """A running server and the requests it has received."""

    url: str
    faults: deque[Fault]
    write: Callable[[Body], str]
    """The model: returns the text of a reply to a request."""
    requests: list[Body] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    most_at_once: int = 0
    at_once: int = 0
    delay_s: float = 0.0
    meeting: threading.Barrier | None = None
    """If set, requests wait for each other here before they are answered."""
    lock: threading.Lock = field(default_factory=threading.Lock)


def write_questions(body: Body) -> str:
    """Return questions about the facts in the prompt, as many as it wants, in JSON."""
    prompt = body["messages"][-1]["content"]
    n = int(re.search(r"exactly (\d+)", prompt)[1])  # type: ignore[index]
    _, _, focus = prompt.partition("Ask about these sentences:")
    earlier_questions = prompt.partition("These are asked already")[2]
    focus = focus.partition("\n\n")[0]
    items = [
        {"question": f"What is the {thing} of {name}?", "answer": value}
        for thing, name, value in FACT.findall(focus or prompt.partition("Write exactly")[0])
        if f"What is the {thing} of {name}?" not in earlier_questions
    ]
    return json.dumps({"items": items[:n]})


@contextmanager
def serving(
    faults: Iterable[Fault] = (),
    write: Callable[[Body], str] = write_questions,
    *,
    delay_s: float = 0.0,
    port: int = 0,
) -> Iterator[Server]:
    """Yield a server that runs until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                server.requests.append(body)
                server.keys.append(self.headers.get("Authorization"))
                server.paths.append(self.path)
                server.times.append(time.monotonic())
                server.at_once += 1
                server.most_at_once = max(server.most_at_once, server.at_once)
                fault = server.faults.popleft() if server.faults else Fault()
            stop.wait(fault.wait_s or server.delay_s)
            if server.meeting:
                server.meeting.wait(60)
            with server.lock:
                server.at_once -= 1
            self.answer(fault, body)

        def answer(self, fault: Fault, body: Body) -> None:
            raw = fault.text
            if raw is None:
                content = fault.content if fault.content is not None else server.write(body)
                message = {"role": "assistant", "content": content}
                if fault.refusal:
                    message = {"role": "assistant", "content": None, "refusal": fault.refusal}  # type: ignore[dict-item]
                usage = {"prompt_tokens": 100, "completion_tokens": 10}
                choice = {"index": 0, "message": message, "finish_reason": fault.finish}
                raw = json.dumps({"choices": [choice], "usage": usage})
            try:
                self.send_response(fault.status)
                for name, value in fault.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(raw.encode())))
                self.end_headers()
                self.wfile.write(raw.encode())
            except OSError:
                pass  # the client has given up waiting

        def log_message(self, *_: object) -> None:
            pass

    stop = threading.Event()
    http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    http.daemon_threads = True
    server = Server(
        f"http://127.0.0.1:{http.server_port}/v1", deque(faults), write, delay_s=delay_s
    )
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        stop.set()
        http.shutdown()
        thread.join()
        http.server_close()


def echo(body: Body) -> str:
    """Reply "Said 1" to "Say 1"."""
    return str(body["messages"][-1]["content"]).replace("Say", "Said")
