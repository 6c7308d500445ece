"""What the frozen base computes is computed once.

Three things depend on no adapter. Under an activated adapter (arXiv:2504.12397) everything before
the assistant's header is read by the bare base, so its keys and values belong to the prompt alone.
Below the lowest adapted layer nothing is adapted, so the hidden states that enter that layer
belong to the tokens alone. And a teacher is the bare base (teacher.py). All three are kept with the
base, across epochs, adapters, recall checks and questions, each under a bound in bytes; past it the
least recently used go and are computed again when asked for.
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
    """What may be kept. All of it off gives the same numbers, more slowly."""

    prompts: bool = True
    """Keys and values of prompts that no adapter touches."""
    layers: bool = True
    """Hidden states below the lowest adapted layer."""
    teachers: bool = True
    """What teachers say, and for the time they speak their documents."""


REUSE_ALL = Reuse()


class LruCache(Generic[_V]):
    """Values by key under a bound in bytes; the least recently used leave first."""

    def __init__(self, max_bytes: int, size: Callable[[_V], int]):
        self.max_bytes, self._size = max_bytes, size
        self._held: OrderedDict[Hashable, _V] = OrderedDict()
        self.n_bytes = 0
        self.n_computed = 0

    def get(self, keys: Sequence[Hashable], compute: Callable[[list[int]], list[_V]]) -> list[_V]:
        """A value for each key; `compute` makes those of the positions it is given."""
        found: dict[Hashable, _V] = {}
        for key in keys:
            if key in self._held:
                self._held.move_to_end(key)
                found[key] = self._held[key]
        missing = [i for i, key in enumerate(keys) if key not in found]
        missing = list({keys[i]: i for i in missing}.values())  # each once
        if missing:
            for i, value in zip(missing, compute(missing), strict=True):
                found[keys[i]] = value
                self._keep(keys[i], value)
            self.n_computed += len(missing)
        return [found[key] for key in keys]

    def clear(self) -> None:
        """Let go of everything."""
        self._held.clear()
        self.n_bytes = 0

    def __contains__(self, key: Hashable) -> bool:
        """Whether it is there without computing anything."""
        return key in self._held

    def _keep(self, key: Hashable, value: _V) -> None:
        self._held[key] = value
        self.n_bytes += self._size(value)
        while self.n_bytes > self.max_bytes:
            _, gone = self._held.popitem(last=False)
            self.n_bytes -= self._size(gone)


def new_prompt_cache(max_bytes: int = 2 * _GIB) -> LruCache[KeyValues]:
    return LruCache(max_bytes, lambda value: sum(k.nbytes + v.nbytes for k, v in value))


def new_document_cache(max_bytes: int = 2 * _GIB) -> LruCache[Any]:
    """Of documents: the layers of a cache each."""
    return LruCache(max_bytes, lambda value: sum(x.keys.nbytes + x.values.nbytes for x in value))


def new_layer_input_cache(max_bytes: int = 2 * _GIB) -> LruCache[Tensor]:
    return LruCache(max_bytes, lambda value: value.nbytes)


def new_teacher_cache(max_bytes: int = 2 * _GIB) -> LruCache[TeacherTargets]:
    return LruCache(max_bytes, lambda value: value.n_bytes)
