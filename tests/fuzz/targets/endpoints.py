"""What models and endpoints reply: the body of a completion, items, and scores."""

import json
from collections.abc import Iterator
from pathlib import Path

from lorabank.strict_json import parse_json
from lorabank.synthesis.answer_judge import read_judgement
from lorabank.synthesis.completions import read_completion
from lorabank.synthesis.formats import FormatKind
from lorabank.synthesis.generators import Finish, Reply, Request
from lorabank.synthesis.replies import parse_reply
from lorabank.tasks.examples import Message
from tests.fuzz.runner import Target

ITEMS = (
    '{"items": [{"question": "Who keeps it?", "answer": "Tuva"}, {"question": "x?"}]}',
    '<think>so</think>\n```json\n[{"question": "Who?", "answer": "Tuva"}]\n```\nDone.',
    "Question: Who?\nAnswer: Tuva\n\nQuestion: When?\nAnswer: 1887\n",
)
SCORES = (
    '{"score": 7, "rationale": "near"}',
    "<think>hm</think>Score: 8\nbecause",
    "**Score**: 3/10",
)
COMPLETION = {
    "choices": [
        {"message": {"content": [{"type": "text", "text": "hi"}]}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}
REQUEST = Request((Message("user", "Write."),), 9)


def targets() -> Iterator[Target]:
    yield Target("reply-items", [text.encode() for text in ITEMS], _parse_items)
    yield Target("reply-scores", [text.encode() for text in SCORES], _read_score)
    plain = {"choices": [{"message": {"content": "hi"}}]}
    bodies = [json.dumps(body).encode() for body in (COMPLETION, plain)]
    yield Target("reply-body", bodies, _read_body)


def _parse_items(data: bytes, folder: Path) -> object:
    text = data.decode("utf-8", "replace")
    return [
        parse_reply(Reply(REQUEST, text, finish), kind)
        for kind in (FormatKind.QA, FormatKind.REWRITE, FormatKind.PARAPHRASE)
        for finish in (Finish.STOP, Finish.LENGTH)
    ]


def _read_score(data: bytes, folder: Path) -> object:
    return read_judgement(Reply(REQUEST, data.decode("utf-8", "replace"), Finish.STOP))


def _read_body(data: bytes, folder: Path) -> object:
    try:
        body = parse_json(data)
    except ValueError:  # wire.py says that it is no JSON
        return None
    reply = read_completion(REQUEST, body)
    return reply and reply.text.encode()
