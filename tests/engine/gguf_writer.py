"""A GGUF file: a random two-layer Llama in 8 bits, with a byte-level tokenizer like SmolLM2's."""

from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGED = ["ĠĠ", "ĊĊ"]  # repeated spaces and newlines: where a lost digit splitter shows
TOKENS = [*SPECIAL, *bytes_to_unicode().values(), *MERGED]
SHAPE = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
TENSORS = {
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


def random_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS), max_position_embeddings=256, tie_word_embeddings=True,
        initializer_range=0.2, **SHAPE, **HEADS,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def write_gguf(
    path: Path,
    model: LlamaForCausalLM,
    *,
    architecture: str = "llama",
    parts: int = 0,
    skip: str = "",
) -> None:
    """Write the model as llama.cpp's converter would, or with a defect."""
    writer = gguf.GGUFWriter(path, architecture)
    add_metadata(writer)
    if parts:
        writer.add_uint16("split.count", parts)
    state = {name: tensor.float().numpy() for name, tensor in model.state_dict().items()}
    tensors = {
        "token_embd.weight": state["model.embed_tokens.weight"],
        "output_norm.weight": state["model.norm.weight"],
    }
    for layer in range(SHAPE["num_hidden_layers"]):
        for hf_name, gguf_name in TENSORS.items():
            data = state[f"model.layers.{layer}.{hf_name}.weight"]
            if gguf_name in ("attn_q", "attn_k"):  # llama.cpp rotates neighbours, not halves
                heads = HEADS[
                    "num_attention_heads" if gguf_name == "attn_q" else "num_key_value_heads"
                ]
                halves = data.reshape(heads, 2, -1, data.shape[1])
                data = halves.swapaxes(1, 2).reshape(data.shape)
            tensors[f"blk.{layer}.{gguf_name}.weight"] = data
    for name, data in tensors.items():
        if name != skip:
            add_tensor(writer, name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_metadata(writer: gguf.GGUFWriter) -> None:
    writer.add_name("tiny")
    writer.add_license("mit")
    writer.add_context_length(256)
    writer.add_embedding_length(SHAPE["hidden_size"])
    writer.add_feed_forward_length(SHAPE["intermediate_size"])
    writer.add_block_count(SHAPE["num_hidden_layers"])
    writer.add_head_count(HEADS["num_attention_heads"])
    writer.add_head_count_kv(HEADS["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control if token in SPECIAL else normal for token in TOKENS])
    writer.add_token_merges([" ".join(token) for token in MERGED])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")


def add_tensor(writer: gguf.GGUFWriter, name: str, data: np.ndarray) -> None:
    if data.ndim == 1:
        writer.add_tensor(name, data)
    else:
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)
