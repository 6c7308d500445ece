"""Damage to well-formed inputs: of bytes, of words, and of the values in JSON.

Every input follows from the seed, the target's name and its number, so that one that fails can be
made again.
"""

import json
import random
import re
from collections.abc import Sequence
from typing import Any

# Written by hand into JSON, since json.dumps cannot write them.
RAW_VALUES = (
    "[" * 3_000,
    "[" * 300 + "]" * 300,
    '{"a":' * 200 + "1" + "}" * 200,
    "9" * 5_000,
    "1e400",
    "-1e400",
    "NaN",
    "-Infinity",
    '"\\ud800"',
    '"\\u0000"',
    '{"a": 1, "a": 2}',
    "1" * 40,
    "1.5e308",
)
VALUES = (
    None, True, False, 0, -1, 1, 3, 2**31, 2**62, 0.5, -0.0, 1e300, "", " ", "x", "0", "a/b",
    "../x", "e\u0301", "\u200b", "\x07", "<|im_end|>", "\U0001f600", "x" * 5_000, [], {}, [[]],
    [None], [{}], {"": ""}, {"a": []}, [1, "a"], ["a", "a"],
)  # fmt: skip
WORDS = (
    b'"', b"'", b",", b";", b"\t", b"\n", b"\r", b"\r\n", b"\n\n", b"{", b"}", b"[", b"]", b"(",
    b"<", b">", b"</", b"<!--", b"-->", b"```", b"---", b"#", b"\\", b"\\u", b"\\ud800", b"\x00",
    b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", "e\u0301".encode(), "\u200b".encode(),
    "\xad".encode(), "\u2028".encode(), b"NaN", b"null", b"true", b"-1", b"0", b"1e400",
    b"9" * 400, b"9" * 5_000,
    b"[" * 3_000, b"(" * 500, b" " * 3_000, b"A. " * 1_000, b"<a " * 1_000, b"`" * 500,
    b"<div>" * 500, b"inf", b"nan", b"-", b"=", b"&#0;", b"&#xd800;", b"%00", b"__proto__",
    b"a" * 3_000,
)  # fmt: skip
_WORD = re.compile(rb'"[^"\n]*"|[\w.+-]+|[^\w\s]')
_PLACE = "\ue000raw\ue000"


def mutate(rng: random.Random, samples: Sequence[bytes]) -> bytes:
    """Return one of the samples, damaged one to four times."""
    content = rng.choice(samples)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice((_change_bytes, _change_words, _change_words, _change_json))(
            rng, content, samples
        )
    return content


def _change_bytes(rng: random.Random, content: bytes, samples: Sequence[bytes]) -> bytes:
    start = rng.randrange(len(content) + 1)
    end = min(len(content), start + rng.choice((0, 1, 2, 8, 64, 1_000)))
    match rng.randrange(6):
        case 0:
            return content[:start] + content[end:]
        case 1:
            return content[:start]
        case 2:
            return content[:start] + rng.randbytes(max(1, end - start)) + content[end:]
        case 3:
            return content[:end] + content[start:end] * rng.choice((1, 2, 50)) + content[end:]
        case 4:
            other = rng.choice(samples)
            return content[:start] + other[rng.randrange(len(other) + 1) :]
        case _:
            if start == len(content):
                return content
            flipped = bytes([content[start] ^ 1 << rng.randrange(8)])
            return content[:start] + flipped + content[start + 1 :]


def _change_words(rng: random.Random, content: bytes, samples: Sequence[bytes]) -> bytes:
    window = rng.randrange(len(content) + 1)  # long samples are not searched whole each time
    words = list(_WORD.finditer(content, window, window + 2_000))
    if not words:
        return rng.choice(WORDS) + content
    word = rng.choice(words)
    new = rng.choice(WORDS) if rng.random() < 0.8 else rng.choice(words)[0]
    end = word.start() if rng.random() < 0.4 else word.end()
    return content[: word.start()] + new + content[end:]


def _change_json(rng: random.Random, content: bytes, samples: Sequence[bytes]) -> bytes:
    """Replace, remove or double a value of JSON or of a line of JSONL."""
    lines = content.split(b"\n")
    try:
        return _change_value(rng, content)
    except (ValueError, RecursionError):
        number = rng.randrange(len(lines))
    try:
        lines[number] = _change_value(rng, lines[number])
    except (ValueError, RecursionError):
        return _change_words(rng, content, samples)
    return b"\n".join(lines)


def _change_value(rng: random.Random, content: bytes) -> bytes:
    root = [json.loads(content)]
    places: list[tuple[Any, Any]] = [(root, 0)]
    for holder, key in places:  # grows while it is read
        below = holder[key]
        if isinstance(below, dict | list):
            keys = list(below) if isinstance(below, dict) else list(range(len(below)))
            places.extend((below, k) for k in keys[:200])
    holder, key = rng.choice(places)
    raw = ""
    match rng.randrange(6):
        case 0 if isinstance(holder, dict):
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[rng.choice(("", "x", "__class__", key + " ", key.upper()))] = holder.pop(key)
        case 2 if isinstance(holder, list):
            holder.insert(key, holder[key])
        case 3:
            other, other_key = rng.choice(places)
            holder[key] = json.loads(json.dumps(other[other_key]))
        case 4:
            raw, holder[key] = rng.choice(RAW_VALUES), _PLACE
        case _:
            holder[key] = rng.choice(VALUES)
    if not root:
        return b""
    text = json.dumps(root[0], ensure_ascii=rng.random() < 0.5)
    for quoted in (json.dumps(_PLACE), json.dumps(_PLACE, ensure_ascii=False)):
        text = text.replace(quoted, raw)
    return text.encode()
