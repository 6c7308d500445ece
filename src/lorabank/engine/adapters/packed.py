"""Adapters as small as their file: a rank for each layer, in float32, bfloat16 or int8.

The file has A (k, in) and B (out, k) of each layer, and `rank_pattern` in PEFT's configuration. The
scale of a layer is lora_alpha / k, as every reader has it that looks at the ranks of tensors. There
is no `alpha_pattern`, which some readers ignore: what a layer's scale is off by is put into B.

In int8 each row of A and each column of B has a scale of its own, so that its largest number is
127. Such tensors have names that PEFT does not know; a bank stores them, and exports float32.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor

from lorabank.errors import UsageError

StoredDtype = Literal["float32", "bf16", "int8"]
STORED_DTYPES: tuple[StoredDtype, ...] = get_args(StoredDtype)
PREFIX = "base_model.model."
INT8, SCALE = ".int8", ".scale"  # after the name that PEFT would give the tensor
_HEADER_BYTES = 1 << 20  # of a file, where the names of its tensors are
_TORCH_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Packed:
    """An adapter's tensors as they are stored."""

    tensors: Mapping[str, Tensor]
    """Tensors by their names in the file."""
    ranks: Mapping[str, int]
    """Rank of each layer."""

    @property
    def r(self) -> int:
        """Largest rank, which is PEFT's `r` and `lora_alpha`."""
        return max(self.ranks.values())

    @property
    def n_bytes(self) -> int:
        """Size of all numbers."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def weights(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return A (r, in) and B (out, r) by layer as they are read again, for the scale 1."""
        tensors = as_floats(self.tensors)
        read = {}
        for path, k in self.ranks.items():
            a, b = (tensors[tensor_name(path, letter)].float() for letter in "AB")
            n_missing = self.r - k
            read[path] = F.pad(a, (0, 0, 0, n_missing)), F.pad(b * (self.r / k), (0, n_missing))
        return read


def parse_dtype(name: str) -> StoredDtype:
    """Return the dtype of that name.

    Raises:
        UsageError: there is no such dtype.
    """
    for known in STORED_DTYPES:
        if known == name:
            return known
    raise UsageError(f"--dtype must be {', '.join(STORED_DTYPES)}, got {name!r}")


def tensor_name(path: str, letter: str) -> str:
    """Return PEFT's name of A or B of a layer."""
    return f"{PREFIX}{path}.lora_{letter}.weight"


@torch.no_grad()
def pack(layers: Mapping[str, tuple[Tensor, Tensor]], dtype: StoredDtype) -> Packed:
    """Return layers as they are stored.

    Args:
        layers: A (k, in) and B (out, k) by path, for the scale 1; k may differ.
    """
    ranks = {path: len(a) for path, (a, _) in layers.items()}
    largest = max(ranks.values())
    tensors: dict[str, Tensor] = {}
    for path, (a, b) in layers.items():
        folded = b * (ranks[path] / largest)
        for letter, tensor, dim in (("A", a, 1), ("B", folded, 0)):
            name = tensor_name(path, letter)
            if dtype == "int8":
                numbers, scale = _quantised(tensor.float(), dim)
                tensors[name + INT8], tensors[name + SCALE] = numbers, scale
            else:
                tensors[name] = tensor.to(_TORCH_DTYPES[dtype]).contiguous().cpu()
    return Packed(tensors, ranks)


def _quantised(tensor: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return int8 numbers and the scales (float32) that they are multiplied by along `dim`."""
    scale = tensor.abs().amax(dim=dim, keepdim=True).clamp(min=1e-30) / 127
    numbers = (tensor / scale).round().clamp(-127, 127).to(torch.int8)
    return numbers.contiguous().cpu(), scale.contiguous().cpu()


def as_floats(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file under PEFT's names, those in int8 as float32.

    Numbers without their scale, or of another dtype or shape, are left as they are, to be refused
    by their names.
    """
    floats = dict(tensors)
    for name, numbers in tensors.items():
        scale = tensors.get(name.removesuffix(INT8) + SCALE)
        fits = scale is not None and scale.dim() == numbers.dim() and scale.dtype == torch.float32
        if not name.endswith(INT8) or numbers.dtype != torch.int8 or not fits:
            continue
        assert scale is not None
        sides = zip(scale.shape, numbers.shape, strict=True)
        if all(width in (1, n) for width, n in sides):
            plain = name.removesuffix(INT8)
            floats[plain] = numbers.float() * scale
            del floats[name], floats[plain + SCALE]
    return floats


def as_float_file(content: bytes) -> bytes:
    """Return a safetensors file as PEFT reads it: int8 is written as float32."""
    if INT8.encode() not in content[:_HEADER_BYTES]:
        return content
    floats = as_floats(load(content))
    made: bytes = save(floats, metadata={"format": "pt"})
    return made
