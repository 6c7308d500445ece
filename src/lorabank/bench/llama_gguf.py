"""A base model and its adapters as GGUF files, for the bench against llama.cpp.

Weights are written as half-precision floats, biases and norms in full. llama.cpp rotates pairs of
neighbouring values where transformers rotates halves, so the rows of query and key projections
change places (the same for the B of their adapters). Only Llama models with a byte-level BPE
tokenizer are written: what the bench runs on.
"""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from torch import Tensor

from lorabank.engine.adapters.adapter import Adapter
from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.lora.shapes import layer_of

_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
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


def write_base(base: Base, path: Path) -> None:
    """Write the bare base model with its tokenizer.

    Raises:
        UsageError: it is no Llama model with a byte-level BPE tokenizer.
    """
    config = base.model.config
    tokenizer = json.loads(base.chat.tokenizer._tokenizer.to_str())["model"]
    if config.model_type != "llama" or tokenizer["type"] != "BPE":
        raise UsageError(
            f"the peer llama.cpp gets Llama models with a BPE tokenizer, and {base.info.name} is "
            f"{config.model_type} with {tokenizer['type']}; take --base smollm2-135m"
        )
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(base.info.name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, base, tokenizer["merges"])
    for name, tensor in base.model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        path_of, _, kind = name.rpartition(".")
        _add_tensor(writer, f"{_gguf_name(path_of)}.{kind}", _rows(base, path_of, tensor))
    _close(writer)


def write_adapter(base: Base, adapter: Adapter, path: Path) -> None:
    """Write an adapter; llama.cpp turns an activated one on from the assistant's header."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, adapter.alpha)
    if adapter.activated:
        key = gguf.Keys.Adapter.ALORA_INVOCATION_TOKENS
        writer.add_key_value(
            key, base.chat.header_ids(), gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32
        )
    for name, (a, b) in adapter.weights.items():
        tensor = f"{_gguf_name(name)}.weight"
        _add_tensor(writer, f"{tensor}.lora_a", a)
        _add_tensor(writer, f"{tensor}.lora_b", _rows(base, name, b))
    _close(writer)


def _gguf_name(path: str) -> str:
    """Return GGUF's name of a module of transformers' Llama."""
    layer = layer_of(path)
    if layer is None:
        return _WHOLE[path]
    return f"blk.{layer}.{_NAMES[path.partition(f'.{layer}.')[2]]}"


def _rows(base: Base, path: str, tensor: Tensor) -> Tensor:
    """Return a weight or B (out, n) with its rows in llama.cpp's order."""
    config, name = base.model.config, path.rpartition(".")[2]
    if name not in ("q_proj", "k_proj"):
        return tensor
    n_heads = config.num_attention_heads if name == "q_proj" else config.num_key_value_heads
    halves = tensor.reshape(n_heads, 2, -1, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)


def _add_tensor(writer: gguf.GGUFWriter, name: str, tensor: Tensor) -> None:
    dtype = np.float16 if tensor.dim() > 1 else np.float32
    writer.add_tensor(name, tensor.detach().float().numpy().astype(dtype))


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
