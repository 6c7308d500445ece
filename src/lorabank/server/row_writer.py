"""Answers of modules and of the base, written together: rows of one running batch.

A row enters between two tokens and leaves when it has ended, whatever adapter it has. Adapters are
in the slots of one fleet. A slot is known by the hash of the weights that are in it, never by a
module's name, so that a module that was replaced, rolled back or forgotten meanwhile is not
answered from another's slot, and a row keeps the version that it began with.
"""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from lorabank.bank.bank import Bank
from lorabank.engine.adapters.adapter import CONFIG, TENSORS, Adapter
from lorabank.engine.adapters.loaded_fleet import load_slot
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.running_batch import RowRequest, RunningBatch, WrittenToken
from lorabank.engine.inference.sampling import Sampling
from lorabank.errors import LorabankError
from lorabank.store.records import Version

Content = tuple[str, str]
"""Hashes of an adapter's weights and of its configuration."""


class Listener(Protocol):
    """Somebody who waits for a row."""

    def wrote(self, token: WrittenToken) -> bool:
        """Take a token; return whether more are wanted."""

    def failed(self, error: BaseException) -> None:
        """Take an error in place of what is still missing."""


@dataclass(frozen=True, slots=True, eq=False)
class RowOrder:
    """A prompt that is to be answered, and by whom."""

    prompt: tuple[int, ...]
    listener: Listener
    version: Version | None = None
    """Version of the module that answers; None for the base."""
    max_new_tokens: int = 64
    sampling: Sampling | None = None
    n_likeliest: int | None = None
    ignores_end: bool = False
    """Whether the row is written on after the end of the turn, up to its length."""


class RowWriter:
    """The running batch of a server, used by the thread that owns the model."""

    def __init__(self, bank: Bank, *, max_rows: int):
        self._bank, self._max_rows = bank, max_rows
        self._waiting: deque[RowOrder] = deque()
        self._fleet: Fleet | None = None
        self._batch = RunningBatch(bank.base)
        self._rows: dict[int, tuple[RowOrder, int | None]] = {}
        """Order and slot of each row that is being written."""
        self._slots: list[Content | None] = []
        """Content of each slot of the fleet; the slots used last are at the end of `_used`."""
        self._used: list[int] = []

    def __len__(self) -> int:
        """Return the number of rows that are written or wait."""
        return len(self._rows) + len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._rows)

    def add(self, order: RowOrder) -> None:
        self._waiting.append(order)

    def cancel(self, order: RowOrder) -> None:
        """Let an order go, wherever it is."""
        self._waiting = deque(other for other in self._waiting if other is not order)
        for number, (other, _) in list(self._rows.items()):
            if other is order:
                self._leave(number)

    def step(self) -> None:
        """Let orders enter, and write one token of each row."""
        self._admit()
        if not self._rows:
            return
        try:
            if self._fleet is None:
                written = self._batch.step()
            else:
                with self._fleet:
                    written = self._batch.step()
        except Exception as error:  # whatever it was, nobody may wait for ever
            self._fail_all(error)
            return
        for token in written:
            self._deliver(token)

    def _deliver(self, token: WrittenToken) -> None:
        if token.row not in self._rows:
            return
        order, _ = self._rows[token.row]
        wants_more = order.listener.wrote(token)
        if token.finish or not wants_more:
            self._leave(token.row)

    def _leave(self, number: int) -> None:
        self._batch.cancel(number)
        self._rows.pop(number, None)

    def _fail_all(self, error: Exception) -> None:
        for order, _ in self._rows.values():
            order.listener.failed(error)
        self._rows.clear()
        self._fleet, self._slots, self._used = None, [], []
        self._batch = RunningBatch(self._bank.base)

    def _admit(self) -> None:
        """Let orders enter in their turn, while there is room and the fleet can hold them."""
        while self._waiting and len(self._rows) < self._max_rows:
            order = self._waiting[0]
            try:
                if order.version is None:
                    slot = None
                else:
                    adapter = self._bank.reader.load_adapters([order.version])[0]
                    if not self._can_hold(adapter):
                        if self._rows:
                            return  # the fleet is made anew when the rows of this one have ended
                        self._make_fleet(adapter)
                    slot = self._load(content_of(order.version), adapter)
                request = RowRequest(
                    order.prompt,
                    slot=slot,
                    max_new_tokens=order.max_new_tokens,
                    sampling=order.sampling,
                    n_likeliest=order.n_likeliest,
                    stops=frozenset() if order.ignores_end else None,
                )
                self._rows[self._batch.add(request)] = (order, slot)
            except (LorabankError, RuntimeError) as error:
                order.listener.failed(error)
            self._waiting.popleft()

    def _can_hold(self, adapter: Adapter) -> bool:
        fleet = self._fleet
        return (
            fleet is not None
            and adapter.r <= fleet.r
            and set(adapter.weights) <= set(fleet.regions)
        )

    def _make_fleet(self, adapter: Adapter) -> None:
        """Make a fleet that can hold an adapter beside those that the present one could."""
        old = self._fleet
        paths = dict.fromkeys([*(old.regions if old else ()), *adapter.weights])
        r = max(adapter.r, old.r if old else 0)
        ordered = [path for path in self._bank.base.linears if path in paths]
        self._fleet = Fleet(self._bank.base, paths=ordered, r=r, width=self._max_rows)
        self._slots, self._used = [None] * self._max_rows, list(range(self._max_rows))
        self._batch = RunningBatch(self._bank.base, self._fleet)

    def _load(self, content: Content, adapter: Adapter) -> int:
        """Return the slot with these weights, which are put into the one unused longest if none."""
        assert self._fleet is not None
        if content in self._slots:
            slot = self._slots.index(content)
        else:
            taken = {slot for _, slot in self._rows.values()}
            slot = next(slot for slot in self._used if slot not in taken)
            self._slots[slot] = None
            load_slot(self._fleet, slot, adapter)
            self._slots[slot] = content
        self._used.remove(slot)
        self._used.append(slot)
        return slot


def content_of(version: Version) -> Content:
    return version.files[TENSORS], version.files[CONFIG]
