"""GGUF in, a folder that plain transformers loads out: bf16 safetensors, config, tokenizer.

transformers reads GGUF, but two things go wrong unless seen to. Loaded as it is, the model
counts as quantised and can be neither trained nor saved, so it is dequantised here, once. And
the tokenizer comes back without the digit splitter of SmolLM's, which changes how numbers after
repeated spaces or newlines are cut; see REPAIRS.

Two traits of the models stay as they are, for callers to mind: the padding token may be the
end-of-turn token (SmolLM2: mask labels by attention mask, never by pad id), and a chat template
may add a system prompt of its own (SmolLM2's does, unless the first message is a system one).
"""

import contextlib
import importlib.metadata
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorabank.errors import ModelError, UnavailableError

# Older ones tokenise SmolLM2 and Gemma files wrongly without a word; they load the result fine.
TRANSFORMERS_NEEDED = (5, 23)


@dataclass(frozen=True, slots=True)
class GgufMetadata:
    """What a GGUF file says of itself, as far as it matters here."""

    licence: str
    """Of the file's metadata; "unknown" if it names none."""
    tokenizer: str
    """Kind of tokenizer, such as gpt2 (byte-level BPE) or llama (SentencePiece)."""
    pre_tokenizer: str
    bf16_bytes: int
    """Size of the weights after conversion."""


def convert_gguf(
    gguf_file: Path, metadata: GgufMetadata, folder: Path, *, repair: str | None = None
) -> None:
    """Write the model of `gguf_file` into `folder`, which is made.

    Takes seconds to minutes and, in memory, several times the size of the file.

    Args:
        gguf_file: a single GGUF file.
        facts: what `read_facts` gave for it.
        folder: not yet existing.
        repair: key of REPAIRS; None goes by the file's own name of its pre-tokenizer.

    Raises:
        ModelError: the file is of a kind that transformers cannot read.
        UnavailableError: the installed transformers is too old to convert rightly.
        OSError: the folder cannot be written; safetensors raises an error of its own instead.
    """
    require_transformers()
    try:
        model, tokenizer = _load(gguf_file)
    except ModelError:
        raise
    except Exception as error:  # the readers have no error of their own: a bad file gives any
        raise _unreadable(gguf_file, error) from error
    mend = REPAIRS.get(repair or metadata.pre_tokenizer)
    if mend is not None and metadata.tokenizer == "gpt2":
        mend(tokenizer)
    tokenizer.model_max_length = model.config.max_position_embeddings
    folder.mkdir()
    with _no_bars():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def require_transformers() -> None:
    """Refuse a version that would convert wrongly and not say so.

    Raises:
        UnavailableError: the installed transformers is older than TRANSFORMERS_NEEDED.
    """
    version = importlib.metadata.version("transformers")
    major, minor = re.findall(r"\d+", version)[:2]
    if (int(major), int(minor)) < TRANSFORMERS_NEEDED:
        needed = ".".join(map(str, TRANSFORMERS_NEEDED))
        raise UnavailableError(
            f"converting GGUF needs transformers {needed} or later, this is {version}: upgrade "
            "it, or give a folder converted elsewhere, which this version loads"
        )


def check_gguf(gguf_file: Path) -> None:
    """Look at the first bytes only: quick, and before the cache is touched.

    Raises:
        ModelError: the file cannot be read, or does not begin as GGUF files do.
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
    """Read the metadata. Meets every tensor, so a truncated file fails here and at once.

    Raises:
        ModelError: not GGUF, truncated, or one part of several.
    """
    from gguf import GGUFReader  # here, not above: a cached model needs neither it nor numpy

    check_gguf(gguf_file)
    try:
        reader = GGUFReader(gguf_file)
        wanted = ("general.license", "tokenizer.ggml.model", "tokenizer.ggml.pre", "split.count")
        found = {key: field.contents() for key in wanted if (field := reader.get_field(key))}
        n_elements = sum(int(tensor.n_elements) for tensor in reader.tensors)
    except Exception as error:  # as in convert_gguf
        raise _unreadable(gguf_file, error) from error
    if found.get("split.count", 1) > 1:
        raise ModelError(
            f"{gguf_file} is one of {found['split.count']} parts; merge them into one file first"
        )
    return GgufMetadata(
        licence=str(found.get("general.license", "unknown")),
        tokenizer=str(found.get("tokenizer.ggml.model")),
        pre_tokenizer=str(found.get("tokenizer.ggml.pre")),
        bf16_bytes=2 * n_elements,
    )


def _load(gguf_file: Path) -> tuple[Any, Any]:
    # Imported here, not above: 2 s and more that a model already cached does not need.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where, name = gguf_file.parent, gguf_file.name
    with _no_bars():
        tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
        model, info = AutoModelForCausalLM.from_pretrained(
            where,
            gguf_file=name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
            output_loading_info=True,
        )
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"{gguf_file} lacks {len(missing)} of the model's tensors, such as {missing[0]}"
        )
    return model, tokenizer


def _no_bars() -> contextlib.AbstractContextManager[object]:
    """Keep progress bars off the caller's screen; the one for GGUF has no switch of its own."""
    return contextlib.redirect_stderr(io.StringIO())


def _mend_smollm(tokenizer: Any) -> None:
    """Digits apart, then GPT-2's splitting: compared with llama.cpp, no difference is left."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [
            Digits(individual_digits=True),
            ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
    )


REPAIRS: dict[str, Callable[[Any], None]] = {"smollm": _mend_smollm}
"""By the value of `tokenizer.ggml.pre`: what transformers loses of it, put back."""


def _unreadable(gguf_file: Path, error: Exception) -> ModelError:
    reason = (str(error).strip().splitlines() or ["no reason given"])[0][:200].rstrip(".")
    return ModelError(
        f"cannot read {gguf_file} as a causal language model: {type(error).__name__}: {reason}. "
        "Get the file again, or choose a single-file GGUF of an architecture that transformers "
        "supports."
    )
