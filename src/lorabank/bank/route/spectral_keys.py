"""Spectra of modules, kept with each version when it is written, so that routing reads no weights.

A version's file holds, for a few of its layers, the singular values and right singular vectors of
B A (lora/spectra.py). It is a file like its weights: hashed, verified, and gone when they are.

Which layers: the last one its adapter has in the attention of blocks in the upper third of those it
adapts, which is o_proj where it adapts all. In a bank of names and one of topics, lower blocks were
worse, and in the one of names only what attention has fetched tells modules apart (docs/LOG.md).
"""

from collections.abc import Sequence

import safetensors.torch

from lorabank.bank.module_reader import ModuleReader
from lorabank.engine.backbone.base import Base
from lorabank.engine.fleet.fleet import Weights
from lorabank.lora.shapes import layer_of
from lorabank.lora.spectra import Spectrum, spectrum
from lorabank.store.records import Version

SPECTRA = "spectra.safetensors"
N_BLOCKS = 4
"""Of an adapter's blocks; each costs r * n half-precision numbers per module."""


def choose_sites(base: Base, weights: Weights) -> list[str]:
    """Paths of the layers an adapter is compared with inputs at."""
    by_block: dict[int, list[str]] = {}
    for path in base.linears:
        if path in weights:
            by_block.setdefault(layer_of(path) or 0, []).append(path)
    blocks = sorted(by_block)
    upper = blocks[-max(1, len(blocks) // 3) :]
    n = min(N_BLOCKS, len(upper))
    chosen = [upper[-1 - i * len(upper) // n] for i in range(n)]
    return [_last_of_first_part(by_block[block]) for block in sorted(chosen)]


def encode_spectra(base: Base, weights: Weights, *, scale: float) -> bytes:
    """A version's file.

    Args:
        scale: alpha / r of the adapter.
    """
    tensors = {}
    for path in choose_sites(base, weights):
        a, b = (tensor.float().cpu() for tensor in weights[path])
        found = spectrum(a, b, scale=scale)
        tensors[f"{path}.s"] = found.s
        tensors[f"{path}.v"] = found.v.half().contiguous()
    content: bytes = safetensors.torch.save(tensors)
    return content


def read_spectra(reader: ModuleReader, version: Version) -> dict[str, Spectrum]:
    """What a version's file holds; made from its weights for one written without.

    Raises:
        AdapterError: the file is missing or altered.
    """
    if SPECTRA in version.files:
        content = reader.store.read(version, SPECTRA)
    else:
        adapter = reader.load_adapters([version])[0]
        scale = adapter.alpha / adapter.r
        content = encode_spectra(reader.base, adapter.weights, scale=scale)
    tensors = safetensors.torch.load(content)
    paths = [name.removesuffix(".s") for name in tensors if name.endswith(".s")]
    return {path: Spectrum(tensors[f"{path}.s"], tensors[f"{path}.v"]) for path in paths}


def _last_of_first_part(paths: Sequence[str]) -> str:
    """Of a block's layers in model order, the last in the same part as the first: its attention."""
    first = paths[0].rpartition(".")[0]
    return [path for path in paths if path.rpartition(".")[0] == first][-1]
