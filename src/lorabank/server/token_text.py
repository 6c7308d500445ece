"""Tokens of a row as text that only ever grows, cut before a text that ends it."""

from collections.abc import Callable, Sequence

_HALF = "\ufffd"  # what a tokenizer gives for a character whose bytes are not all there
Decode = Callable[[Sequence[int]], str]


class TokenText:
    """The text of a row, and what of it has been given out."""

    def __init__(self, decode: Decode, stops: Sequence[str] = ()):
        """Begin without tokens.

        Args:
            decode: tokens -> text.
            stops: texts that end the row, and are no part of it.
        """
        self._decode, self._stops = decode, tuple(stops)
        self._held = max((len(stop) for stop in self._stops), default=1) - 1
        self._n_given = 0
        self.ids: list[int] = []
        self.text = ""
        """Text so far, without the text that ended it."""
        self.is_stopped = False
        """Whether one of the texts that end the row has been written."""

    def add(self, token: int) -> str:
        """Take a token; return what can be given out now."""
        self.ids.append(token)
        self.text = self._decode(self.ids).rstrip(_HALF)
        start = max(0, self._n_given - self._held)
        ends = [self.text.find(stop, start) for stop in self._stops]
        if any(end >= 0 for end in ends):
            self.text = self.text[: min(end for end in ends if end >= 0)]
            self.is_stopped = True
            return self.end()
        return self._give(len(self.text) - self._held)

    def end(self) -> str:
        """Return what is left to be given out when the row has ended."""
        return self._give(len(self.text))

    def _give(self, end: int) -> str:
        piece = self.text[self._n_given : max(end, self._n_given)]
        self._n_given += len(piece)
        return piece
