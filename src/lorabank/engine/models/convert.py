"""Conversion of a GGUF file into a folder that transformers loads: bf16 safetensors and tokenizer.

transformers reads GGUF by itself, with two faults that are corrected here. The model counts as
quantised and can be neither trained nor saved, so it is dequantised once. The tokenizer loses
SmolLM's digit splitter, which changes how numbers after repeated spaces or newlines are
tokenised; see REPAIRS.

Callers have to mind two properties of the models. The padding token may be the end-of-turn token
(in SmolLM2 it is), so labels are masked by attention mask and never by padding id. A chat template
may add a system prompt of its own (SmolLM2's does unless the first message is a system message).
"""

import contextlib
import importlib.metadata
import io
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorabank.errors import ModelError, UnavailableError

# Older versions tokenise SmolLM2 and Gemma files wrongly and say nothing. They do load the result.
TRANSFORMERS_NEEDED = (5, 23)


@dataclass(frozen=True, slots=True)
class GgufMetadata:
    """The part of a GGUF file's metadata that the conversion needs."""

    licence: str
    """Licence named by the file; "unknown" if it names none."""
    tokenizer: str
    """Kind of tokenizer, such as gpt2 (byte-level BPE) or llama (SentencePiece)."""
    pre_tokenizer: str
    bf16_bytes: int
    """Size of the weights after the conversion to bfloat16."""


def convert_gguf(
    gguf_file: Path, metadata: GgufMetadata, folder: Path, *, repair: str | None = None
) -> None:
    """Convert the model in `gguf_file` and write it into `folder`.

    This takes seconds to minutes and, in memory, several times the size of the file.

    Args:
        gguf_file: a single GGUF file.
        facts: what `read_metadata` returned for the file.
        folder: folder to create; it must not exist yet.
        repair: key of REPAIRS; None for the pre-tokenizer that the file names.

    Raises:
        ModelError: transformers cannot read this kind of file.
        UnavailableError: the installed transformers is too old to convert correctly.
        OSError: the folder cannot be written. safetensors raises an error of its own instead.
    """
    require_transformers()
    try:
        model, tokenizer = _load(gguf_file)
    except ModelError:
        raise
    except Exception as error:  # the readers raise all kinds of errors on a damaged file
        raise _unreadable(gguf_file, error) from error
    repair_tokenizer = REPAIRS.get(repair or metadata.pre_tokenizer)
    if repair_tokenizer is not None and metadata.tokenizer == "gpt2":
        repair_tokenizer(tokenizer)
    tokenizer.model_max_length = model.config.max_position_embeddings
    folder.mkdir()
    with _progress_bars_hidden():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def require_transformers() -> None:
    """Refuse a version of transformers that converts wrongly without an error.

    Raises:
        UnavailableError: the installed transformers is older than TRANSFORMERS_NEEDED.
    """
    version = importlib.metadata.version("transformers")
    major, minor = re.findall(r"\d+", version)[:2]
    if (int(major), int(minor)) < TRANSFORMERS_NEEDED:
        needed = ".".join(map(str, TRANSFORMERS_NEEDED))
        raise UnavailableError(
            f"converting GGUF needs transformers {needed} or later, this is {version}; upgrade "
            "it, or give a folder that was converted elsewhere, which this version can load"
        )


def check_gguf(gguf_file: Path) -> None:
    """Check that a file begins as GGUF files do; nothing else of it is read.

    Raises:
        ModelError: the file cannot be read, or is not GGUF.
    """
    try:
        with gguf_file.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ModelError(f"cannot read {gguf_file}: {error.strerror}") from error
    if start != b"GGUF":
        raise ModelError(
            f"{gguf_file} is not a GGUF file: it begins with {start!r}, not b'GGUF'. "
            "Give a .gguf file or a folder with config.json and safetensors."
        )


def read_metadata(gguf_file: Path) -> GgufMetadata:
    """Read the metadata of a GGUF file and check that all its tensors are there.

    Raises:
        ModelError: the file is not GGUF, is truncated, an adapter, or one part of several.
    """
    # Imported here because a model in the cache needs neither gguf nor numpy.
    from gguf import GGUFReader

    check_gguf(gguf_file)
    try:
        reader = GGUFReader(gguf_file)
        wanted = (
            "general.license",
            "general.type",
            "tokenizer.ggml.model",
            "tokenizer.ggml.pre",
            "split.count",
        )
        fields = {key: field.contents() for key in wanted if (field := reader.get_field(key))}
        n_elements = sum(int(tensor.n_elements) for tensor in reader.tensors)
    except Exception as error:  # as in convert_gguf
        raise _unreadable(gguf_file, error) from error
    kind = str(fields.get("general.type", "model"))[:40]
    if kind != "model":
        what = "a LoRA adapter" if kind == "adapter" else f"of the kind {kind!r}"
        raise ModelError(f"{gguf_file} is {what}, no model; give the GGUF file of the base model")
    if fields.get("split.count", 1) not in (0, 1):
        raise ModelError(
            f"{gguf_file} is one of {fields['split.count']} parts; merge them into one file first"
        )
    return GgufMetadata(
        licence=str(fields.get("general.license", "unknown")),
        tokenizer=str(fields.get("tokenizer.ggml.model")),
        pre_tokenizer=str(fields.get("tokenizer.ggml.pre")),
        bf16_bytes=2 * n_elements,
    )


def _load(gguf_file: Path) -> tuple[Any, Any]:
    # Imported here because it takes 2 s and more, which a model in the cache does not need.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from lorabank.engine.models.checked_loading import check_tensors

    # Alone in a folder, as transformers would also read a tokenizer or an adapter that lies beside.
    with tempfile.TemporaryDirectory(prefix="lorabank-gguf-") as alone, _progress_bars_hidden():
        link = Path(alone) / "model.gguf"
        link.symlink_to(gguf_file.resolve())
        place = {"gguf_file": link.name, "local_files_only": True, "trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(alone, **place)
        model, info = AutoModelForCausalLM.from_pretrained(
            alone,
            **place,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
            output_loading_info=True,
        )
    # Files hold tensors besides the model's, such as the frequencies of its positions.
    check_tensors(str(gguf_file), {**info, "unexpected_keys": ()})
    return model, tokenizer


def _progress_bars_hidden() -> contextlib.AbstractContextManager[object]:
    """Discard stderr inside the block, since the progress bar for GGUF cannot be switched off."""
    return contextlib.redirect_stderr(io.StringIO())


def _repair_smollm(tokenizer: Any) -> None:
    """Split digits, then split as GPT-2 does, which gives the same tokens as llama.cpp."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [
            Digits(individual_digits=True),
            ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
    )


REPAIRS: dict[str, Callable[[Any], None]] = {"smollm": _repair_smollm}
"""Functions that restore what transformers loses of a pre-tokenizer, by `tokenizer.ggml.pre`."""


def _unreadable(gguf_file: Path, error: Exception) -> ModelError:
    reason = (str(error).strip().splitlines() or ["no reason given"])[0][:200].rstrip(".")
    return ModelError(
        f"cannot read {gguf_file} as a causal language model: {type(error).__name__}: {reason}. "
        "Download the file again, or choose a single-file GGUF of an architecture that "
        "transformers supports."
    )
