"""Spectra of modules, stored with each version, so that routing loads no weights.

The file holds, for a few of the adapter's layers, the singular values and right singular vectors of
B A (lora/spectra.py). Like the weights it is hashed, verified, and dropped with its version.

The layers chosen are, in blocks of the upper third of those that are adapted, the last adapted
layer of attention, which is o_proj where all are adapted. In a bank of names and in one of topics,
lower blocks routed worse; in the bank of names only the output of attention tells modules apart
(docs/LOG.md).
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
"""Most blocks compared; each costs r * n half-precision numbers per module."""


def choose_sites(base: Base, weights: Weights) -> list[str]:
    """Return the paths of the layers at which an adapter is compared with inputs."""
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
    """Return the content of the file.

    Args:
        scale: alpha / r of the adapter.
    """
    tensors = {}
    for path in choose_sites(base, weights):
        a, b = (tensor.float().cpu() for tensor in weights[path])
        layer_spectrum = spectrum(a, b, scale=scale)
        tensors[f"{path}.s"] = layer_spectrum.s
        tensors[f"{path}.v"] = layer_spectrum.v.half().contiguous()
    content: bytes = safetensors.torch.save(tensors)
    return content


def read_spectra(reader: ModuleReader, version: Version) -> dict[str, Spectrum]:
    """Read the spectra of a version by layer, or compute them if it was written without.

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
    """Return the last layer of the same part as the first, which is the block's attention.

    Args:
        paths: adapted layers of one block, in model order.
    """
    first = paths[0].rpartition(".")[0]
    return [path for path in paths if path.rpartition(".")[0] == first][-1]
