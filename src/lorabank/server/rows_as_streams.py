"""Rows of the model's thread as streams of the server's event loop."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from fastapi import Request

from lorabank.engine.inference.running_batch import WrittenToken
from lorabank.server.requests import server_of, timed_out
from lorabank.server.row_writer import RowOrder
from lorabank.server.token_text import Decode, TokenText

_LOOKS_EVERY_S = 0.5  # whether the client is still there


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of a row that was just written."""

    text: str
    """Text that can be shown now; may be empty."""
    token: WrittenToken | None = None
    """The token; None for one that ended the turn."""
    finish: str | None = None
    """`stop` or `length` with the last piece."""


class RowStream:
    """A listener whose pieces are awaited in the event loop."""

    def __init__(self, decode: Decode, stops: tuple[str, ...]):
        self.text = TokenText(decode, stops)
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Piece | BaseException] = asyncio.Queue()

    def wrote(self, token: WrittenToken) -> bool:
        """Take a token in the model's thread."""
        if token.finish == "stop":
            self._put(Piece(self.text.end(), None, "stop"))
            return False
        text = self.text.add(token.token)
        finish = "stop" if self.text.is_stopped else token.finish
        if finish:
            text += self.text.end()
        self._put(Piece(text, token, finish))
        return finish is None

    def failed(self, error: BaseException) -> None:
        """Take an error in the model's thread."""
        self._put(error)

    def _put(self, item: Piece | BaseException) -> None:
        self._loop.call_soon_threadsafe(self._pieces.put_nowait, item)

    async def next(self, timeout_s: float) -> Piece:
        """Wait for the next piece.

        Raises:
            TimeoutError: there is none yet.
        """
        item = await asyncio.wait_for(self._pieces.get(), timeout_s)
        if isinstance(item, BaseException):
            raise item
        return item


async def follow_row(request: Request, order: RowOrder, stream: RowStream) -> AsyncIterator[Piece]:
    """Yield the pieces of a row that the model was given; let it go when the client does.

    Raises:
        RefusalError: it took too long.
        LorabankError: the prompt does not fit, or the module cannot be read.
    """
    server = server_of(request)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + server.settings.timeout_s
    try:
        while True:
            try:
                piece = await stream.next(_LOOKS_EVERY_S)
            except TimeoutError:
                if loop.time() > deadline:
                    raise timed_out(server.settings) from None
                if await request.is_disconnected():
                    return
                continue
            yield piece
            if piece.finish:
                return
            if loop.time() > deadline:
                yield replace(piece, text="", token=None, finish="length")
                return
    finally:
        server.model.cancel_row(order)
