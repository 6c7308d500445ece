"""A KV cache whose rows come and go while the others are written on.

Keys and values lie in buffers with room for more rows and columns, so a token is written in its
place where transformers' own cache copies all earlier ones. Rows end in the same column. A row that
leaves is overwritten by the last one, and a shorter row begins further to the right.
"""

from typing import Any

from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

_ROOM = 64  # columns that are added to a full buffer at least


def holds_rows_apart(cache: Cache) -> bool:
    """Return whether a filled cache has keys and values alone, so that a `RowCache` can hold it.

    States of linear attention, state spaces and convolutions, and the keys of an index, are left
    to the caches that transformers makes for them.
    """
    return all(type(layer) is DynamicLayer for layer in cache.layers)


class RowCache(Cache):  # type: ignore[misc]
    """Keys and values of rows that are written one token at a time."""

    def __init__(self, cache: Cache):
        """Copy what a cache holds for which `holds_rows_apart` is true."""
        super().__init__(layers=[_RowLayer(layer) for layer in cache.layers])

    def append(self, cache: Cache) -> None:
        """Add the rows of another cache after those of this one."""
        width = max(self.get_seq_length(), cache.get_seq_length())
        for layer, other in zip(self.layers, cache.layers, strict=True):
            if layer.is_initialized:
                layer.append(other.keys, other.values, width)

    def replace_by_last(self, row: int) -> None:
        """Drop a row; the last row takes its place."""
        for layer in self.layers:
            if layer.is_initialized:
                layer.replace_by_last(row)

    def keep_columns(self, n: int) -> None:
        """Drop all but the last `n` columns."""
        for layer in self.layers:
            if layer.is_initialized:
                layer.keep_columns(n)


class _RowLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer; `keys` and `values` are views of what is in use."""

    def __init__(self, layer: Any):
        super().__init__()
        self._first = self._n_rows = self._width = 0
        if layer.is_initialized:  # a layer that uses another's keys and values has none
            self.is_initialized = True
            self.dtype, self.device = layer.keys.dtype, layer.keys.device
            self._n_rows, self._width = layer.keys.shape[0], layer.keys.shape[2]
            self._reserve(layer.keys, layer.values, self._n_rows, self._width)

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the next (R, heads, T, d) and return all keys and values."""
        n, end = key_states.shape[2], self._first + self._width
        if end + n > self._keys.shape[2]:
            self._reserve(self.keys, self.values, self._n_rows, self._width + n)
            end = self._first + self._width
        self._keys[: self._n_rows, :, end : end + n] = key_states
        self._values[: self._n_rows, :, end : end + n] = value_states
        self._width += n
        self._show()
        return self.keys, self.values

    def append(self, keys: Tensor, values: Tensor, width: int) -> None:
        """Add rows; `width` is that of the wider of the two."""
        total, end = self._n_rows + len(keys), self._first + self._width
        if total > len(self._keys) or width > end:
            n_rows = max(total, len(self._keys) * 3 // 2)
            self._reserve(self.keys, self.values, n_rows, width)
            end = self._first + self._width
        for buffer, states in ((self._keys, keys), (self._values, values)):
            n = states.shape[2]
            buffer[self._n_rows : total, :, end - width : end - n] = 0  # what was there may be read
            buffer[self._n_rows : total, :, end - n : end] = states
        self._first, self._n_rows, self._width = end - width, total, width
        self._show()

    def replace_by_last(self, row: int) -> None:
        self._n_rows -= 1
        if row != self._n_rows:
            self.keys[row] = self.keys[self._n_rows]
            self.values[row] = self.values[self._n_rows]
        self._show()

    def keep_columns(self, n: int) -> None:
        self._first += self._width - n
        self._width = n
        self._show()

    def _reserve(self, keys: Tensor, values: Tensor, n_rows: int, width: int) -> None:
        """Move what is in use to the right of new buffers' first `width` columns.

        New memory is filled with zeros: masked columns are multiplied by 0, which leaves NaN.
        """
        room = max(_ROOM, width)
        rows, _, used, _ = keys.shape
        buffers = []
        for states in (keys, values):
            shape = (n_rows, states.shape[1], width + room, states.shape[3])
            buffer = states.new_zeros(shape)
            buffer[:rows, :, width - used : width] = states
            buffers.append(buffer)
        self._keys, self._values = buffers
        self._first = width - used
        self._show()

    def _show(self) -> None:
        columns = slice(self._first, self._first + self._width)
        self.keys = self._keys[: self._n_rows, :, columns]
        self.values = self._values[: self._n_rows, :, columns]
