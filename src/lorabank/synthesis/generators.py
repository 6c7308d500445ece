"""Generators, which answer requests for text, and the types of requests and replies.

A generator takes requests one by one and yields replies in any order, each with its request. It
raises only if no further request can succeed; a request that fails alone gets a failed reply.
Replies are cached under a key made of the generator's name and the request: the names and the order
of the fields of `Request` are part of it and must not change.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Protocol

from lorabank.tasks.examples import Message

RULES = "rules"
"""Name that stands in a generator's place where rules make the examples (rule_questions.py)."""
_CHARACTERS_PER_TOKEN = (
    4  # of English text, roughly; for estimates and for endpoints that do not count
)


class Finish(StrEnum):
    """The ways in which a reply can end."""

    STOP = "stop"
    LENGTH = "length"
    """The reply reached its token limit; the text before it is usable."""
    REFUSED = "refused"
    """The model, or a content filter, refused."""
    FAILED = "failed"
    """No reply came after all retries. Not cached, so that the next run asks again."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request for one text."""

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    """Sampling temperature; 0 takes the most likely token each time."""
    top_p: float = 1.0
    seed: int = 0
    as_json: bool = False
    """Whether the reply has to be one JSON object."""
    kind: str = ""
    passage: str = ""
    """Kind and passage, for generators that look replies up rather than write them."""


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """Settings of sampling, and the number of rounds of requests."""

    temperature: float = 0.7
    top_p: float = 0.9
    seed: int = 0
    rounds: int = 3
    """Requests for what is still missing, the first one included."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to a request, or the reason why there is none."""

    request: Request
    text: str
    finish: Finish
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reason: str = ""
    """Why it was refused or failed, in words; empty otherwise."""


class Generator(Protocol):
    """A source of replies, such as an endpoint, a local model or a file."""

    @property
    def name(self) -> str:
        """Name of the model and its place; replies under one name are interchangeable."""

    @property
    def writes_json(self) -> bool:
        """Whether it can write JSON; otherwise it is asked for labelled lines."""

    @property
    def is_file(self) -> bool:
        """Whether it looks replies up in a file: asked once for everything, and not cached."""

    def complete(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Yield a reply to each request, in any order.

        A request is taken when a worker is free and the caller has asked for the next reply, so
        that replies not yet stored are never more than the requests in flight.
        """


def cache_key(generator: Generator, request: Request) -> str:
    """Return the key of a request to a generator; equal requests have equal keys."""
    content = json.dumps([generator.name, asdict(request)], ensure_ascii=False, sort_keys=True)
    # A text read from a file may have half a surrogate pair in it.
    return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()


def estimate_tokens(text: str) -> int:
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def estimate_prompt_tokens(request: Request) -> int:
    return sum(estimate_tokens(message.content) + 4 for message in request.messages)
