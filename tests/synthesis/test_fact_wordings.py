"""Wordings of facts from an endpoint: those that keep names and numbers, each with its fact."""

import json
from collections.abc import Iterator

import pytest

from lorabank.synthesis.endpoint import Endpoint, RetryPolicy
from lorabank.synthesis.fact_wordings import write_wordings
from lorabank.tasks.examples import Example, Message, from_pair
from lorabank.tasks.made_wordings import reword
from tests.synthesis.chat_server import Body, Server, serving

FACTS = [
    from_pair("Who keeps the mill of Nebo?", "Ada"),
    from_pair("Who keeps the mill of Fenholm?", "Ada"),
    Example((Message("user", "Who keeps it?"),), "Bo", also=("It is kept by", "keeper?")),
]


def write_paraphrases(body: Body) -> str:
    """Return two questions that ask the same, and one about somewhere else."""
    prompt = body["messages"][-1]["content"]
    place = "Nebo" if "Nebo" in prompt else "Fenholm"
    questions = [
        f"Who is the miller at {place}?",
        f"In whose care is {place}'s mill?",
        "Who is the miller at Grisby?",
    ]
    return json.dumps([{"question": question} for question in questions])


@pytest.fixture
def endpoint() -> Iterator[tuple[Server, Endpoint]]:
    with serving() as server:
        server.write = write_paraphrases
        policy = RetryPolicy(retries=0, first_wait_s=0.01)
        yield server, Endpoint("m", base_url=server.url, key="k", workers=1, retry_policy=policy)


def test_each_fact_gets_the_wordings_that_were_written_of_it(endpoint: tuple[Server, Endpoint]):
    server, generator = endpoint
    wordings = write_wordings(FACTS, 3, generator, None, seed=0)
    assert wordings.by_fact == [
        ["Who is the miller at Nebo?", "In whose care is Nebo's mill?"],
        ["Who is the miller at Fenholm?", "In whose care is Fenholm's mill?"],
        [],
    ]
    assert {refused.reason for refused in wordings.refused} == {
        "a paraphrase without the names and numbers of its question"
    }
    assert all("keeps it" not in str(request) for request in server.requests)
    first, second, third = reword(FACTS, 4, written=wordings.by_fact)
    assert first.also[:2] == ("Who is the miller at Nebo?", "In whose care is Nebo's mill?")
    assert len(first.also) == len(second.also) == len(third.also) == 3
    assert first.held_out
