"""Control tokens that occur in people's text, which are read as text and never as control tokens.

`<|im_end|>` in a question, an answer or a passage must not end a turn. Before a template is
rendered, control tokens in contents are put between two marks that no text has; the rendered text
is then tokenised around them. Text without control tokens is tokenised as always. This is what
`sanitize_control_tokens=True` does in newer versions of transformers, to the token.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, final

_START, _END = "\ufdd0", "\ufdd1"  # code points that Unicode keeps free for such uses
_THOUGHT = re.compile(r"</?[\w:]*think[\w:]*>")


@final
class ControlTokens:
    """The control tokens of a tokenizer: special ones, and others in what its template renders."""

    def __init__(self, tokenizer: Any, rendered: Sequence[str] = ()):
        """Collect the tokens.

        Args:
            rendered: conversations in the template's rendering. Tokens for thoughts in them are
                left to people: an answer may think.
        """
        self._tokenizer = tokenizer
        text = "\0".join(rendered)
        self.contents = frozenset(
            token.content
            for token in tokenizer.added_tokens_decoder.values()
            if token.special
            or (
                token.content in text
                and not token.content.isspace()
                and not _THOUGHT.fullmatch(token.content)
            )
        )
        longest_first = sorted(self.contents, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._marked = re.compile(f"{_START}(.*?){_END}|[{_START}{_END}]", re.DOTALL)

    def mark(self, text: str) -> str:
        """Return text with its control tokens marked; the same text if it has none."""
        if not self._pattern.search(text):
            return text
        text = text.replace(_START, "").replace(_END, "")
        return self._pattern.sub(rf"{_START}\g<0>{_END}", text)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of text that may hold marked control tokens, without a BOS token."""
        first, *rest = self._marked.split(text)
        ids = self._ids(first)
        for i, piece in enumerate(rest):
            if piece:  # a lone mark, which a template may leave, is dropped
                ids += self._text_ids(piece) if i % 2 == 0 else self._after_newline(piece)
        return ids

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def _newline(self) -> list[int]:
        return self._ids("\n")

    def _after_newline(self, piece: str) -> list[int]:
        """Encode a piece from within a text.

        Some tokenizers put a space before the start of a text, hence the newline.
        """
        ids = self._ids(f"\n{piece}")
        n = len(self._newline)
        return ids[n:] if ids[:n] == self._newline else self._ids(piece)

    def _text_ids(self, token: str) -> list[int]:
        """Encode a control token as the characters it is written with."""
        ids = self._without_added(f"\n{token}")
        n = len(self._newline)
        ids = ids[n:] if ids[:n] == self._newline else self._without_added(token)
        if self._tokenizer.convert_tokens_to_ids(token) in ids:  # the vocabulary has it as a word
            return [i for letter in token for i in self._after_newline(letter)]
        return ids

    def _without_added(self, text: str) -> list[int]:
        """Encode text as if the tokenizer had no added tokens."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            return list(
                self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
                    "input_ids"
                ]
            )
        if backend.normalizer is not None:
            text = backend.normalizer.normalize_str(text)
        pieces = [text]
        if backend.pre_tokenizer is not None:
            pieces = [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
        return [token.id for piece in pieces for token in backend.model.tokenize(piece)]
