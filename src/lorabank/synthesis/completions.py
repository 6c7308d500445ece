"""Replies in the bodies of chat completions.

Servers differ: the text may be a list of parts, the counts of tokens missing or no numbers, and a
model that spent its limit on thought may send no message at all.
"""

from typing import Any

from lorabank.synthesis.generators import (
    Finish,
    Reply,
    Request,
    estimate_prompt_tokens,
    estimate_tokens,
)
from lorabank.synthesis.model_text import replace_surrogates

_LENGTH = ("length", "max_tokens", "model_length", "max_output_tokens")
_FILTERED = ("content_filter", "safety", "refusal")
_MAX_TOKENS = 1 << 31  # a larger count is none


def read_completion(request: Request, body: Any) -> Reply | None:
    """Return the reply in a chat completion; None if the body is not a completion."""
    choices = body.get("choices") if isinstance(body, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or choice.get("error"):
        return None
    finish = str(choice.get("finish_reason") or "").lower()
    message = choice.get("message")
    if message is None:
        text = choice.get("text")  # of a server of plain completions
        message = {"content": text} if isinstance(text, str) or finish in _LENGTH else None
    text = _text(message.get("content")) if isinstance(message, dict) else None
    if not isinstance(message, dict) or text is None or finish == "error":
        return None
    usage = body.get("usage")
    prompt = _count(usage, "prompt_tokens") or estimate_prompt_tokens(request)
    completion = _count(usage, "completion_tokens") or estimate_tokens(text)
    refusal = message.get("refusal")
    if refusal or finish in _FILTERED:
        reason = replace_surrogates(str(refusal or "stopped by a content filter"))
        return Reply(request, text, Finish.REFUSED, prompt, completion, reason)
    ended, reason = Finish.LENGTH if finish in _LENGTH else Finish.STOP, ""
    if not text.strip():
        thought = message.get("reasoning_content") or message.get("reasoning")
        reason = f"no text{', only thought' if thought else ''}"
        reason += f" in {request.max_tokens} tokens" if ended is Finish.LENGTH else ""
    return Reply(request, text, ended, prompt, completion, reason)


def _text(content: Any) -> str | None:
    """Return the text of a message's content, which may be a list of parts; None for neither."""
    if content is None:
        return ""
    if isinstance(content, str):
        return replace_surrogates(content)
    parts = [content] if isinstance(content, dict) else content
    if not isinstance(parts, list):
        return None
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(part, dict) and part.get("type", "text") not in ("text", "output_text"):
            continue  # a thought, a picture
        if not isinstance(text, str):
            return None
        texts.append(text)
    return replace_surrogates("".join(texts))


def _count(usage: Any, key: str) -> int:
    count = usage.get(key) if isinstance(usage, dict) else None
    is_count = isinstance(count, int | float) and 0 <= count < _MAX_TOKENS
    return int(count) if is_count and count is not None else 0
