"""Markdown taken off a line, so that what remains is what a reader of the page sees.

Answers are parts of these plain texts. Links keep their words, pictures and tags go, and the words
that stood in backticks are told, because they are names of settings, commands and files.
"""

import re
from html import unescape

_PICTURE = re.compile(r"!\[[^\]\n]{0,300}\](?:\([^)\n]{0,2000}\)|\[[^\]\n]{0,300}\])")
_LINK = re.compile(r"\[([^\]\n]{1,500})\](?:\([^)\n]{0,2000}\)|\[[^\]\n]{0,300}\])")
_SHORTCODE = re.compile(r"\{\{[^{}\n]{0,300}\}\}|\{#[^{}\n]{0,100}\}")
_TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,300}>")
_ADDRESS = re.compile(r"<((?:https?://|mailto:)[^<>\s]{1,500})>")
_CODE = re.compile(r"(`{1,3})([^`\n]{1,200})\1")
_STRONG = re.compile(r"(?<![\w*])(\*{1,3})(?=\S)([^*\n]{1,300})(?<=\S)\1(?![\w*])")
_UNDERSCORED = re.compile(r"(?<![\w_])(_{1,3})(?=\S)([^_\n]{1,300})(?<=\S)\1(?![\w_])")
_FOOTNOTE = re.compile(r"\[\^[^\]\n]{1,40}\]")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_HIDDEN = "\ue000{}\ue001"  # stands for a piece of code while marks around it are taken off
_HIDDEN_AT = re.compile("\ue000(\\d+)\ue001")


def plain(text: str) -> tuple[str, tuple[str, ...]]:
    """Return a text in one line without its markup, and the pieces of code in it."""
    codes: list[str] = []

    def hide(match: re.Match[str]) -> str:
        codes.append(match[2].strip())
        return _HIDDEN.format(len(codes) - 1)

    text = _CODE.sub(hide, " ".join(text.replace("\ue000", "").replace("\ue001", "").split()))
    text = _SHORTCODE.sub("", _PICTURE.sub("", text))
    text = _LINK.sub(r"\1", _FOOTNOTE.sub("", text))
    text = _TAG.sub("", _ADDRESS.sub(r"\1", text))
    for mark in (_STRONG, _STRONG, _UNDERSCORED):
        text = mark.sub(r"\2", text)
    text = unescape(_ESCAPED.sub(r"\1", text))
    text = _HIDDEN_AT.sub(lambda match: codes[int(match[1])], text)
    return " ".join(text.split()), tuple(code for code in codes if code)
