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
from lorabank.files import read_regular_file
from lorabank.strict_json import parse_json

_MAX_INDEX_BYTES = 64 << 20
_MAX_HEADER_BYTES = 100_000_000  # as in safetensors
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
        try:
            content = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
        except OSError as error:
            raise ModelError(f"cannot read {folder}: {error.strerror}") from None
        raise ModelError(
            f"{folder} is not a model folder: it has no config.json (it contains {content}). "
            "Give a folder written by save_pretrained."
        )
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        names = _shard_names(index)
        if absent := [name for name in names if not _is_file(folder / name)]:
            raise ModelError(
                f"{folder} lacks {absent[0][:80]}, which its index names; download it again"
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


def list_tensors(folder: Path) -> dict[str, tuple[str, int]]:
    """Return the dtype and the number of elements of every tensor in a folder's weight files.

    Raises:
        ModelError: as for `read_weights`.
    """
    tensors = {}
    for path in weight_files(folder):
        with contextlib.ExitStack() as stack:
            for name, tensor in _tensors_of(path, stack).items():
                tensors[name] = (tensor.dtype, math.prod(tensor.shape))
    return tensors


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for a file
        return False


def _shard_names(index: Path) -> list[str]:
    """Return the names of the files that an index of shards names, which lie beside it."""
    try:
        content = read_regular_file(index, max_bytes=_MAX_INDEX_BYTES, follow_links=True)
        names = sorted(set(parse_json(content)["weight_map"].values()))
        for name in names:
            if not isinstance(name, str) or Path(name).name != name:
                raise ValueError(f"{str(name)[:80]!r} is not the name of a file beside it")
    except OSError as error:
        raise ModelError(f"{index} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{index} cannot be read as an index of weights: {_first_line(error)}"
        ) from None
    if not names:
        raise ModelError(f"{index} names no files of weights; download the model again")
    return names


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
        if not 8 < start <= min(len(whole), 8 + _MAX_HEADER_BYTES):
            raise ValueError("its header is cut off or too long")
        header = parse_json(bytes(whole[8:start]))
        header.pop("__metadata__", None)
        tensors = {}
        for name, entry in header.items():
            first, end = entry["data_offsets"]
            if not 0 <= first <= end <= len(whole) - start:
                raise ValueError(f"the data of {name[:80]} is cut off")
            if any(type(n) is not int or n < 0 for n in entry["shape"]):
                raise ValueError(f"{name[:80]} has the shape {str(entry['shape'])[:80]}")
            view = stack.enter_context(whole[start + first : start + end])
            tensors[name] = _Tensor(str(entry["dtype"]), entry["shape"], view)
        return tensors
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{path} is not a complete safetensors file: {_first_line(error)}; download it again"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0][:200]
