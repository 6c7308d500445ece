"""What writes for us: requests in, replies out, whoever writes them.

A generator takes requests as they come and yields replies as they are ready, in any order, each
with the request it answers. It raises only where going on makes no sense; a request that could
not be answered comes back as a reply that says so. The same request to the same generator has the
same key, which is what replies are kept under.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Protocol

from lorabank.tasks.examples import Message

_CHARACTERS_PER_TOKEN = 4  # of English, about; only for estimates and where nobody counts


class Finish(StrEnum):
    """How a reply ended."""

    STOP = "stop"
    LENGTH = "length"
    """Cut off at the most tokens asked for; what stands before that is as good as any."""
    REFUSED = "refused"
    """The model, or a filter around it, would not."""
    FAILED = "failed"
    """No answer came, after all retries. Never kept, so that the next run asks again."""


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to be written."""

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    """0 for the most likely token each time."""
    top_p: float = 1.0
    seed: int = 0
    as_json: bool = False
    """Whether the reply has to be one JSON object."""
    kind: str = ""
    passage: str = ""
    """What is asked for, and of which text, for generators that look up rather than write."""


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How a generator chooses its words, and how often it is asked again."""

    temperature: float = 0.7
    top_p: float = 0.9
    seed: int = 0
    rounds: int = 3
    """Requests for what is still missing, the first one included."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request."""

    request: Request
    text: str
    finish: Finish
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reason: str = ""
    """In words, where it was refused or failed."""


class Generator(Protocol):
    """A model behind some door."""

    @property
    def name(self) -> str:
        """Which model it is and where; replies of one name are interchangeable."""

    @property
    def writes_json(self) -> bool:
        """Whether it can be asked for JSON; one that cannot is asked for labelled lines."""

    @property
    def is_file(self) -> bool:
        """Whether it looks up what is written already: asked once, for everything, and not kept."""

    def complete(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """A reply to each request, in any order.

        Requests are taken one at a time, when there is room for them, and a further one only once
        the caller has come back for more: what has been yielded but not yet stored is never more
        than what is in flight.
        """


def cache_key(generator: Generator, request: Request) -> str:
    """The same for the same words asked of the same model in the same way, and only then."""
    told = json.dumps([generator.name, asdict(request)], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def estimate_tokens(text: str) -> int:
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def estimate_prompt_tokens(request: Request) -> int:
    return sum(estimate_tokens(message.content) + 4 for message in request.messages)
