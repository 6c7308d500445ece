"""The weights in a model folder: which files contain them, and the hash that identifies them.

safetensors files are memory-mapped and read here, without torch or transformers. Hashing 270 MB
takes a fraction of a second.
"""

import contextlib
import hashlib
import json
import math
import mmap
from dataclasses import dataclass
from pathlib import Path

from lorabank.errors import ModelError

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True, slots=True)
class Weights:
    """The hash and the number of parameters of a model's weights."""

    sha256: str
    parameters: int


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that transformers would load from `folder`.

    Raises:
        ModelError: it is not a model folder, or it has no safetensors files, or not all of them.
    """
    if not (folder / "config.json").is_file():
        content = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
        raise ModelError(
            f"{folder} is not a model folder: it has no config.json (it contains {content}). "
            "Give a folder written by save_pretrained."
        )
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return [single]
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{index} cannot be read as an index of weights: {error}") from error
        if absent := [name for name in names if not (folder / name).exists()]:
            raise ModelError(
                f"{folder} lacks {absent[0]}, which its index names; download it again"
            )
        return [folder / name for name in names]
    if pickles := sorted(p.name for pattern in _PICKLES for p in folder.glob(pattern)):
        raise ModelError(
            f"{folder} has its weights only as pickle ({pickles[0]}), which can run code when it "
            "is read. If you trust it: AutoModelForCausalLM.from_pretrained(folder)"
            ".save_pretrained(new_folder) writes safetensors."
        )
    raise ModelError(f"{folder} has no weights: no model.safetensors and no index of shards")


def read_weights(folder: Path) -> Weights:
    """Hash name, dtype, shape and bytes of all tensors, in the order of their names.

    Hence the hash does not change with sharding, file metadata, or the order inside a file.

    Raises:
        ModelError: as for `weight_files`, or a file is truncated.
    """
    with contextlib.ExitStack() as stack:
        tensors: dict[str, _Tensor] = {}
        for path in weight_files(folder):
            for name, tensor in _tensors_of(path, stack).items():
                if name in tensors:
                    raise ModelError(f"{folder} contains the tensor {name} twice")
                tensors[name] = tensor
        digest = hashlib.sha256()
        for name, tensor in sorted(tensors.items()):
            digest.update(json.dumps([name, tensor.dtype, tensor.shape]).encode() + b"\n")
            digest.update(tensor.view)
        parameters = sum(math.prod(tensor.shape) for tensor in tensors.values())
        head = tensors.get("lm_head.weight")
        # Most files omit a tied output layer; some contain it as a copy of the input layer.
        if head and any(
            name != "lm_head.weight" and tensor.shape == head.shape and tensor.view == head.view
            for name, tensor in tensors.items()
        ):
            parameters -= math.prod(head.shape)
    return Weights(digest.hexdigest(), parameters)


@dataclass(frozen=True, slots=True)
class _Tensor:
    dtype: str
    shape: list[int]
    view: memoryview


def _tensors_of(path: Path, stack: contextlib.ExitStack) -> dict[str, _Tensor]:
    """Return views into the memory-mapped file by tensor name, valid as long as `stack` is open."""
    try:
        with path.open("rb") as file:
            mapped = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        whole = stack.enter_context(memoryview(mapped))
        start = 8 + int.from_bytes(whole[:8], "little")
        header = json.loads(bytes(whole[8:start]))
        header.pop("__metadata__", None)
        tensors = {}
        for name, entry in header.items():
            first, end = entry["data_offsets"]
            view = stack.enter_context(whole[start + first : start + end])
            if view.nbytes != end - first:
                raise ValueError(f"the data of {name} is cut off")
            tensors[name] = _Tensor(entry["dtype"], entry["shape"], view)
        return tensors
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} is not a complete safetensors file: {_first_line(error)}; download it again"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0][:200]
