"""The client against a real server that misbehaves in many ways."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate

import pytest

from lorabank.errors import UnavailableError, UsageError
from lorabank.synthesis.endpoint import Endpoint, RetryPolicy
from lorabank.synthesis.generators import Finish, Reply, Request
from lorabank.tasks.examples import Message
from tests.synthesis.chat_server import Body, Fault, Server, serving

QUICK = RetryPolicy(timeout_s=30.0, retries=3, first_wait_s=0.01, most_wait_s=2.0)


def request(i: int = 0) -> Request:
    return Request((Message("user", f"Say {i}"),), max_tokens=20, temperature=0.5, seed=i)


def echo(body: Body) -> str:
    return str(body["messages"][-1]["content"]).replace("Say", "Said")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(write=echo) as running:
        yield running


def endpoint(server: Server, *, workers: int = 1, retry_policy: RetryPolicy = QUICK) -> Endpoint:
    return Endpoint(
        "small", base_url=server.url, key="k", workers=workers, retry_policy=retry_policy
    )


def reply_after(server: Server, *faults: Fault) -> Reply:
    """Return the reply to a request that meets these faults first."""
    server.faults.extend(faults)
    return next(endpoint(server).complete([request()]))


def test_a_request_is_sent_whole_and_its_reply_read(server: Server):
    reply = reply_after(server)
    assert (reply.text, reply.finish) == ("Said 0", Finish.STOP)
    assert (reply.prompt_tokens, reply.completion_tokens) == (100, 10)
    assert server.keys == ["Bearer k"]
    assert server.requests[0] == {
        "model": "small",
        "messages": [{"role": "user", "content": "Say 0"}],
        "max_tokens": 20,
        "temperature": 0.5,
        "top_p": 1.0,
        "seed": 0,
    }


def test_every_request_is_answered_once_and_workers_run_side_by_side(server: Server):
    server.meeting = threading.Barrier(4)  # nothing is answered until four requests are there
    requests = [request(i) for i in range(12)]
    replies = list(endpoint(server, workers=4).complete(requests))
    assert sorted(r.request.seed for r in replies) == list(range(12))
    assert all(r.text == f"Said {r.request.seed}" for r in replies)
    assert server.most_at_once == 4


def test_no_request_is_sent_before_the_caller_has_taken_a_reply(server: Server):
    replies = endpoint(server, workers=2).complete(request(i) for i in range(6))
    next(replies)
    time.sleep(0.1)
    assert len(server.requests) <= 2
    assert len(list(replies)) == 5


@pytest.mark.parametrize(
    "fault",
    [
        Fault(500, text="oops"),
        Fault(503, text=""),
        Fault(429, text="slow down"),
        Fault(text="<html>not JSON</html>"),
        Fault(text='{"choices": []}'),
        Fault(text='{"choices": [{"message": {"content": 7}}]}'),
        Fault(text="[1, 2]"),
    ],
    ids=["500", "503", "429", "html", "no choice", "a number", "a list"],
)
def test_a_passing_fault_is_tried_again(server: Server, fault: Fault):
    reply = reply_after(server, fault)
    assert (reply.text, reply.finish, len(server.requests)) == ("Said 0", Finish.STOP, 2)


def test_a_server_that_hangs_is_tried_again(server: Server):
    server.faults.append(Fault(wait_s=600.0))
    client = endpoint(server, retry_policy=replace(QUICK, timeout_s=3.0))
    reply = next(client.complete([request()]))
    assert (reply.text, reply.finish, len(server.requests)) == ("Said 0", Finish.STOP, 2)


@pytest.mark.parametrize("form", [str, lambda s: formatdate(time.time() + s + 1, usegmt=True)])
def test_retry_after_holds_for_all_workers(server: Server, form):  # type: ignore[no-untyped-def]
    server.faults.append(Fault(429, (("Retry-After", form(1)),), "limit"))
    list(endpoint(server, workers=2).complete([request(i) for i in range(6)]))
    early = [time_s for time_s in server.times if time_s - server.times[0] < 0.8]
    assert len(early) <= 3  # the other worker's request was on its way
    assert len(server.times) == 7


def test_a_retry_after_longer_than_allowed_is_an_error_at_once(server: Server):
    server.faults.append(Fault(429, (("Retry-After", "3600"),), "daily limit"))
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="daily limit"):
        list(endpoint(server).complete([request()]))
    assert time.monotonic() - started < 600  # and not the hour that the server wants


def test_a_used_up_quota_is_not_tried_again(server: Server):
    server.faults.append(Fault(429, text='{"error": {"code": "insufficient_quota"}}'))
    with pytest.raises(UnavailableError, match="insufficient_quota"):
        list(endpoint(server).complete([request()]))
    assert len(server.requests) == 1


def test_truncated_refused_and_filtered_replies_are_marked(server: Server):
    assert reply_after(server, Fault(content="Hal", finish="length")).finish is Finish.LENGTH
    refused = reply_after(server, Fault(refusal="No."))
    assert (refused.finish, refused.reason) == (Finish.REFUSED, "No.")
    assert reply_after(server, Fault(content="", finish="content_filter")).finish is Finish.REFUSED


@pytest.mark.parametrize(("status", "message"), [(401, "does not take the key"), (404, "no such")])
def test_a_wrong_key_or_model_ends_the_run_at_once(server: Server, status: int, message: str):
    server.faults.extend([Fault(status, text="bad")] * 9)
    with pytest.raises(UsageError, match=message):
        list(endpoint(server, workers=3).complete([request(i) for i in range(9)]))
    assert len(server.requests) <= 3


def test_a_setting_unknown_to_the_endpoint_is_left_out_from_then_on(server: Server):
    server.faults.append(Fault(400, text="Unknown parameter: 'seed'"))
    server.faults.append(
        Fault(400, text="Unsupported: 'max_tokens'. Use 'max_completion_tokens' instead.")
    )
    replies = list(endpoint(server).complete([request(0), request(1)]))
    assert [r.text for r in replies] == ["Said 0", "Said 1"]
    assert "seed" not in server.requests[-1]
    assert server.requests[-1]["max_completion_tokens"] == 20
    assert "max_tokens" not in server.requests[-1]


def test_a_rate_limit_does_not_count_as_a_failed_try(server: Server):
    limits = [Fault(429, text="slow down")] * (3 * QUICK.retries)
    quick = replace(QUICK, most_wait_s=0.02)
    server.faults.extend(limits)
    assert next(endpoint(server, retry_policy=quick).complete([request()])).text == "Said 0"
    impatient = replace(quick, limited_s=0.0)
    server.faults.extend(limits)
    with pytest.raises(UnavailableError, match="HTTP 429: slow down"):
        list(endpoint(server, retry_policy=impatient).complete([request()]))


def test_a_request_that_is_too_long_is_no_reason_to_leave_settings_out(server: Server):
    server.faults.append(Fault(400, text="too long: prompt and max_tokens exceed 4096"))
    replies = list(endpoint(server).complete([request(0), request(1)]))
    assert [r.finish for r in replies] == [Finish.FAILED, Finish.STOP]
    assert server.requests[-1]["max_tokens"] == 20


def test_one_request_that_fails_does_not_end_the_run(server: Server):
    requests = [request(i) for i in range(4)]
    client = endpoint(server)
    first = next(iter(client.complete(requests[:1])))
    assert first.finish is Finish.STOP
    replies = client.complete(requests)
    received = [next(replies)]
    server.faults.append(Fault(400, text="too long"))
    received += list(replies)
    assert [r.finish for r in received].count(Finish.FAILED) == 1
    assert "too long" in next(r.reason for r in received if r.finish is Finish.FAILED)


def test_a_server_that_dies_ends_the_run_after_the_finished_replies():
    with serving(write=echo) as server:
        client = endpoint(server)
        replies = client.complete(request(i) for i in range(9))
        received = [next(replies), next(replies)]
    with pytest.raises(UnavailableError, match=r"does not answer: no answer.*run the same again"):
        received.extend(replies)
    assert [r.text for r in received if r.finish is Finish.STOP] == ["Said 0", "Said 1"]


def test_an_absent_server_is_an_error():
    client = Endpoint("m", base_url="http://127.0.0.1:9/v1", workers=2, retry_policy=QUICK)
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9/v1 does not answer"):
        list(client.complete([request(i) for i in range(5)]))


def test_a_redirect_is_refused_and_the_key_not_sent_on(server: Server):
    with serving(write=echo) as other:
        server.faults.append(Fault(307, (("Location", other.url),), "moved"))
        with pytest.raises(UsageError, match="is somewhere else: HTTP 307"):
            list(endpoint(server).complete([request()]))
        assert not other.requests


def test_a_malformed_key_is_refused_and_not_shown(server: Server):
    for key in ("sk-secret\n", "sk-secret\u2019"):
        with pytest.raises(UsageError, match="OPENAI_API_KEY must consist of") as error:
            Endpoint("m", base_url=server.url, key=key)
        assert "secret" not in str(error.value)


def test_half_a_surrogate_pair_in_a_prompt_is_sent(server: Server):
    server.write = lambda _: "Fine."
    odd_request = Request((Message("user", "Say \ud83d"),), max_tokens=20)
    next(endpoint(server).complete([odd_request]))
    assert server.requests[0]["messages"][0]["content"] == "Say \ud83d"


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, server: Server):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UsageError, match="OPENAI_API_KEY is not set"):
        Endpoint("m")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert next(Endpoint("m").complete([request()])).text == "Said 0"  # needs no key
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    client = Endpoint("m")
    next(client.complete([request()]))
    assert server.keys == [None, "Bearer secret"]
    assert "secret" not in client.name
    with pytest.raises(UsageError, match="needs a model's name"):
        Endpoint("")
    with pytest.raises(UsageError, match="OPENAI_BASE_URL must be http"):
        Endpoint("m", base_url="localhost:8000")


def test_json_is_requested_where_the_request_says_so(server: Server):
    json_request = Request((Message("user", json.dumps({})),), 5, as_json=True)
    next(endpoint(server).complete([json_request]))
    assert server.requests[0]["response_format"] == {"type": "json_object"}
