"""Adapters of lower rank: each layer's update cut to its largest singular triples.

The first k triples of a layer are its best approximation in rank k (`lora/triples.py`). Which
triples of which layers are worth their numbers is decided over all layers together: a triple of
value s costs in + out numbers, and cutting it changes the squared norm of the updates by s^2.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from lorabank.lora.triples import Triples


def by_worth(layers: Mapping[str, Triples]) -> list[str]:
    """Return the layer of each triple, the triple that is worth most for its size first.

    Those of one layer come in the order of their values, so a prefix of the list is a rank for
    each layer.
    """
    worth = [
        (float(s) ** 2 / (len(triples.u) + triples.vh.shape[1]), path)
        for path, triples in layers.items()
        for s in triples.s
    ]
    return [path for _, path in sorted(worth, key=lambda pair: -pair[0])]


def ranks_of(order: Sequence[str], n: int, *, most_r: int | None = None) -> dict[str, int]:
    """Return the rank of each layer that keeps any of the first `n` triples.

    Args:
        order: what `by_worth` returned.
        most_r: largest rank of a layer; None for no limit.
    """
    counts = Counter(order[:n])
    return {path: k if most_r is None else min(k, most_r) for path, k in counts.items()}
