"""Rounds of requests until every task has its items.

All requests of a round may run at once. A reply is cached before the next request is sent. A
document is given up after many replies without a usable item, so that no more is paid for nonsense.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from lorabank.errors import UsageError
from lorabank.synthesis.budget import BudgetMeter
from lorabank.synthesis.cache import ReplyCache
from lorabank.synthesis.cached_requests import RequestCounts, answer_requests
from lorabank.synthesis.format_tasks import FormatTask
from lorabank.synthesis.generators import Generator, Reply, Request, SamplingOptions
from lorabank.synthesis.item_checks import HeldOutQuestions
from lorabank.synthesis.replies import parse_reply
from lorabank.synthesis.results import SAMPLES, RefusedExample, samples

_NONSENSE = 12  # replies about a document without a usable item
OnReply = Callable[[int, int], None]
"""Function called with the number of replies and of requests so far."""


@final
@dataclass(slots=True)
class SynthesisRun:
    """A synthesis under way, with its counts."""

    generator: Generator
    cache: ReplyCache | None
    sampling: SamplingOptions
    meter: BudgetMeter
    held_out: HeldOutQuestions
    on_reply: OnReply | None
    refused: list[RefusedExample] = field(default_factory=list)
    cached_replies: int = 0
    over_budget: int = 0
    n_replies_about: Counter[str] = field(default_factory=Counter)
    n_accepted: Counter[str] = field(default_factory=Counter)
    """Accepted items of each document."""
    n_replies: int = 0
    n_requests: int = 0

    failed_documents: set[str] = field(default_factory=set)
    """Documents that were given up."""

    def run(self, tasks: Sequence[FormatTask]) -> None:
        """Send the requests of all tasks, round by round."""
        for number in range(1 if self.generator.is_file else self.sampling.rounds):
            wanted: defaultdict[Request, list[FormatTask]] = defaultdict(list)
            for task in tasks:
                if task.source.document in self.failed_documents:
                    continue
                for request in task.requests(self.generator, self.sampling, number):
                    wanted[request].append(task)
            if not wanted or self.over_budget:
                break
            self.n_requests += len(wanted)
            for reply in self._replies(wanted):
                for task in wanted[reply.request]:
                    self._take(task, reply)
                self.n_replies += 1
                if self.on_reply:
                    self.on_reply(self.n_replies, self.n_requests)
        if not self.over_budget:
            self.failed_documents |= {
                document for document in self.n_replies_about if not self.n_accepted[document]
            }

    def failure(self) -> UsageError | None:
        """Return the error for documents without a usable item, if there are any.

        A file of prewritten texts may lack some documents.
        """
        if not self.failed_documents or (self.generator.is_file and self.n_accepted):
            return None
        reasons = [
            f"{document}: nothing fit to be taught in {self.n_replies_about[document]} replies "
            f"({self._shown(document)})"
            for document in sorted(self.failed_documents)[:SAMPLES]
        ]
        more = (
            f"; and {len(self.failed_documents) - SAMPLES} more"
            if len(self.failed_documents) > SAMPLES
            else ""
        )
        return UsageError(
            f"{'; '.join(reasons)}{more}; from {self.generator.name}; give another --generator "
            "(rules makes questions of any text), leave such documents out, or take what there is "
            "of the others with --skip-failed; "
            "what was written is kept"
        )

    def _replies(self, wanted: Mapping[Request, Sequence[FormatTask]]) -> Iterator[Reply]:
        counts = RequestCounts()

        def is_off(request: Request) -> bool:
            return all(task.source.document in self.failed_documents for task in wanted[request])

        yield from answer_requests(
            wanted, self.generator, self.cache, self.meter, counts, is_off=is_off
        )
        self.cached_replies += counts.cached
        self.over_budget += counts.over_budget

    def _take(self, task: FormatTask, reply: Reply) -> None:
        reading, document = parse_reply(reply, task.format.kind), task.source.document
        faults = list(reading.rejected)
        for item in reading.items:
            if why := task.take(item, self.held_out):
                faults.append((why, f"{item.question} {item.answer}".strip()))
            else:
                self.n_accepted[document] += 1
        for reason, text in faults:
            self.refused.append(
                RefusedExample(reason, task.format.kind, document, task.source.label, text)
            )
        self.n_replies_about[document] += 1
        if self.n_replies_about[document] >= _NONSENSE and not self.n_accepted[document]:
            self.failed_documents.add(document)

    def _shown(self, document: str) -> str:
        refused = [text for text in self.refused if text.document == document]
        return "; ".join(
            f"{example.reason}: {text!r}"
            for example, text in zip(refused, samples(refused), strict=False)
        )
