"""A hub on this machine: repositories in memory, with as much of its protocol as push and pull."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Repository:
    is_private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    @property
    def commit(self) -> str:
        return hashlib.sha1(str(len(self.commits)).encode(), usedforsecurity=False).hexdigest()


@dataclass
class Hub:
    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    refuses: int = 0
    """Status that every request is answered with; 0 to answer it."""


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            hub.requests.append(f"POST {self.path}")
            if hub.refuses:
                self.reply({"error": "no"}, status=hub.refuses)
            elif self.path == "/api/repos/create":
                made = json.loads(body)
                name = "/".join(filter(None, (made.get("organization"), made["name"])))
                hub.repositories.setdefault(name, Repository(_is_private(made)))
                self.reply({"url": f"{hub.url}/{name}"})
            elif self.path == "/api/validate-yaml":
                self.reply({"errors": [], "warnings": []})
            elif "/preupload/" in self.path:
                files = json.loads(body)["files"]
                modes = [{"path": f["path"], "uploadMode": "regular"} for f in files]
                self.reply({"files": [{**mode, "shouldIgnore": False} for mode in modes]})
            else:
                self.commit([json.loads(line) for line in body.splitlines()])

        def commit(self, lines: list[dict[str, Any]]) -> None:
            name = self.path.removeprefix("/api/models/").partition("/commit/")[0]
            repository = hub.repositories[name]
            for line in lines:
                if line["key"] == "header":
                    repository.commits.append(line["value"]["summary"])
                elif line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    repository.files[line["value"]["path"]] = content
            url = f"{hub.url}/{name}/commit/{repository.commit}"
            self.reply({"success": True, "commitOid": repository.commit, "commitUrl": url})

        def do_GET(self) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            path = self.path.partition("?")[0].removeprefix("/api/models").strip("/")
            name = "/".join(path.split("/")[:2])
            repository = hub.repositories.get(name)
            if hub.refuses:
                self.reply({"error": "no"}, status=hub.refuses)
            elif repository is None:
                self.reply({}, status=404, more={"X-Error-Code": "RepoNotFound"})
            elif "/resolve/" in self.path:
                content = repository.files[path.partition("/resolve/")[2].partition("/")[2]]
                tag = hashlib.sha1(content, usedforsecurity=False).hexdigest()
                more = {"ETag": f'"{tag}"', "X-Repo-Commit": repository.commit}
                self.reply(content, more=more)
            elif "/tree/" in self.path:
                self.reply([_entry(*file) for file in repository.files.items()])
            else:
                siblings = [{"rfilename": file} for file in repository.files]
                self.reply({"id": name, "sha": repository.commit, "siblings": siblings})

        do_HEAD = do_GET

        def reply(
            self, content: Any, *, status: int = 200, more: dict[str, str] | None = None
        ) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
            for name, value in {**headers, **(more or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    return Handler


def _entry(path: str, content: bytes) -> dict[str, object]:
    oid = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": oid}


def _is_private(made: dict[str, Any]) -> bool:
    return bool(made.get("private")) or made.get("visibility") == "private"
