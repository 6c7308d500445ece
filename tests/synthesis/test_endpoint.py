"""The client against a real server that misbehaves in many ways."""

import json
import threading
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

from lorabank.errors import UnavailableError, UsageError
from lorabank.synthesis.cache import ReplyCache
from lorabank.synthesis.endpoint import Endpoint, RetryPolicy
from lorabank.synthesis.generators import Finish, Reply, Request
from lorabank.tasks.examples import Message
from tests.synthesis.chat_server import Body, Fault, Server, echo, serving

QUICK = RetryPolicy(timeout_s=30.0, retries=3, first_wait_s=0.01, most_wait_s=2.0)


def request(i: int = 0) -> Request:
    return Request((Message("user", f"Say {i}"),), max_tokens=20, temperature=0.5, seed=i)


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


@pytest.mark.parametrize("form", [str, lambda s: formatdate(time.time() + s + 2, usegmt=True)])
def test_retry_after_holds_for_all_workers(server: Server, form):  # type: ignore[no-untyped-def]
    server.faults.append(Fault(429, (("Retry-After", form(1)),), "limit"))
    patient = replace(QUICK, most_wait_s=9.0)
    list(endpoint(server, workers=2, retry_policy=patient).complete(map(request, range(6))))
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


@pytest.mark.parametrize(
    ("status", "body", "left_out"),
    [
        (400, {"error": "'response_format.type' must be 'json_schema' or 'text'"},
         "response_format"),
        (422, {"message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"],
               "msg": "Extra inputs are not permitted", "input": 3}]}}, "seed"),
        (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "top_p"],
               "msg": "Extra inputs are not permitted", "input": {"seed": 1}}]}, "top_p"),
        (400, {"error": {"message": "Unsupported value", "param": "temperature"}}, "temperature"),
        (400, {"error": {"message": f"Unsupported: {'long ' * 99} ['seed'], for model=m"}}, "seed"),
        (404, {"error": {"message": "No endpoints found that can handle the requested parameters: "
               "response_format", "code": 404}}, "response_format"),
        (501, {"error": {"message": "seed is not implemented"}}, "seed"),
        (500, {"error": {"message": "response_format is not supported here"}}, "response_format"),
    ],
    ids=["must be", "in loc", "beside an echo", "in param", "far behind", "404", "501", "500"],
)  # fmt: skip
def test_a_setting_is_found_wherever_it_is_named(
    server: Server, status: int, body: Body, left_out: str
):
    server.faults.append(Fault(status, text=json.dumps(body)))
    json_request = replace(request(), as_json=True)
    assert next(endpoint(server).complete([json_request])).finish is Finish.STOP
    assert server.requests[0].keys() - server.requests[1].keys() == {left_out}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (402, "{}"),
        (402, '{"error": {"message": "Insufficient Balance"}}'),
        (400, '{"error": {"message": "Your credit balance is too low to access the API"}}'),
        (200, '{"error": {"message": "This request requires more credits", "code": 402}}'),
        (403, '{"message": "Insufficient funds"}'),
    ],
)
def test_an_account_without_money_ends_the_run_at_once(server: Server, status: int, body: str):
    server.faults.extend([Fault(status, text=body)] * 9)
    with pytest.raises(UnavailableError, match="no money left"):
        list(endpoint(server).complete([request(i) for i in range(3)]))
    assert len(server.requests) == 1


def test_an_error_inside_status_200_is_what_its_code_says(server: Server):
    body = '{"error": {"message": "No credentials", "code": 401}, "choices": null}'
    server.faults.append(Fault(text=body))
    with pytest.raises(UsageError, match="does not take the key: HTTP 401: No credentials"):
        list(endpoint(server).complete([request()]))
    server.faults.append(Fault(text='{"error": {"message": "Overloaded", "code": "502"}}'))
    server.faults.append(Fault(text='{"error": {"message": "Too long", "code": 400}}'))
    assert next(endpoint(server).complete([request()])).reason == "HTTP 400: Too long"


def completion(message: object, finish: str = "stop", **more: object) -> Fault:
    choice = {"message": message, "finish_reason": finish}
    return Fault(text=json.dumps({"choices": [choice], **more}))


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (completion({"content": [{"type": "thinking", "thinking": [{"text": "hm"}]},
                                 {"type": "text", "text": "Said"}, {"text": " 0"}]}), "Said 0"),
        (completion({"content": "Said 0", "reasoning_content": "Hm."}), "Said 0"),
        (completion({"content": "Said \ud83d"}), "Said \ufffd"),
        (completion({"content": "Said \ud83d\ude00"}), "Said 😀"),
        (Fault(text='{"choices": [{"text": "Said 0"}]}'), "Said 0"),
        *((Fault(text='{"choices": [{"message": {"content": "Said 0"}}], "usage": '
                 f'{{"prompt_tokens": {n}, "completion_tokens": {n}}}}}'), "Said 0")
          for n in ("1e999", "9" * 5000, "-1", "NaN", '"7"', "[]", "9223372036854775808")),
    ],
)  # fmt: skip
def test_odd_completions_are_read_and_stored(
    server: Server, tmp_path: Path, fault: Fault, text: str
):
    reply = reply_after(server, fault)
    assert (reply.text, reply.finish) == (text, Finish.STOP)
    assert (reply.prompt_tokens, reply.completion_tokens) == (6, -(-len(text) // 4))
    with ReplyCache(tmp_path / "c") as cache:
        cache.put(endpoint(server), reply)
        assert cache.get(endpoint(server), request()) == reply


@pytest.mark.parametrize("message", [None, {"content": None, "reasoning_content": "Hm, so"}])
def test_a_reply_that_is_thought_alone_is_cut_off(server: Server, message: object):
    reply = reply_after(server, completion(message, "length"))
    assert (reply.text, reply.finish) == ("", Finish.LENGTH)
    assert "in 20 tokens" in reply.reason


@pytest.mark.parametrize(
    "text",
    ['{"choices":' * 900 + "1" + "}" * 900, "[" * 90_000, '{"choices": {"0": 1}}', "null", "7",
     '{"choices": [[]]}', '{"choices": [{"message": []}]}',
     '{"error": ' + "[" * 900 + "]" * 900 + "}",
     '{"choices": [{"message": {"content": "a"}, "finish_reason": "error"}]}'],
)  # fmt: skip
def test_a_body_that_is_no_completion_is_tried_again(server: Server, text: str):
    assert reply_after(server, Fault(text=text)).text == "Said 0"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(403, text="<html><head><style>p{color: red}</style><title>Who are\nyou?</title>"
               "</head><script>let a;</script><p>Prove it.</p>"),
         "HTTP 403: Who are you? Prove it."),
        (Fault(401, text='{"error": {"type": "auth", "code": "a_b", "message": "No."}}'),
         "HTTP 401: No. auth a_b"),
    ],
)  # fmt: skip
def test_what_a_server_says_is_shown_as_a_reader_would_read_it(
    server: Server, fault: Fault, message: str
):
    server.faults.append(fault)
    with pytest.raises(UsageError) as error:
        list(endpoint(server).complete([request()]))
    assert message in str(error.value)


def test_an_empty_answer_is_said_to_be_empty(server: Server):
    server.faults.extend([Fault(text="")] * 9)
    with pytest.raises(UnavailableError, match="an answer that is not JSON: nothing"):
        list(endpoint(server).complete([request()]))


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_timeout_that_nothing_can_meet_is_refused(timeout_s: float):
    with pytest.raises(UsageError, match="--timeout must be above 0"):
        RetryPolicy(timeout_s=timeout_s)


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


def test_half_a_surrogate_pair_in_a_prompt_is_sent(server: Server):
    server.write = lambda _: "Fine."
    odd_request = Request((Message("user", "Say \ud83d"),), max_tokens=20)
    next(endpoint(server).complete([odd_request]))
    assert server.requests[0]["messages"][0]["content"] == "Say \ud83d"


def test_json_is_requested_where_the_request_says_so(server: Server):
    json_request = Request((Message("user", json.dumps({})),), 5, as_json=True)
    next(endpoint(server).complete([json_request]))
    assert server.requests[0]["response_format"] == {"type": "json_object"}
