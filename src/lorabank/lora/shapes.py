"""The choice of linear layers to adapt, by name and depth, and the size of their adapter.

A LoRA on a linear layer of shape (out, in) is A (r, in) and B (out, r): r * (in + out) weights.
The choice is made on shapes alone, so that a bad one is refused before training starts.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from lorabank.errors import UsageError, did_you_mean

Shape = tuple[int, int]  # (out, in), as torch stores a linear weight
ALL_LINEAR = "all-linear"
# Last components of the module paths in the two halves of a decoder layer.
GROUPS = {
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "query_key_value", "dense"),
    "ffn": ("gate_proj", "up_proj", "down_proj", "gate_up_proj", "fc1", "fc2"),
}


def count_parameters(shapes: Iterable[Shape], r: int) -> int:
    return sum(r * (out + inner) for out, inner in shapes)


_MIN_WIDTH = 8  # a narrower layer has no room for an adapter of the usual rank
_MAX_RATIO = 32  # of the wide to the narrow side; projections of keys and values have at most 16
_ROUTERS = ("gate", "router")  # modules of this name, or in one, choose experts


def is_usual_target(path: str, shape: Shape) -> bool:
    """Return whether `all-linear` means a layer: not a router, nor a gate of a few numbers.

    An adapter has no room in them, and changes what every token is routed to.
    """
    narrow, wide = sorted(shape)
    is_wide = narrow >= _MIN_WIDTH and narrow * _MAX_RATIO > wide
    return is_wide and not any(part in _ROUTERS for part in path.split(".")[-2:])


def choose(
    linears: Mapping[str, Shape],
    target_modules: Sequence[str] = (ALL_LINEAR,),
    layers: Sequence[int] | None = None,
) -> list[str]:
    """Return the paths of the linear layers to adapt, in model order.

    Args:
        linears: path and shape of every linear layer that may be adapted.
        target_modules: `all-linear` (of `is_usual_target`), `attention`, `ffn`, or last components
            of paths as PEFT takes them (`q_proj`); several are joined.
        layers: numbers of decoder layers; None for all.

    Raises:
        UsageError: a name or a number matches nothing.
    """
    last = {path: path.rsplit(".", 1)[-1] for path in linears}
    names = set(last.values())
    usual = {path for path, shape in linears.items() if is_usual_target(path, shape)}
    chosen: set[str] = set()
    for target in target_modules:
        wanted = names & {*GROUPS.get(target, (target,))}
        matched = usual if target == ALL_LINEAR else {p for p in linears if last[p] in wanted}
        if not matched:
            raise UsageError(_no_target(target, names))
        chosen |= matched
    if layers is not None:
        _check_layers(layers, n_layers(linears))
    return [path for path in linears if path in chosen and (not layers or layer_of(path) in layers)]


def parse_layers(text: str, n: int) -> list[int]:
    """Return layer numbers from `0-15`, `last-10`, `last-half`, `first-4`, `3,5,7` or a mix.

    Raises:
        UsageError: the text is not of these forms, or a number is outside 0..n-1.
    """
    chosen: set[int] = set()
    for part in text.replace(" ", "").split(","):
        if part == "last-half":
            chosen |= set(range(n // 2, n))
        elif match := re.fullmatch(r"(last|first)-(\d+)", part):
            count = int(match[2])
            if not 1 <= count <= n:
                raise UsageError(f"--layers {part}: the model has {n} layers; give 1..{n}")
            chosen |= set(range(n - count, n) if match[1] == "last" else range(count))
        elif match := re.fullmatch(r"(\d+)(?:-(\d+))?", part):
            start, stop = int(match[1]), int(match[2] or match[1])
            if stop < start:
                raise UsageError(f"--layers {part}: the first number must be the smaller")
            chosen |= set(range(start, stop + 1))
        else:
            raise UsageError(
                f"--layers takes 0-15, last-10, last-half, first-4 or 3,5,7; got {part!r}"
            )
    _check_layers(sorted(chosen), n)
    return sorted(chosen)


def layer_of(path: str) -> int | None:
    """Return the decoder layer of a module path, 7 for `model.layers.7.mlp.up_proj`, or None."""
    return next((int(part) for part in path.split(".") if part.isdigit()), None)


def n_layers(linears: Iterable[str]) -> int:
    return 1 + max((layer_of(path) or 0 for path in linears), default=-1)


def _check_layers(layers: Sequence[int], n: int) -> None:
    if not layers or not all(0 <= layer < n for layer in layers):
        shown = ", ".join(str(layer) for layer in layers if not 0 <= layer < n) or "none"
        raise UsageError(f"layers must be within 0..{n - 1}, got {shown}; see --layers")


def _no_target(target: str, names: set[str]) -> str:
    hint = did_you_mean(target, names) or "."
    return (
        f"--target-modules {target} matches no linear layer{hint} "
        f"This model has {', '.join(sorted(names))}; also all-linear, attention, ffn"
    )
