"""What a server must answer: memories by who told them, module versions by their source."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx2

from .served_bank import CHANGING, facts_of
from .tally import Tally


@dataclass
class Memory:
    """A fact that one client tells, changes and forgets; nobody else touches it."""

    question: str
    values: set[str | None] = field(default_factory=lambda: {None})
    """The values that may be there: one, or two while a change has not been acknowledged."""
    name: str = ""
    """Number that the server gave it."""


@dataclass
class Truth:
    """All that is known of a server's state, and the faults that were found."""

    tally: Tally
    memories: list[Memory] = field(default_factory=list)
    sources: dict[int, tuple[str, float]] = field(default_factory=dict)
    """Source and recall of each version of the module that changes."""
    unjudged: list[tuple[int, str, str]] = field(default_factory=list)
    """Version, question and text of answers whose version was not known yet."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    statuses: Counter[int] = field(default_factory=Counter)

    def fault(self, what: str) -> None:
        with self.lock:
            self.tally.faults.append(what)

    def count(self, what: str, outcome: str) -> None:
        with self.lock:
            self.tally.add(what, outcome)

    def learn_versions(self, client: httpx2.Client) -> None:
        """Ask the server which source each version was taught, and judge what waited for it."""
        reply = client.get(f"/modules/{CHANGING}")
        if reply.status_code != 200:
            return
        with self.lock:
            for version in reply.json()["versions"]:
                source = version["sources"][0]["name"]
                self.sources[version["version"]] = (source, version["recall"])
            waiting, self.unjudged = self.unjudged, []
        for answer in waiting:
            self.judge_version(*answer)

    def judge_version(self, version: int, question: str, text: str) -> None:
        """Hold an answer of the module that changes against what its version was taught."""
        with self.lock:
            if version not in self.sources:
                self.unjudged.append((version, question, text))
                return
            source, recall = self.sources[version]
        own = {e.question: e.answer for e in facts_of(source)}
        if text == own[question]:
            return
        other = {e.question: e.answer for e in facts_of("b" if source[0] == "a" else "a")}
        if text == other[question]:
            self.fault(f"mixed versions: version {version} gave the other's {text!r}")
        elif recall == 1.0:
            self.fault(f"version {version} gave {text!r} for {own[question]!r}")

    def judge_kept(self, memories: list[dict[str, Any]]) -> None:
        """Hold what a server lists after a restart against all that was acknowledged."""
        held = {memory["question"]: memory["answer"] for memory in memories}
        for memory in self.memories:
            value = held.get(memory.question)
            self.count("kept", "whole" if value in memory.values else "lost")
            if value not in memory.values:
                self.fault(f"{memory.question} is {value!r}, not one of {memory.values}")
            else:
                memory.values = {value}
