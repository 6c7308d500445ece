"""Records as other tools write them: Alpaca, ShareGPT, OpenAI's messages, and pairs of other names.

A record becomes one of ours, with `prompt` and `answer` or with `messages`; what is ours already
stays as it is. Answers of another tool may have its traces: a `<think>` block before them is left
out, and so is a fence of code around the whole of a text that is no code. An answer that is null,
a thought without end and a turn of a tool are refused by name.
"""

import re
from collections.abc import Mapping
from typing import Any

from lorabank.errors import DataError

_PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("instruction", "output"),
    ("instruction", "response"),
)
"""Names of prompt and answer in other tools' records."""
LAYOUTS = (
    'prompt and answer; "messages"; ShareGPT\'s "conversations"; Alpaca\'s "instruction" and '
    '"output"; prompt and completion; question and answer'
)
_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "system": "system",
}
_THOUGHT = re.compile(r"\s*<think(?:ing)?>.*?</think(?:ing)?>\s*", re.DOTALL)
_FENCE = re.compile(r"\s*```(?P<kind>\w*)[ \t]*\n(?P<text>.*?)\n?```\s*", re.DOTALL)
_NO_CODE = {"", "text", "txt", "markdown", "md", "plaintext"}


def own_record(where: str, record: Mapping[str, object]) -> Mapping[str, object]:
    """Return a record in our own layout; one of no known layout is returned as it is.

    Raises:
        DataError: an answer that is null or a thought without end, or turns that are no messages.
    """
    if "prompt" in record and "answer" in record:
        return record
    if "messages" in record:
        return {"messages": _messages(where, record["messages"], "messages", ("role", "content"))}
    if "conversations" in record:
        turns = _messages(where, record["conversations"], "conversations", ("from", "value"))
        return {"messages": [*_system(record), *turns]}
    for prompt, answer in _PAIRS:
        if prompt in record and answer in record:
            return _pair(where, record, prompt, answer)
    return record


def _pair(
    where: str, record: Mapping[str, object], prompt: str, answer: str
) -> Mapping[str, object]:
    """Return a record of a prompt and an answer, which may be lists of messages."""
    question, reply = record[prompt], record[answer]
    if isinstance(question, list) and isinstance(reply, list):
        return {"messages": _messages(where, [*question, *reply], prompt, ("role", "content"))}
    if reply is None:
        raise DataError(f"{where}: {answer} is null; write the answer, or leave the record out")
    if not isinstance(question, str) or not isinstance(reply, str):
        return {"prompt": question, "answer": reply}  # refused by its own names
    if prompt == "instruction" and isinstance(added := record.get("input"), str) and added.strip():
        question = f"{question.rstrip()}\n{added}"
    reply = _plain_answer(where, answer, reply)
    earlier = [*_system(record), *_history(where, record)]
    if not earlier:
        return {"prompt": question, "answer": reply}
    own = [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
    return {"messages": [*earlier, *own]}


def _system(record: Mapping[str, object]) -> list[dict[str, str]]:
    text = record.get("system")
    is_text = isinstance(text, str) and text.strip()
    return [{"role": "system", "content": str(text)}] if is_text else []


def _history(where: str, record: Mapping[str, object]) -> list[dict[str, str]]:
    """Return the turns before the question, as LLaMA-Factory's Alpaca files have them."""
    history = record.get("history") or []
    if not isinstance(history, list) or not all(
        isinstance(pair, list) and [type(text) for text in pair] == [str, str] for pair in history
    ):
        raise DataError(f"{where}: history must be a list of pairs of text, got {history!r:.60}")
    roles = ("user", "assistant")
    return [{"role": r, "content": t} for pair in history for r, t in zip(roles, pair, strict=True)]


def _messages(where: str, value: object, name: str, keys: tuple[str, str]) -> list[Any]:
    """Return turns with our roles and plain texts, the last one as a plain answer."""
    if not isinstance(value, list | tuple):
        return [value]  # refused by its own names
    who, what = keys
    turns: list[Any] = []
    for number, turn in enumerate(value, start=1):
        if not isinstance(turn, Mapping):
            return list(value)
        role = turn.get(who, turn.get("role"))
        if not isinstance(role, str) or role.lower() not in _ROLES:
            raise DataError(
                f"{where}: turn {number} of {name} is from {role!r:.40}, which is not learnt here; "
                f"take {', '.join(dict.fromkeys(_ROLES))}, or leave the record out"
            )
        text = turn.get(what, turn.get("content"))
        if isinstance(text, list):
            text = _joined(text)
        if text is None:
            raise DataError(
                f"{where}: turn {number} of {name} is null or calls a tool; write its text, or "
                "leave the record out"
            )
        turns.append({"role": _ROLES[role.lower()], "content": text})
    if turns and turns[-1]["role"] == "assistant" and isinstance(turns[-1]["content"], str):
        turns[-1]["content"] = _plain_answer(where, "the last turn", turns[-1]["content"])
    return turns


def _joined(parts: list[Any]) -> object:
    """Return the text of a turn that is given in parts; None if a part is no text."""
    texts = [
        p.get("text") if isinstance(p, Mapping) and p.get("type") == "text" else None for p in parts
    ]
    return "".join(map(str, texts)) if texts and None not in texts else None


def _plain_answer(where: str, name: str, text: str) -> str:
    """Return an answer without the thought before it and without a fence around the whole."""
    text = _THOUGHT.sub("", text, count=1) if _THOUGHT.match(text) else text
    if re.match(r"\s*<think(?:ing)?>", text):
        raise DataError(
            f"{where}: {name} has a <think> without its end, so where the answer begins is not "
            "known; end it, or leave the record out"
        )
    fence = _FENCE.fullmatch(text)
    is_text = fence is not None and fence["kind"].lower() in _NO_CODE and "```" not in fence["text"]
    return fence["text"] if fence is not None and is_text else text
