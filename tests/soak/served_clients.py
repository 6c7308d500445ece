"""Clients of a server that ask, write, replace, forget, leave early and send nonsense by a seed."""

import json
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx2

from .served_bank import CHANGING, STEADY, ServerProcess, facts_of
from .served_truth import Memory, Truth

MAX_BODY_BYTES = 20_000
_MOST_MEMORIES = 8  # of a client
_WEIGHTS = {
    "ask": 24,
    "ask module": 18,
    "ask version": 8,
    "remember": 12,
    "change": 8,
    "forget": 1,
    "cancel": 6,
    "nonsense": 10,
    "oversized": 4,
    "wrong key": 4,
    "search": 4,
    "list": 4,
    "replace": 1,
    "roll back": 2,
}
_NONSENSE: list[tuple[str, str, Any]] = [
    ("POST", "/v1/chat/completions", "{"),
    ("POST", "/v1/chat/completions", "[" * 5000),
    ("POST", "/v1/chat/completions", {"model": "nort", "messages": [{"role": "user"}]}),
    ("POST", "/v1/chat/completions", {"model": "memory", "messages": []}),
    ("POST", "/v1/completions", {"model": "tiny", "prompt": [10**9]}),
    ("POST", "/v1/completions", {"model": "model", "prompt": "x", "max_tokens": 10**9}),
    ("POST", "/v1/completions", {"model": "model", "prompt": []}),
    ("POST", "/v1/embeddings", {"model": "x", "input": 1}),
    ("POST", "/memories", {"text": "\ud800 lives in Nebo"}),
    ("POST", "/memories", {"text": "", "question": 1}),
    ("POST", "/memories", {"document": {"name": "../../x.md", "text": "\x00"}}),
    ("PUT", "/memories/mem-0", {"answer": "x"}),
    ("DELETE", "/memories/..%2f..%2fbank", None),
    ("POST", "/search", {"query": "x", "top_k": -1}),
    ("POST", "/search", {"query": "x", "as_of": "yesterday"}),
    ("POST", "/modules/north/rollback", {"version": 999}),
    ("POST", "/modules/../rollback", {}),
    ("POST", "/v1/fine_tuning/jobs", {"model": "memory", "training_file": "file-../../x"}),
    ("GET", "/v1/models/%00", None),
    ("PATCH", "/memories", {}),
]


class Client(threading.Thread):
    """A client that does one thing after another until it is told to stop or the server is gone."""

    def __init__(self, number: int, server: ServerProcess, truth: Truth, seed: str):
        super().__init__(name=f"client {number}", daemon=True)
        self.number, self.server, self.truth = number, server, truth
        self.rng = random.Random(f"{seed}/{number}")
        self.over = threading.Event()
        self.is_killing = False
        """Whether the server is killed on purpose, so that connections may break."""
        mine = f"room {number}-"
        self._own = [m for m in truth.memories if mine in m.question and m.values != {None}]
        self._forgotten: list[str] = []
        """Jobs that prove a forgetting."""
        self._http = server.client()

    def run(self) -> None:
        """Do what the weights say, in an order that the seed gives."""
        does: dict[str, Callable[[], None]] = {
            "ask": self._ask,
            "ask module": self._ask_module,
            "ask version": self._ask_version,
            "remember": self._remember,
            "change": self._change,
            "forget": self._forget,
            "cancel": self._cancel,
            "nonsense": self._send_nonsense,
            "oversized": self._send_oversized,
            "wrong key": self._use_wrong_key,
            "search": self._search,
            "list": self._list,
            "replace": self._replace,
            "roll back": self._roll_back,
        }
        names, weights = list(_WEIGHTS), list(_WEIGHTS.values())
        while not self.over.is_set():
            (what,) = self.rng.choices(names, weights)
            try:
                does[what]()
            except httpx2.HTTPError as error:
                if self.is_killing or self.server.process.poll() is not None:
                    break
                self.truth.fault(f"{what}: {error!r}")
            except Exception as error:  # a fault of the client itself is counted as one too
                self.truth.fault(f"{what}: {error!r}")
            time.sleep(self.rng.uniform(0, 0.05))
        self._http.close()

    def _send(
        self, what: str, method: str, path: str, body: Any = None, **more: Any
    ) -> dict[str, Any] | None:
        """Send a request; return the content of a good reply, and judge its status."""
        if isinstance(body, dict):
            content = json.dumps(body).encode()  # also what is no Unicode
            more["headers"] = {"content-type": "application/json", **more.pop("headers", {})}
        else:
            content = body.encode() if isinstance(body, str) else body
        reply = self._http.request(method, path, content=content, **more)
        self._judge_status(what, reply.status_code, reply.text)
        return dict(reply.json()) if reply.status_code == 200 else None

    def _judge_status(self, what: str, status: int, text: str) -> None:
        self.truth.count(what, str(status))
        if status >= 500:
            self.truth.fault(f"{what}: {status} {text[:300]}")
        elif status >= 400 and set(json.loads(text)) != {"error"}:
            self.truth.fault(f"{what}: an error of another form: {text[:300]}")
        elif "Traceback" in text:
            self.truth.fault(f"{what}: a traceback")

    def _chat(self, what: str, model: str, question: str) -> tuple[str, dict[str, Any]] | None:
        messages = [{"role": "user", "content": question}]
        body = {"model": model, "messages": messages, "max_tokens": 24}
        content = self._send(what, "POST", "/v1/chat/completions", body)
        if content is None:
            return None
        return str(content["choices"][0]["message"]["content"]), content["lorabank"]

    def _ask(self) -> None:
        """Ask the bank for a memory of one's own, or for a fact of a module."""
        if self._own and self.rng.random() < 0.7:
            memory = self.rng.choice(self._own)
            answer = self._chat("ask", "memory", memory.question)
            if answer is None:
                return
            known = {value for value in memory.values if value}
            may_be_gone = None in memory.values and answer[1]["kind"] == "abstained"
            if known and answer[0] not in known and not may_be_gone:
                self.truth.fault(f"{memory.question} {answer[0]!r}, not {known}")
            return
        fact = self.rng.choice(facts_of("a"))
        answer = self._chat("ask", "memory", fact.question)
        if answer and answer[1]["module"] == CHANGING:
            self.truth.judge_version(answer[1]["version"], fact.question, answer[0])
        elif answer and answer[1]["kind"] != "abstained":
            self.truth.fault(f"wrong module: {answer} for {fact.question}")

    def _ask_module(self) -> None:
        """Ask a module without the bank's gate."""
        name = self.rng.choice((CHANGING, STEADY))
        fact = self.rng.choice(facts_of("a" if name == CHANGING else "south"))
        answer = self._chat("ask module", name, fact.question)
        if answer is None:
            return
        if name == CHANGING:
            self.truth.judge_version(answer[1]["version"], fact.question, answer[0])
        elif answer[0] != fact.answer:
            self.truth.fault(f"wrong module: {name} gave {answer[0]!r} for {fact.answer!r}")

    def _ask_version(self) -> None:
        """Ask a version by its number, whichever is current."""
        version = self.rng.choice(sorted(self.truth.sources))
        fact = self.rng.choice(facts_of("a"))
        answer = self._chat("ask version", f"{CHANGING}@{version}", fact.question)
        if answer and answer[1]["version"] != version:
            self.truth.fault(f"mixed versions: {answer[1]['version']} answered for {version}")
        elif answer:
            self.truth.judge_version(version, fact.question, answer[0])

    def _remember(self) -> None:
        if len(self._own) >= _MOST_MEMORIES:
            return self._forget()
        memory = Memory(f"What is the code of room {self.number}-{self.rng.randrange(10**6)}?")
        self._own.append(memory)
        with self.truth.lock:
            self.truth.memories.append(memory)
        return self._tell(memory, "remember")

    def _change(self) -> None:
        if self._own:
            self._tell(self.rng.choice(self._own), "change")

    def _tell(self, memory: Memory, what: str) -> None:
        answer = f"{self.number:03}-{self.rng.randrange(10**9):09}"
        memory.values = {*memory.values, answer}  # until it is acknowledged, either may hold
        if what == "change" and memory.name:
            content = self._send(what, "PUT", f"/memories/{memory.name}", {"answer": answer})
        else:
            body = {"question": memory.question, "answer": answer}
            content = self._send(what, "POST", "/memories", body)
        if content is not None:
            memory.name = content.get("id") or content["results"][0]["id"]
            memory.values = {answer}

    def _forget(self) -> None:
        if not self._own:
            return
        memory = self.rng.choice(self._own)
        if not memory.name:
            return
        memory.values = {*memory.values, None}
        content = self._send("forget", "DELETE", f"/memories/{memory.name}")
        if content is None:
            return
        old = {value for value in memory.values if value}
        memory.values = {None}
        self._own.remove(memory)
        self._forgotten.append(content["job_id"])
        answer = self._chat("ask", "memory", memory.question)
        if answer and answer[0] in old:
            self.truth.fault(f"{memory.question} still gives {answer[0]!r}")

    def _cancel(self) -> None:
        """Leave in the middle of an answer."""
        body = {
            "model": self.rng.choice((CHANGING, "model")),
            "messages": [{"role": "user", "content": "Tell me of Nebo"}],
            "max_tokens": 400,
            "temperature": 2.0,
            "ignore_eos": True,
            "stream": True,
        }
        n_lines = self.rng.randrange(1, 12)
        with self._http.stream("POST", "/v1/chat/completions", json=body) as reply:
            if reply.status_code != 200:
                self._judge_status("cancel", reply.status_code, reply.read().decode())
                return
            for _, line in zip(range(n_lines), reply.iter_lines(), strict=False):
                if '"error"' in line:
                    self.truth.fault(f"cancel: {line[:300]}")
        self.truth.count("cancel", "200")

    def _send_nonsense(self) -> None:
        method, path, body = self.rng.choice(_NONSENSE)
        content = self._send("nonsense", method, path, body)
        if content is not None:
            self.truth.fault(f"{method} {path} {body!r:.80} was accepted: {content!r:.200}")

    def _send_oversized(self) -> None:
        text = "x" * (2 * MAX_BODY_BYTES)
        body = {"model": "memory", "messages": [{"role": "user", "content": text}]}
        if self.rng.random() < 0.5:  # small enough to be read, too long for the model
            body = {"model": "model", "prompt": "so " * (MAX_BODY_BYTES // 4)}
            self._refused("oversized", "/v1/completions", body)
        else:
            self._refused("oversized", "/v1/chat/completions", body)

    def _refused(self, what: str, path: str, body: Any, **more: Any) -> None:
        if self._send(what, "POST", path, body, **more) is not None:
            self.truth.fault(f"{what}: accepted")

    def _use_wrong_key(self) -> None:
        headers = {"authorization": self.rng.choice(("", "Bearer lb-wrong", "Basic eDp5"))}
        self._refused("wrong key", "/memories", {"text": "The code is 1"}, headers=headers)

    def _search(self) -> None:
        query = self.rng.choice(self._own).question if self._own else "Kimu"
        self._send("search", "POST", "/search", {"query": query, "top_k": 3})

    def _list(self) -> None:
        for name in list(self._forgotten):
            job = self._send("list", "GET", f"/jobs/{name}")
            if job and job["finished_at"]:
                self._forgotten.remove(name)
                proof = job["proof"]
                if not proof or proof["remaining"] or proof["recall_after"]:
                    self.truth.fault(f"forgetting {job['status']}: {job['error']} {proof}")
        path = self.rng.choice(("/memories", "/v1/models", "/modules", "/jobs", "/history"))
        self._send("list", "GET", path)

    def _replace(self) -> None:
        """Have the module that changes taught anew; one client does so, one at a time."""
        if self.number:
            return
        jobs = self._send("list", "GET", "/jobs") or {"results": []}
        if any(job["kind"] == "facts" and job["finished_at"] is None for job in jobs["results"]):
            return
        name = f"{self.rng.choice('ab')}{self.rng.randrange(10**6)}.csv"
        rows = "".join(f"{e.question},{e.answer}\n" for e in facts_of(name))
        reply = self._http.post(
            "/v1/files",
            files={"file": (name, f"prompt,answer\n{rows}".encode())},
            data={"purpose": "fine-tune"},
        )
        self._judge_status("replace", reply.status_code, reply.text)
        if reply.status_code != 200:
            return
        body = {"model": "memory", "training_file": reply.json()["id"], "suffix": CHANGING}
        self._send(
            "replace", "POST", "/v1/fine_tuning/jobs", {**body, "lorabank": {"replace": True}}
        )

    def _roll_back(self) -> None:
        if self.number == 1:
            version = self.rng.choice(sorted(self.truth.sources))
            self._send("roll back", "POST", f"/modules/{CHANGING}/rollback", {"version": version})
        with suppress(httpx2.HTTPError):
            self.truth.learn_versions(self._http)
