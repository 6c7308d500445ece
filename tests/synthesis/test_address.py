"""Where requests are sent and with which key, and that no key is ever shown."""

import pytest

from lorabank.errors import UnavailableError, UsageError
from lorabank.synthesis.endpoint import Endpoint, RetryPolicy
from lorabank.synthesis.generators import Request
from lorabank.tasks.examples import Message
from tests.synthesis.chat_server import Fault, Server, echo, serving

QUICK = RetryPolicy(timeout_s=30.0, retries=3, first_wait_s=0.01, most_wait_s=2.0)


def request() -> Request:
    return Request((Message("user", "Say 0"),), max_tokens=20, temperature=0.5, seed=0)


def test_a_redirect_is_refused_and_the_key_not_sent_on(server: Server):
    with serving(write=echo) as other:
        server.faults.append(Fault(307, (("Location", other.url),), "moved"))
        with pytest.raises(UsageError, match="is somewhere else: HTTP 307"):
            list(Endpoint("small", base_url=server.url, key="k").complete([request()]))
        assert not other.requests


def test_a_malformed_key_is_refused_and_not_shown(server: Server):
    for key in ("sk-sec\nret", "sk-\u2019secret", "sk-secr\xe9t"):
        with pytest.raises(UsageError, match="OPENAI_API_KEY must consist of") as error:
            Endpoint("m", base_url=server.url, key=key)
        assert "sec" not in str(error.value)


@pytest.mark.parametrize(
    "key", ["sk-key123\r\n", " 'sk-key123' ", "“sk-key123”", "Bearer sk-key123"]
)
def test_what_a_settings_file_leaves_around_a_key_is_dropped(server: Server, key: str):
    next(Endpoint("m", base_url=f"{server.url}/\r\n", key=key).complete([request()]))
    assert server.keys == ["Bearer sk-key123"]
    assert server.paths == ["/v1/chat/completions"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(400, text='{"error": {"message": "no: Bearer sk-key/123 is unknown"}}'),
        Fault(400, text='{"detail": "sk-key\\/123"}'),
        Fault(400, text="GET /?key=sk-key%2F123"),
        Fault(400, text="sk-key/123"),
        Fault(content="Your key is sk-key/123."),
        Fault(refusal="I will not tell sk-key/123."),
        Fault(text='{"sk-key/123": 1}'),
        Fault(text='{"error": {"message": "sk-key/123", "code": 400}}'),
        Fault(text="<p>sk-key/123</p>"),
    ],
)
def test_a_key_that_the_server_echoes_is_never_shown(server: Server, fault: Fault):
    server.faults.extend([fault] * 9)
    client = Endpoint("m", base_url=server.url, key="sk-key/123", retry_policy=QUICK)
    try:
        reply = next(client.complete([request()]))
        shown = f"{reply.text} {reply.reason}"
    except UnavailableError as error:
        shown = str(error)
    assert "[key]" in shown
    assert "123" not in shown.replace("127.0.0.1", "")


def test_a_key_that_is_a_word_of_the_prompt_stays_in_the_reply(server: Server):
    client = Endpoint("m", base_url=server.url, key="lm-studio")
    odd_request = Request((Message("user", "Say lm-studio"),), max_tokens=20)
    assert next(client.complete([odd_request])).text == "Said lm-studio"


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://host:port/v1", "http://host:99999/v1", "http://u:pass-word@h/v1",
     "http://:pass-word@h/v1", "http:///v1", "ftp://h/v1", "http://h\n/v1", "http://a b/v1", "h"],
)  # fmt: skip
def test_a_bad_url_is_refused_in_one_line(url: str):
    with pytest.raises(UsageError, match="OPENAI_BASE_URL must be http") as error:
        Endpoint("m", base_url=url, key="k")
    assert "\n" not in str(error.value)
    assert "pass-word" not in str(error.value)


def test_a_query_is_kept_and_its_secrets_are_not_shown(server: Server):
    query = "?api-version=2024-10-21&code=hidden-key"
    for path in ("", "/", "/chat/completions"):
        client = Endpoint("m", base_url=f"{server.url}{path}{query}", key="k")
        server.faults.append(Fault(400, text=f"no such path {query}"))
        reply = next(client.complete([request()]))
        assert reply.reason == "HTTP 400: no such path ?api-version=2024-10-21&code=[key]"
        assert client.name == f"openai:m@{server.url}"
    assert server.paths == [f"/v1/chat/completions{query}"] * 3


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
