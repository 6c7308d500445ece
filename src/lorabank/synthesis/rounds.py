"""Rounds: what is asked for, what comes back, and what is still missing.

All requests of a round may run at once. A reply is kept under what was asked before the next
request goes out. A document of which many replies brought nothing fit is given up, so that nonsense
is not paid for to its end.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from lorabank.errors import UsageError
from lorabank.synthesis.asking import Tally, ask
from lorabank.synthesis.budget import Meter
from lorabank.synthesis.cache import ReplyCache
from lorabank.synthesis.generators import Generator, Reply, Request
from lorabank.synthesis.quality import HeldOut
from lorabank.synthesis.replies import read_reply
from lorabank.synthesis.results import SAMPLES, RefusedExample, samples
from lorabank.synthesis.tasks import SamplingOptions, Task

_NONSENSE = 12  # replies about one document without anything fit
OnReply = Callable[[int, int], None]
"""(replies so far, requests known so far)"""


@final
@dataclass(slots=True)
class Rounds:
    """Everything that is counted on the way."""

    generator: Generator
    cache: ReplyCache | None
    way: SamplingOptions
    meter: Meter
    held_out: HeldOut
    on_reply: OnReply | None
    refused: list[RefusedExample] = field(default_factory=list)
    kept: int = 0
    not_asked: int = 0
    replies: Counter[str] = field(default_factory=Counter)
    fit: Counter[str] = field(default_factory=Counter)
    """Replies about each document, and items of it that are fit."""
    n_replies: int = 0
    n_requests: int = 0

    hopeless: set[str] = field(default_factory=set)
    """Documents that were given up."""

    def go(self, tasks: Sequence[Task]) -> None:
        for number in range(1 if self.generator.is_file else self.way.rounds):
            wanted: defaultdict[Request, list[Task]] = defaultdict(list)
            for task in tasks:
                if task.piece.document in self.hopeless:
                    continue
                for request in task.requests(self.generator, self.way, number):
                    wanted[request].append(task)
            if not wanted or self.not_asked:
                break
            self.n_requests += len(wanted)
            for reply in self._replies(wanted):
                for task in wanted[reply.request]:
                    self._take(task, reply)
                self.n_replies += 1
                if self.on_reply:
                    self.on_reply(self.n_replies, self.n_requests)
        if not self.not_asked:
            self.hopeless |= {one for one in self.replies if not self.fit[one]}

    def failure(self) -> UsageError | None:
        """What to raise for documents of which nothing is fit; a file has what it has."""
        if not self.hopeless or (self.generator.is_file and self.fit):
            return None
        told = [
            f"{document}: nothing fit to be taught in {self.replies[document]} replies "
            f"({self._shown(document)})"
            for document in sorted(self.hopeless)[:SAMPLES]
        ]
        more = f"; and {len(self.hopeless) - SAMPLES} more" if len(self.hopeless) > SAMPLES else ""
        return UsageError(
            f"{'; '.join(told)}{more}; from {self.generator.name}; give another --generator, leave "
            "such documents out, or take what there is of the others with --skip-failed; what was "
            "written is kept"
        )

    def _replies(self, wanted: Mapping[Request, Sequence[Task]]) -> Iterator[Reply]:
        tally = Tally()

        def is_off(request: Request) -> bool:
            return all(task.piece.document in self.hopeless for task in wanted[request])

        yield from ask(wanted, self.generator, self.cache, self.meter, tally, is_off=is_off)
        self.kept += tally.kept
        self.not_asked += tally.not_asked

    def _take(self, task: Task, reply: Reply) -> None:
        reading, document = read_reply(reply, task.format.kind), task.piece.document
        faults = list(reading.faults)
        for item in reading.items:
            if why := task.take(item, self.held_out):
                faults.append((why, f"{item.question} {item.answer}".strip()))
            else:
                self.fit[document] += 1
        for reason, text in faults:
            self.refused.append(
                RefusedExample(reason, task.format.kind, document, task.piece.label, text)
            )
        self.replies[document] += 1
        if self.replies[document] >= _NONSENSE and not self.fit[document]:
            self.hopeless.add(document)

    def _shown(self, document: str) -> str:
        those = [one for one in self.refused if one.document == document]
        return "; ".join(
            f"{one.reason}: {text!r}" for one, text in zip(those, samples(those), strict=False)
        )
