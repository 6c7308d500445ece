"""Front matter of Markdown files: the title, and where the text begins.

YAML between two lines of `---` or TOML between two of `+++`. A rule at the top of a text is written
the same way, so lines between rules count as front matter only if all of them can be YAML, and
none is a sentence where no key is a usual one: `Note: The gate opens at six.` is text.
"""

import re
import tomllib
from typing import Any

import yaml

_YAML = re.compile(
    r"\s*---[ \t]*\n((?:(?!(?:---|\.\.\.)[ \t]*(?:\n|$)).*\n)*+)(?:---|\.\.\.)[ \t]*(?:\n|$)"
)
_TOML = re.compile(r"\s*\+\+\+[ \t]*\n((?:(?!\+\+\+[ \t]*(?:\n|$)).*\n)*+)\+\+\+[ \t]*(?:\n|$)")
_TITLE = re.compile(  # the entry with the indented and blank lines that belong to it
    r"""^(["']?)title\1[ \t]*:.*(?:\n(?:[ \t].*|(?=\n)))*""", re.MULTILINE | re.IGNORECASE
)
_KEY = re.compile(r"""(?:[\w.-]{1,80}|"[^"\n]{1,80}"|'[^'\n]{1,80}')[ \t]*:(?:[ \t]|$)""")
_USUAL_KEY = re.compile(
    r"""^["']?(?:[Tt]itle|layout|tags|categor(?:y|ies)|keywords|authors?|date|description|summary"""
    r"""|slug|permalink|draft|published|weight|id|lang(?:uage)?|aliases|sidebar\w*)["']?[ \t]*:""",
    re.MULTILINE,
)
_OTHER_LINE = re.compile(r"#|[ \t]|- |-$|[\]}]")  # comments, continued values, items, closed lists
_NO_VALUE = (
    yaml.StreamStartToken,
    yaml.BlockMappingStartToken,
    yaml.KeyToken,
    yaml.ValueToken,
    yaml.AnchorToken,
    yaml.TagToken,
)
_LONGEST = 1_000  # characters of a title that are parsed
_LONGEST_TOML = 20_000


def split_front_matter(text: str) -> tuple[str, str]:
    """Return the title in the front matter, which may be empty, and the text behind it.

    A text without front matter comes back whole.
    """
    if match := _YAML.match(text):
        return (_yaml_title(match[1]), text[match.end() :]) if _is_yaml(match[1]) else ("", text)
    if match := _TOML.match(text):
        fields = _parse_toml(match[1])
        return (_text_of(fields.get("title")), text[match.end() :]) if fields else ("", text)
    return "", text


def _is_yaml(lines_between: str) -> bool:
    """Return whether lines between rules are front matter and not the text of the document."""
    lines = [line for line in lines_between.split("\n") if line.strip()]
    if not lines:
        return True  # an empty front matter, as site generators ask for
    has_key = any(map(_KEY.match, lines))
    return (
        has_key
        and not lines[0].startswith((" ", "\t"))
        and all(_KEY.match(line) or _OTHER_LINE.match(line) for line in lines)
        and (bool(_USUAL_KEY.search(lines_between)) or not any(map(_is_sentence, lines)))
    )


def _is_sentence(line: str) -> bool:
    """Return whether a line holds four words or more and ends as a sentence does."""
    words, last = line.split(maxsplit=3), line.rstrip("\"'’”“») \t")
    return last.endswith(("。", "！", "？")) or (
        len(words) > 3 and last.endswith((".", "!", "?", "…")) and last[-2:-1].isalpha()
    )


def _yaml_title(front: str) -> str:
    match = _TITLE.search(front)
    if not match:
        return ""
    entry = match[0][:_LONGEST]
    try:
        # Tokens only: what they would be built into can be deep, or a date that does not exist.
        tokens = list(yaml.scan(entry, Loader=yaml.BaseLoader))
    except (yaml.YAMLError, ValueError):
        # `title: Pumps: all` is no YAML, yet its meaning is plain.
        return entry.partition(":")[2].partition("\n")[0].partition(" #")[0].strip(" \t\"'")
    _, *value = (t for t in tokens if not isinstance(t, _NO_VALUE))
    return value[0].value if value and isinstance(value[0], yaml.ScalarToken) else ""


def _parse_toml(front: str) -> dict[str, Any]:
    try:
        return tomllib.loads(front) if len(front) <= _LONGEST_TOML else {}
    except (tomllib.TOMLDecodeError, ValueError, RecursionError):
        return {}


def _text_of(value: object) -> str:
    return value if isinstance(value, str) else ""
