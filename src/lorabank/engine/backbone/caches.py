"""Caches of what the frozen base computes, which does not depend on any adapter.

Under an activated adapter (arXiv:2504.12397) the bare base reads everything before the assistant's
header, so keys and values there depend on the prompt only. Below the lowest adapted layer nothing
is adapted, so the hidden states that enter that layer depend on the tokens only. A teacher is the
bare base too (training/distillation.py). The caches belong to the base and are shared by epochs,
adapters, recall checks and questions. Each has a limit in bytes, beyond which the least recently
used entries are dropped; they are computed again when needed.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor

from lorabank.engine.backbone.prefill import KeyValues
from lorabank.lora.distillation import TeacherTargets

_GIB = 1 << 30
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Reuse:
    """A choice of the caches to use. Without any of them results are the same, but slower."""

    prompts: bool = True
    """Whether keys and values of prompts are reused where no adapter is active."""
    layers: bool = True
    """Whether hidden states below the lowest adapted layer are reused."""
    teachers: bool = True
    """Whether a teacher's predictions are reused, and its documents while it predicts."""


REUSE_ALL = Reuse()


class LruCache(Generic[_V]):
    """A cache with a limit in bytes that drops the least recently used values first."""

    def __init__(self, max_bytes: int, size: Callable[[_V], int]):
        self.max_bytes, self._size = max_bytes, size
        self._values: OrderedDict[Hashable, _V] = OrderedDict()
        self.n_bytes = 0
        self.n_computed = 0

    def get(self, keys: Sequence[Hashable], compute: Callable[[list[int]], list[_V]]) -> list[_V]:
        """Return a value for each key, computing those that are not in the cache.

        Args:
            compute: returns the values of the keys at given positions in `keys`.
        """
        values: dict[Hashable, _V] = {}
        for key in keys:
            if key in self._values:
                self._values.move_to_end(key)
                values[key] = self._values[key]
        missing = [i for i, key in enumerate(keys) if key not in values]
        missing = list({keys[i]: i for i in missing}.values())  # one position for each key
        if missing:
            for i, value in zip(missing, compute(missing), strict=True):
                values[keys[i]] = value
                self._add(keys[i], value)
            self.n_computed += len(missing)
        return [values[key] for key in keys]

    def clear(self) -> None:
        """Drop all values."""
        self._values.clear()
        self.n_bytes = 0

    def __contains__(self, key: Hashable) -> bool:
        """Return whether a key is in the cache; nothing is computed."""
        return key in self._values

    def _add(self, key: Hashable, value: _V) -> None:
        self._values[key] = value
        self.n_bytes += self._size(value)
        while self.n_bytes > self.max_bytes:
            _, dropped = self._values.popitem(last=False)
            self.n_bytes -= self._size(dropped)


def new_prompt_cache(max_bytes: int = 2 * _GIB) -> LruCache[KeyValues]:
    """Return an empty cache of prompts' keys and values."""
    return LruCache(max_bytes, lambda value: sum(k.nbytes + v.nbytes for k, v in value))


def new_document_cache(max_bytes: int = 2 * _GIB) -> LruCache[Any]:
    """Return an empty cache of documents, each the layers of a KV cache of transformers."""
    return LruCache(max_bytes, lambda value: sum(x.keys.nbytes + x.values.nbytes for x in value))


def new_layer_input_cache(max_bytes: int = 2 * _GIB) -> LruCache[Tensor]:
    """Return an empty cache of hidden states that enter a layer."""
    return LruCache(max_bytes, lambda value: value.nbytes)


def new_ordinary_cache(max_bytes: int = _GIB // 4) -> LruCache[Tensor]:
    """Return an empty cache of log-probabilities on ordinary replies, each (N, V)."""
    return LruCache(max_bytes, lambda value: value.nbytes)


def new_teacher_cache(max_bytes: int = 2 * _GIB) -> LruCache[TeacherTargets]:
    """Return an empty cache of teachers' predictions."""
    return LruCache(max_bytes, lambda value: value.n_bytes)
