"""A base model and its adapters as GGUF files, as llama.cpp reads them.

An adapter's file has A and B of each layer under llama.cpp's names, alpha, and, of an activated
adapter, the tokens of the assistant's header from which it is on. llama.cpp scales a layer by alpha
over the rank of its tensors, so all layers are written at one rank.

llama.cpp rotates pairs of neighbouring values in its Llama where transformers rotates halves, so
there the rows of query and key projections change places (the same for the B of their adapters).
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
from torch import Tensor

from lorabank.engine.adapters.adapter import Adapter
from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.lora.shapes import layer_of


class _Architecture(NamedTuple):
    """The name that llama.cpp has for a model type of transformers, and how it rotates."""

    name: str
    rotates_neighbours: bool


_ARCHITECTURES = {
    "llama": _Architecture("llama", True),
    "mistral": _Architecture("llama", True),
    "qwen2": _Architecture("qwen2", False),
    "qwen3": _Architecture("qwen3", False),
}
_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""transformers' name of a layer's part -> GGUF's."""
_WHOLE = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_PRE_TOKENIZER = "smollm"  # llama.cpp's name of how SmolLM2 cuts text; prompts are given as tokens
_BASE_SHA256 = "lorabank.base.sha256"


def write_base(base: Base, path: Path, *, dtype: type[np.floating[Any]] = np.float16) -> None:
    """Write the bare base model with its tokenizer.

    Prompts have to be given as tokens: how llama.cpp cuts text is right for SmolLM2 only.

    Args:
        dtype: that of the weights; biases and norms are float32.

    Raises:
        UsageError: a model type that is not written, or no byte-level BPE tokenizer.
    """
    config, architecture = base.model.config, _architecture(base)
    tokenizer = json.loads(base.chat.tokenizer._tokenizer.to_str())["model"]
    if tokenizer["type"] != "BPE":
        raise UsageError(
            f"a base is written as GGUF with a BPE tokenizer, and {base.info.name} has "
            f"{tokenizer['type']}; take llama.cpp's convert_hf_to_gguf.py"
        )
    head_size = (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    is_half = dtype == np.float16
    writer = gguf.GGUFWriter(path, architecture.name)
    writer.add_name(base.info.name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if is_half else gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(head_size)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, base, tokenizer["merges"])
    for name, tensor in base.model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        path_of, _, kind = name.rpartition(".")
        _add_tensor(writer, f"{_gguf_name(path_of)}.{kind}", _rows(base, path_of, tensor), dtype)
    _close(writer)


def write_adapter(
    base: Base,
    adapter: Adapter,
    path: Path,
    *,
    name: str = "",
    dtype: type[np.floating[Any]] = np.float32,
) -> None:
    """Write an adapter; llama.cpp's server turns an activated one on from the assistant's header.

    Args:
        name: what the server tells of the adapter as its task; empty for nothing.
        dtype: that of A and B.

    Raises:
        UsageError: a base whose model type is not written.
    """
    writer = gguf.GGUFWriter(path, _architecture(base).name)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, adapter.alpha)
    if name:
        writer.add_name(name)
        writer.add_string(gguf.Keys.Adapter.LORA_TASK_NAME, name)
    writer.add_string(_BASE_SHA256, base.info.sha256)
    if adapter.activated:
        key = gguf.Keys.Adapter.ALORA_INVOCATION_TOKENS
        tokens = _invocation_tokens(base.chat.header_ids())
        writer.add_key_value(key, tokens, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32)
    for layer, (a, b) in adapter.weights.items():
        tensor = f"{_gguf_name(layer)}.weight"
        _add_tensor(writer, f"{tensor}.lora_a", a, dtype)
        _add_tensor(writer, f"{tensor}.lora_b", _rows(base, layer, b), dtype)
    _close(writer)


def _invocation_tokens(header: list[int]) -> list[int]:
    """Return the tokens after whose sight in a prompt llama.cpp turns an adapter on at the header.

    Its server (2026-10) is on from one token before them, so the first of the header is left out;
    a header of one token stays, and the adapter sees the token before it too.
    """
    return header[1:] or header


def _architecture(base: Base) -> _Architecture:
    """Return what llama.cpp calls the base's model type.

    Raises:
        UsageError: it is none of those that are written here.
    """
    kind = base.model.config.model_type
    if kind not in _ARCHITECTURES:
        raise UsageError(
            f"GGUF is written for {', '.join(_ARCHITECTURES)}, and {base.info.name} is {kind}; "
            "export with --to peft and convert the folder with llama.cpp's convert_lora_to_gguf.py"
        )
    return _ARCHITECTURES[kind]


def _gguf_name(path: str) -> str:
    """Return GGUF's name of a module of transformers' Llama and those made like it."""
    layer = layer_of(path)
    if layer is None:
        return _WHOLE[path]
    return f"blk.{layer}.{_NAMES[path.partition(f'.{layer}.')[2]]}"


def _rows(base: Base, path: str, tensor: Tensor) -> Tensor:
    """Return a weight or B (out, n), or a bias (out,), with its rows in llama.cpp's order."""
    config, name = base.model.config, path.rpartition(".")[2]
    if name not in ("q_proj", "k_proj") or not _architecture(base).rotates_neighbours:
        return tensor
    n_heads = config.num_attention_heads if name == "q_proj" else config.num_key_value_heads
    halves = tensor.reshape(n_heads, 2, -1, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)


def _add_tensor(
    writer: gguf.GGUFWriter, name: str, tensor: Tensor, dtype: type[np.floating[Any]]
) -> None:
    chosen = dtype if tensor.dim() > 1 else np.float32
    writer.add_tensor(name, tensor.detach().float().cpu().contiguous().numpy().astype(chosen))


def _add_tokenizer(writer: gguf.GGUFWriter, base: Base, merges: list[Any]) -> None:
    tokenizer = base.chat.tokenizer
    token_of = {i: token for token, i in tokenizer.get_vocab().items()}
    tokens = [token_of.get(i, f"<|unused{i}|>") for i in range(base.model.config.vocab_size)]
    special = set(tokenizer.all_special_tokens)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in special else normal for token in tokens])
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    )
    writer.add_eos_token_id(min(base.chat.stop_ids))
    writer.add_add_bos_token(False)


def _close(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
