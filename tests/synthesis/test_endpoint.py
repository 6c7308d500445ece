"""The client against a real server that misbehaves in every way it can."""

import json
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

QUICK = RetryPolicy(timeout_s=0.5, retries=3, first_wait_s=0.01, most_wait_s=2.0)


def request(i: int = 0) -> Request:
    return Request((Message("user", f"Say {i}"),), max_tokens=20, temperature=0.5, seed=i)


def echo(body: Body) -> str:
    return str(body["messages"][-1]["content"]).replace("Say", "Said")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(write=echo) as running:
        yield running


def endpoint(server: Server, *, workers: int = 1, patience: RetryPolicy = QUICK) -> Endpoint:
    return Endpoint("small", base_url=server.url, key="k", workers=workers, retry_policy=patience)


def one(server: Server, *faults: Fault) -> Reply:
    server.faults.extend(faults)
    return next(endpoint(server).complete([request()]))


def test_what_is_sent_and_what_comes_back(server: Server):
    reply = one(server)
    assert (reply.text, reply.finish) == ("Said 0", Finish.STOP)
    assert (reply.prompt_tokens, reply.completion_tokens) == (100, 10)
    assert server.keys == ["Bearer k"]
    assert server.asked[0] == {
        "model": "small",
        "messages": [{"role": "user", "content": "Say 0"}],
        "max_tokens": 20,
        "temperature": 0.5,
        "top_p": 1.0,
        "seed": 0,
    }


def test_every_request_is_answered_once_and_workers_run_side_by_side(server: Server):
    server.delay_s = 0.05
    requests = [request(i) for i in range(12)]
    replies = list(endpoint(server, workers=4).complete(requests))
    assert sorted(r.request.seed for r in replies) == list(range(12))
    assert all(r.text == f"Said {r.request.seed}" for r in replies)
    assert server.most_at_once == 4


def test_no_request_goes_out_before_the_caller_has_taken_the_reply(server: Server):
    replies = endpoint(server, workers=2).complete(request(i) for i in range(6))
    next(replies)
    time.sleep(0.1)
    assert len(server.asked) <= 2
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
        Fault(wait_s=5.0),
    ],
    ids=["500", "503", "429", "html", "no choice", "a number", "a list", "hangs"],
)
def test_what_may_pass_is_tried_again(server: Server, fault: Fault):
    reply = one(server, fault)
    assert (reply.text, reply.finish, len(server.asked)) == ("Said 0", Finish.STOP, 2)


@pytest.mark.parametrize("form", [str, lambda s: formatdate(time.time() + s + 1, usegmt=True)])
def test_retry_after_holds_for_all_workers(server: Server, form):  # type: ignore[no-untyped-def]
    server.faults.append(Fault(429, (("Retry-After", form(1)),), "limit"))
    list(endpoint(server, workers=2).complete([request(i) for i in range(6)]))
    early = [at for at in server.times if at - server.times[0] < 0.8]
    assert len(early) <= 3  # what the other worker had out when the limit was met
    assert len(server.times) == 7


def test_a_retry_after_beyond_patience_is_told_not_waited_for(server: Server):
    server.faults.append(Fault(429, (("Retry-After", "3600"),), "daily limit"))
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="daily limit"):
        list(endpoint(server).complete([request()]))
    assert time.monotonic() - started < 1


def test_a_used_up_quota_is_not_asked_again(server: Server):
    server.faults.append(Fault(429, text='{"error": {"code": "insufficient_quota"}}'))
    with pytest.raises(UnavailableError, match="insufficient_quota"):
        list(endpoint(server).complete([request()]))
    assert len(server.asked) == 1


def test_cut_refused_and_filtered_replies_say_so(server: Server):
    assert one(server, Fault(content="Hal", finish="length")).finish is Finish.LENGTH
    refused = one(server, Fault(refusal="No."))
    assert (refused.finish, refused.reason) == (Finish.REFUSED, "No.")
    assert one(server, Fault(content="", finish="content_filter")).finish is Finish.REFUSED


@pytest.mark.parametrize(("status", "said"), [(401, "does not take the key"), (404, "no such")])
def test_a_wrong_key_or_model_ends_the_run_at_once(server: Server, status: int, said: str):
    server.faults.extend([Fault(status, text="bad")] * 9)
    with pytest.raises(UsageError, match=said):
        list(endpoint(server, workers=3).complete([request(i) for i in range(9)]))
    assert len(server.asked) <= 3


def test_a_setting_the_endpoint_does_not_know_is_left_out_from_then_on(server: Server):
    server.faults.append(Fault(400, text="Unknown parameter: 'seed'"))
    server.faults.append(
        Fault(400, text="Unsupported: 'max_tokens'. Use 'max_completion_tokens' instead.")
    )
    replies = list(endpoint(server).complete([request(0), request(1)]))
    assert [r.text for r in replies] == ["Said 0", "Said 1"]
    assert "seed" not in server.asked[-1]
    assert server.asked[-1]["max_completion_tokens"] == 20
    assert "max_tokens" not in server.asked[-1]


def test_a_limit_that_others_meet_too_costs_no_tries(server: Server):
    limits = [Fault(429, text="slow down")] * (3 * QUICK.retries)
    quick = replace(QUICK, most_wait_s=0.02)
    server.faults.extend(limits)
    assert next(endpoint(server, patience=quick).complete([request()])).text == "Said 0"
    impatient = replace(quick, limited_s=0.0)
    server.faults.extend(limits)
    with pytest.raises(UnavailableError, match="HTTP 429: slow down"):
        list(endpoint(server, patience=impatient).complete([request()]))


def test_a_request_that_is_too_long_is_no_reason_to_leave_settings_out(server: Server):
    server.faults.append(Fault(400, text="too long: prompt and max_tokens exceed 4096"))
    replies = list(endpoint(server).complete([request(0), request(1)]))
    assert [r.finish for r in replies] == [Finish.FAILED, Finish.STOP]
    assert server.asked[-1]["max_tokens"] == 20


def test_one_request_that_fails_does_not_end_the_run(server: Server):
    requests = [request(i) for i in range(4)]
    client = endpoint(server)
    first = next(iter(client.complete(requests[:1])))
    assert first.finish is Finish.STOP
    replies = client.complete(requests)
    got = [next(replies)]
    server.faults.append(Fault(400, text="too long"))
    got += list(replies)
    assert [r.finish for r in got].count(Finish.FAILED) == 1
    assert "too long" in next(r.reason for r in got if r.finish is Finish.FAILED)


def test_a_server_that_dies_ends_the_run_after_what_was_answered():
    with serving(write=echo) as server:
        client = endpoint(server)
        replies = client.complete(request(i) for i in range(9))
        got = [next(replies), next(replies)]
    with pytest.raises(UnavailableError, match=r"does not answer: no answer.*run the same again"):
        got.extend(replies)
    assert [r.text for r in got if r.finish is Finish.STOP] == ["Said 0", "Said 1"]


def test_nobody_there_is_told_in_seconds():
    client = Endpoint("m", base_url="http://127.0.0.1:9/v1", workers=2, retry_policy=QUICK)
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9/v1 does not answer"):
        list(client.complete([request(i) for i in range(5)]))


def test_a_redirect_takes_the_key_nowhere(server: Server):
    with serving(write=echo) as other:
        server.faults.append(Fault(307, (("Location", other.url),), "moved"))
        with pytest.raises(UsageError, match="is somewhere else: HTTP 307"):
            list(endpoint(server).complete([request()]))
        assert not other.asked


def test_a_malformed_key_is_refused_and_not_shown(server: Server):
    for key in ("sk-secret\n", "sk-secret\u2019"):
        with pytest.raises(UsageError, match="OPENAI_API_KEY must consist of") as caught:
            Endpoint("m", base_url=server.url, key=key)
        assert "secret" not in str(caught.value)


def test_half_a_surrogate_pair_in_a_prompt_is_sent(server: Server):
    server.write = lambda _: "Fine."
    odd = Request((Message("user", "Say \ud83d"),), max_tokens=20)
    next(endpoint(server).complete([odd]))
    assert server.asked[0]["messages"][0]["content"] == "Say \ud83d"


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, server: Server):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UsageError, match="OPENAI_API_KEY is not set"):
        Endpoint("m")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert next(Endpoint("m").complete([request()])).text == "Said 0"  # needs no key
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    named = Endpoint("m")
    next(named.complete([request()]))
    assert server.keys == [None, "Bearer secret"]
    assert "secret" not in named.name
    with pytest.raises(UsageError, match="needs a model's name"):
        Endpoint("")
    with pytest.raises(UsageError, match="OPENAI_BASE_URL must be http"):
        Endpoint("m", base_url="localhost:8000")


def test_json_is_asked_for_where_the_request_says_so(server: Server):
    wanted = Request((Message("user", json.dumps({})),), 5, as_json=True)
    next(endpoint(server).complete([wanted]))
    assert server.asked[0]["response_format"] == {"type": "json_object"}
