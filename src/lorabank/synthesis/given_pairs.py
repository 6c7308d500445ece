"""A generator of questions and answers that a plain file holds: CSV with prompt,answer, or JSONL.

Each pair goes to the passage that supports it best, and is then checked like any other item: a pair
that no passage supports is refused and counted.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import final

from lorabank.engine.models.model_cache import file_sha256
from lorabank.errors import DataError
from lorabank.synthesis.formats import FormatKind
from lorabank.synthesis.generators import Finish, Reply, Request
from lorabank.synthesis.item_checks import support
from lorabank.synthesis.sources import SourceText
from lorabank.tasks.examples import Example, read_examples

SUFFIXES = (".csv", ".jsonl", ".ndjson")


@final
class GivenPairs:
    """A generator that answers requests for questions with the pairs of a file."""

    is_file = True
    writes_json = True

    def __init__(self, pairs: Sequence[Example], *, name: str):
        self._pairs, self.name = list(pairs), name

    @classmethod
    def of(cls, path: Path) -> "GivenPairs":
        """Return a generator of the pairs in a file.

        Raises:
            DataError: the file cannot be read, or has conversations in it.
        """
        pairs = read_examples(path)
        if long := [pair for pair in pairs if len(pair.prompt) > 1]:
            raise DataError(
                f"{path}: a document's examples are single questions, got a conversation that ends "
                f"in {long[0].question[:60]!r}; leave such examples out"
            )
        return cls(pairs, name=f"file:{path.name}@{file_sha256(path)[:16]}")

    def complete(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Yield a reply to each request; it is a failure where the file has nothing for it."""
        waiting = list(requests)
        asking = [i for i, request in enumerate(waiting) if request.kind == FormatKind.QA]
        sources = {i: SourceText("", "", "", "", "", waiting[i].passage) for i in asking}
        of_request: defaultdict[int, list[dict[str, str]]] = defaultdict(list)
        for pair in self._pairs if asking else ():
            text = f"{pair.question} {pair.answer}"
            answered = {i: support(pair.answer, sources[i]) for i in asking}
            best = max(asking, key=lambda i: (answered[i], support(text, sources[i])))
            of_request[best].append({"question": pair.question, "answer": pair.answer})
        for i, request in enumerate(waiting):
            if of_request[i]:
                yield Reply(request, json.dumps(of_request[i], ensure_ascii=False), Finish.STOP)
            else:
                reason = f"{self.name} has no {request.kind} of it"
                yield Reply(request, "", Finish.FAILED, reason=reason)
