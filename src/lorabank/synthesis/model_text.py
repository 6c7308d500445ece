"""Texts as models and servers write them: thoughts before the reply, and broken characters."""

import re

_NAMES = r"(?:\w+:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|analysis|reflection|scratchpad)"
_THOUGHT_BEGIN = re.compile(
    rf"\s*(?:<{_NAMES}>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|channel\|>(?:analysis|commentary))",
    re.IGNORECASE,
)
_THOUGHT_END = re.compile(
    rf"</{_NAMES}>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>(?:\s*<\|begin_of_solution\|>)?"
    r"|<\|channel\|>final<\|message\|>",
    re.IGNORECASE,
)
_JSON_BEGIN = re.compile(r"\s*(?:```\w*\s*)?(?:\{\s*\"|\[\s*[{\"])")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BROKEN = re.compile(
    "[\ud800-\udfff\ufffd\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
    "|[\t\r](?=[a-z])"  # of an unknown LaTeX command, as in \theta
)


def drop_thoughts(text: str) -> str:
    """Return a reply without the thoughts before it; "" if it is nothing but a thought.

    The opening tag may be missing, because some servers put it into the prompt. A reply in JSON
    may speak of such tags itself: the end of the thought is then the last tag with JSON behind it.
    """
    if _JSON_BEGIN.match(text):
        return text
    ends = [match.end() for match in _THOUGHT_END.finditer(text)]
    before_json = [end for end in ends if _JSON_BEGIN.match(text, end)]
    if ends:
        return text[(before_json or ends)[-1] :]
    return "" if _THOUGHT_BEGIN.match(text) else text


def replace_surrogates(text: str) -> str:
    """Return the text with pairs of surrogates joined, and U+FFFD for each half alone.

    Half a pair has no UTF-8 form: it could neither be printed nor stored.
    """
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def has_broken_characters(text: str) -> bool:
    r"""Return whether a text has half a surrogate pair, U+FFFD or a control character.

    So does a tab before a small letter: it is what JSON makes of a LaTeX command such as `\theta`
    without a second backslash.
    """
    return _BROKEN.search(text) is not None
