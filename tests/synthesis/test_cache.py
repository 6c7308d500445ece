"""A damaged cache loses the replies that are damaged, and no reply makes it unreadable."""

import random
import sqlite3
from pathlib import Path

import pytest

from lorabank.errors import UsageError
from lorabank.synthesis.cache import ReplyCache
from lorabank.synthesis.generators import Finish, Reply, Request
from lorabank.synthesis.local import LocalGenerator
from lorabank.tasks.examples import Message

N_REPLIES = 300


def request(i: int) -> Request:
    return Request((Message("user", f"Say {i} \ud83d"),), 9)


@pytest.fixture
def generator() -> LocalGenerator:
    named = object.__new__(LocalGenerator)  # without a model: a cache wants its name alone
    named.name = "local:tiny"
    return named


@pytest.fixture
def path(tmp_path: Path, generator: LocalGenerator) -> Path:
    path = tmp_path / "cache.sqlite"
    with ReplyCache(path) as cache:
        for i in range(N_REPLIES):
            text = f"Said {i}. " * (300 if i % 15 == 0 else 50)
            cache.put(generator, Reply(request(i), text, Finish.STOP, 100, i))
    return path


def n_right(path: Path, generator: LocalGenerator) -> int:
    """Return how many replies are still there, all of them as they were put in."""
    with ReplyCache(path) as cache:
        replies = [cache.get(generator, request(i)) for i in range(N_REPLIES)]
        cache.put(generator, Reply(request(N_REPLIES), "new", Finish.STOP))
        assert cache.get(generator, request(N_REPLIES)) is not None
    for i, reply in enumerate(replies):
        assert reply is None or (reply.completion_tokens, reply.text[:5]) == (i, "Said ")
    return sum(reply is not None for reply in replies)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.999])
def test_of_a_cache_cut_short_what_is_before_the_cut_is_read(
    path: Path, generator: LocalGenerator, share: float
):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert n_right(path, generator) >= 0.7 * share * N_REPLIES


@pytest.mark.parametrize("seed", range(6))
def test_a_page_of_noise_costs_few_replies(path: Path, generator: LocalGenerator, seed: int):
    rng, content = random.Random(seed), bytearray(path.read_bytes())
    at = rng.randrange(1, len(content) // 4096) * 4096  # the first page tells what the file is
    content[at : at + 4096] = rng.randbytes(4096)
    path.write_bytes(content)
    assert n_right(path, generator) >= N_REPLIES - 30


def test_a_row_that_is_no_reply_costs_itself(path: Path, generator: LocalGenerator):
    with sqlite3.connect(path) as db:
        changes = ["finish = 'x'", "text = CAST(x'ff' AS TEXT)", "prompt_tokens = 'many'"]
        for i, change in enumerate(changes):
            db.execute(f"UPDATE replies SET {change} WHERE completion_tokens = {50 + i}")
    db.close()
    assert n_right(path, generator) == N_REPLIES - 3


def test_another_file_is_refused_and_left_as_it_is(tmp_path: Path):
    path = tmp_path / "notes"
    path.write_bytes(b"Notes of mine\n" * 99)
    with pytest.raises(UsageError, match="is not a reply cache"):
        ReplyCache(path)
    assert path.read_bytes() == b"Notes of mine\n" * 99
