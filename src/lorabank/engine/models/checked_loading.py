"""Loading by transformers, after which every weight is known to come from the files.

transformers fills a tensor that is missing with random numbers and drops one that it does not know,
and says so on stderr only. Here both are errors, and so is everything else with which a folder
cannot be used as a base. No code of a model is ever run: `trust_remote_code=False` is given
explicitly, as without it transformers asks on the terminal.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging

from lorabank.engine.models.folder_checks import check_depth, check_folder, needs_code
from lorabank.engine.models.weight_files import list_tensors
from lorabank.errors import LorabankError, ModelError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "tekken.json",
    "spiece.model",
)
# Buffers that old versions saved and that are computed from the configuration.
_COMPUTED = re.compile(
    r"(.*\.)?(rotary_emb\.inv_freq|position_ids|attn\.(masked_)?bias|attention\.(masked_)?bias)"
)
# Gemma 3 1B has the image token of its larger siblings, beyond its embedding; text has none.
_NO_TEXT = re.compile(r"image|audio|video|boi|eoi|boa|eoa", re.IGNORECASE)
_FLOATS = ("F64", "F32", "F16", "BF16")
_MAX_GROWTH = 4  # parameters for each stored number: four-bit weights are packed in bytes
_MAX_NAMED = 3  # tensors that an error names


def load_causal_lm(folder: Path, *, dtype: torch.dtype, **arguments: Any) -> Any:
    """Load the causal language model of a folder, in eval mode and without gradients.

    Args:
        arguments: of quantisation, for `from_pretrained`.

    Raises:
        ModelError: the folder holds something else, or its tensors are not those of the model.
    """
    check_folder(folder)
    return _load(AutoModelForCausalLM, folder, dtype=dtype, **arguments)


def load_encoder(folder: Path, *, dtype: torch.dtype) -> Any:
    """Load a model without a head, as `load_causal_lm` does."""
    return _load(AutoModel, folder, dtype=dtype)


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a folder.

    Raises:
        ModelError: there is none, it cannot be read, or it needs code of its own.
    """
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(
            f"{folder} has no tokenizer (no {TOKENIZER_FILES[0]} or {TOKENIZER_FILES[1]}); copy "
            "the tokenizer's files of the model into it"
        )
    with _loading_errors(folder, "its tokenizer cannot be read"):
        tokenizer: Any = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        is_empty = not tokenizer("a b", add_special_tokens=False)["input_ids"]
    if is_empty:
        raise ModelError(f"{folder} has a tokenizer that knows no tokens; download it again")
    return tokenizer


def check_vocabulary(name: str, model: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer that gives ids for which the model has no embedding.

    Raises:
        ModelError: names the first such token.
    """
    n_rows = model.get_input_embeddings().weight.shape[0]
    beyond = sorted(
        (number, token) for token, number in tokenizer.get_vocab().items() if number >= n_rows
    )
    special = set(tokenizer.all_special_tokens) | {
        str(token) for token in tokenizer.added_tokens_decoder.values() if token.special
    }
    wrong = [
        (number, token)
        for number, token in beyond
        if token not in special or not (_NO_TEXT.search(token) or _is_of_class(tokenizer, token))
    ]
    if wrong:
        number, token = wrong[0]
        raise ModelError(
            f"{name}: its tokenizer has the token {token[:40]!r} with id {number:,}, but the model "
            f"has embeddings for {n_rows:,} only; give the tokenizer that belongs to it"
        )


def _is_of_class(tokenizer: Any, token: str) -> bool:
    """Return whether a special token comes from the tokenizer's class and not from its files.

    Qwen's class adds an `<|endoftext|>` to tokenizers that have none. Text never becomes it.
    """
    path = Path(tokenizer.name_or_path) / TOKENIZER_FILES[0]
    in_file = not path.is_file() or token in path.read_text(encoding="utf-8", errors="replace")
    return not in_file and token != tokenizer.eos_token


@torch.no_grad()
def check_forward(name: str, model: Any) -> None:
    """Run a few tokens, and refuse a model that fails, gives NaN or reads later tokens.

    An encoder reads both ways, so nothing that it is taught could ever be generated.

    Raises:
        ModelError: says which.
    """
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 0]], device=model.device)  # (2, T)
    try:
        logits = model(input_ids=ids, use_cache=False).logits.float()  # (2, T, V)
    except Exception as error:  # architectures fail with errors of every type
        raise ModelError(f"{name} cannot be run: {_first_line(error)}") from error
    if not bool(logits.isfinite().all()):
        raise ModelError(
            f"{name} gives NaN or infinity for ordinary tokens; download it again, or try "
            "another --dtype"
        )
    earlier = logits[:, :-1]
    if (earlier[0] - earlier[1]).abs().max() > 0.01 * earlier.abs().max() + 1e-6:
        raise ModelError(
            f"{name} reads tokens that come later, as encoders do; a base model has to be a "
            "decoder that writes text"
        )


def _load(kind: Any, folder: Path, *, dtype: torch.dtype, **arguments: Any) -> Any:
    stored = list_tensors(folder)
    check_depth(folder, len(stored))
    n_stored = sum(n_elements for _, n_elements in stored.values())
    with _loading_errors(folder, "transformers cannot load it"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if kind is AutoModelForCausalLM:
            kind = causal_lm_class(config)
        with torch.device("meta"):
            skeleton = kind.from_config(config, trust_remote_code=False)
        n_described = sum(parameter.numel() for parameter in skeleton.parameters())
        if n_described > _MAX_GROWTH * n_stored:
            raise ModelError(
                f"{folder}: config.json describes {n_described:,} parameters, but the weights "
                f"hold {n_stored:,}; download the model again"
            )
        model, loaded = kind.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
            **arguments,
        )
    check_tensors(str(folder), loaded)
    if not getattr(config, "quantization_config", None):
        _check_dtypes(folder, model, stored)
    model.requires_grad_(False).eval()
    _check_values(folder, model, is_packed=bool(arguments))
    return model


def causal_lm_class(config: Any) -> Any:
    """Return the class of transformers that loads the decoder of a configuration.

    Of some models transformers has the decoder only together with its picture tower.
    """
    has_text_class = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    if not has_text_class and type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return AutoModelForImageTextToText
    return AutoModelForCausalLM


def check_tensors(name: str, loaded: dict[str, Any]) -> None:
    """Refuse a model whose tensors are not just those of the files.

    Args:
        name: path of the model, for the message.
        loaded: transformers' `loading_info`.

    Raises:
        ModelError: names the first tensors that are missing, of another shape, or left over.
    """
    mismatched = sorted(
        str(key[0] if isinstance(key, tuple) else key) for key in loaded["mismatched_keys"]
    )
    left_over = sorted(key for key in loaded["unexpected_keys"] if not _COMPUTED.fullmatch(key))
    for problem, keys in (
        ("lacks", sorted(loaded["missing_keys"])),
        ("has in another shape than its config.json says", mismatched),
        ("has, but the model does not use,", left_over),
    ):
        if keys:
            more = f" and {len(keys) - _MAX_NAMED:,} more" if len(keys) > _MAX_NAMED else ""
            raise ModelError(
                f"{name} {problem} the tensors {', '.join(keys[:_MAX_NAMED])}{more}; transformers "
                "would go on with random or without these weights. Download the model again, or "
                "save it with save_pretrained of its own class"
            )


def _check_dtypes(folder: Path, model: nn.Module, stored: dict[str, tuple[str, int]]) -> None:
    """Refuse weights that mean nothing without the scales they were quantised with."""
    for name, _ in model.named_parameters():
        dtype = stored[name][0] if name in stored else _FLOATS[0]
        if dtype not in _FLOATS:
            raise ModelError(
                f"{folder} holds {name} as {dtype}, quantised, and adapters are trained on plain "
                "weights; give the original model"
            )


def _check_values(folder: Path, model: nn.Module, *, is_packed: bool) -> None:
    for name, parameter in model.named_parameters():
        if not parameter.is_floating_point():
            if is_packed:
                continue
            raise ModelError(
                f"{folder} holds {name} as {str(parameter.dtype).removeprefix('torch.')}, "
                "quantised; give the original model"
            )
        # A sum is finite only if all of its numbers are, or if it overflows, hence the second look.
        if not bool(parameter.sum().isfinite()) and not bool(parameter.isfinite().all()):
            raise ModelError(
                f"{folder} holds NaN or infinity in the tensor {name}; download the model again"
            )


@contextmanager
def _loading_errors(folder: Path, problem: str) -> Iterator[None]:
    """Turn what transformers raises, an error of any type, into a ModelError of one line."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # its table of tensors is said in one line instead
    try:
        yield
    except LorabankError:
        raise
    except RecursionError:
        raise ModelError(f"{folder}: {problem}: a file nests too deeply") from None
    except Exception as error:  # architectures and readers fail with errors of every type
        code = needs_code(folder)
        if code and "trust_remote_code" in str(error):
            raise ModelError(
                f"{folder}: {code}, and code of a model is never run here; give a model that "
                "transformers knows by itself"
            ) from None
        raise ModelError(f"{folder}: {problem}: {_first_line(error)}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200] or 'no reason given'}"
