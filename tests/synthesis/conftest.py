"""A server that replies to every request with what was said."""

from collections.abc import Iterator

import pytest

from tests.synthesis.chat_server import Server, echo, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(write=echo) as running:
        yield running
