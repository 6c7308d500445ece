"""The base model as a generator, with a tiny random model."""

from dataclasses import replace

import pytest

from lorabank.engine.backbone.base import Base
from lorabank.engine.inference.generate import generate
from lorabank.errors import UsageError
from lorabank.synthesis.generators import Finish, Request
from lorabank.synthesis.local import LocalGenerator
from lorabank.tasks.examples import Message


def request(i: int, max_tokens: int = 12) -> Request:
    return Request((Message("user", f"Number {i} is {'x' * i}"),), max_tokens)


def test_a_batch_gives_the_replies_that_single_requests_give(tiny: Base):
    requests = [request(i, max_tokens=8 + i % 2) for i in range(7)]
    replies = list(LocalGenerator(tiny, rows=3).complete(requests))
    assert sorted(map(str, requests)) == sorted(str(reply.request) for reply in replies)
    for reply in replies:
        prompt = tiny.chat.prompt_ids(reply.request.messages)
        alone = generate(tiny, [prompt], max_new_tokens=reply.request.max_tokens)
        assert [reply.text] == alone
        assert reply.prompt_tokens == len(prompt)
    assert len({reply.text for reply in replies}) > 3


def test_a_reply_is_marked_truncated_exactly_where_it_reached_its_limit(tiny: Base):
    finishes = {}
    for limit in (1, 60):
        replies = LocalGenerator(tiny).complete([request(i, limit) for i in range(8)])
        for reply in replies:
            is_truncated = reply.finish is Finish.LENGTH
            assert (reply.completion_tokens == limit) is is_truncated
            finishes[limit, is_truncated] = True
    assert (1, True) in finishes


def test_sampling_depends_on_the_seed(tiny: Base):
    sampled = replace(request(1), temperature=1.0, seed=3)
    first, repeated, other = (
        next(LocalGenerator(tiny).complete([request_])).text
        for request_ in (sampled, sampled, replace(sampled, seed=4))
    )
    assert first == repeated != other


def test_a_prompt_that_leaves_no_room_fails_alone(tiny: Base):
    long_request = Request((Message("user", "x" * 600),), 12)
    replies = {r.request: r for r in LocalGenerator(tiny).complete([request(1), long_request])}
    assert replies[long_request].finish is Finish.FAILED
    assert "do not fit the model's 512; use shorter passages" in replies[long_request].reason
    assert replies[request(1)].text


def test_requests_are_taken_a_batch_at_a_time(tiny: Base):
    taken_numbers = []

    def requests():  # type: ignore[no-untyped-def]
        for i in range(6):
            taken_numbers.append(i)
            yield request(i)

    replies = LocalGenerator(tiny, rows=2).complete(requests())
    next(replies)
    assert taken_numbers == [0, 1]


def test_the_generators_name_has_the_weights_and_their_precision(tiny: Base):
    assert tiny.info.sha256[:16] in LocalGenerator(tiny).name
    assert LocalGenerator(tiny).name.endswith("float32")
    with pytest.raises(UsageError, match="--workers must be 1 or more, got 0"):
        LocalGenerator(tiny, rows=0)
