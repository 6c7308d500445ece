"""The decoder families: architecture with random weights, control tokens and chat template.

Each is the real class of transformers with a hidden size of 64 and two to four layers, so that
everything an architecture does differently from Llama is there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from tests.families import templates
from tests.families.tokenizers import Vocabulary, save_tokenizer
from tests.families.vocabularies import (
    CHATML,
    DEEPSEEK,
    GEMMA,
    GEMMA4,
    GLM,
    GPT_OSS,
    GRANITE,
    LFM,
    LLAMA,
    LLAMA4,
    MISTRAL,
    OLMO,
    PHI4,
    PHI35,
    QWEN,
    SMOLLM3,
    TEKKEN,
)

Ids = Mapping[str, int]
WINDOW = 16  # tokens of a sliding window; shorter than every prompt


@dataclass(frozen=True, slots=True)
class Family:
    """One architecture with a tokenizer and a template."""

    name: str
    vocabulary: Vocabulary
    template: str | None
    """Name of a published template, or the text of one of ours; None for a base without one."""
    config: Callable[[Ids], Any]
    """Configuration of the model, given the ids of the control tokens."""
    stops: tuple[str, ...] = ()
    """Tokens at which the published generation settings stop; the eos token if none are given."""
    refusal: str = ""
    """What the refusal at load says; empty for a family that works."""

    @property
    def template_text(self) -> str | None:
        """Return the template's text; None where it is a published one that is not here."""
        if self.template is None or "{" in self.template:
            return self.template
        return templates.published(self.template)

    @property
    def lacks_template(self) -> bool:
        """Return whether the family has a published template that is not here."""
        return self.template is not None and self.template_text is None

    def build(self, folder: Path) -> Path:
        """Save the model and its tokenizer."""
        folder.mkdir(parents=True, exist_ok=True)
        ids = save_tokenizer(self.vocabulary, self.template_text, folder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            config = self.config(ids)
            stops = [ids[token] for token in self.stops] or ids[str(self.vocabulary.eos)]
            bos = ids.get(self.vocabulary.bos or "no token")
            for part in {id(c): c for c in (config, config.get_text_config())}.values():
                part.eos_token_id, part.bos_token_id = stops, bos
            model = _model_class(config)(config)
        model.generation_config = hf.GenerationConfig(eos_token_id=stops, bos_token_id=bos)
        model.save_pretrained(folder)
        return folder


def _model_class(config: Any) -> Any:
    mapping = hf.MODEL_FOR_CAUSAL_LM_MAPPING
    if type(config) in mapping:
        return mapping[type(config)]
    return hf.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]


SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.15,  # with the usual 0.02 a low-rank update has nothing to work with
    "max_position_embeddings": 2048,
}
_SLIDING_THEN_FULL = ["sliding_attention", "full_attention"]
_LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 1024,
}  # fmt: skip
_LINEAR = {
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16,
    "linear_value_head_dim": 16, "layer_types": [*["linear_attention"] * 3, "full_attention"],
}  # fmt: skip
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
_MAMBA = {
    "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
}  # fmt: skip
_VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip


def _config(name: str, **changes: Any) -> Callable[[Ids], Any]:
    """Return the maker of a small configuration of a class of transformers."""

    def make(ids: Ids) -> Any:
        config_class = _config_class(name)
        sizes = SIZES | {"vocab_size": ids[""]}
        made = {name: value(ids) if callable(value) else value for name, value in changes.items()}
        return config_class(**{k: v for k, v in (sizes | made).items() if v != "leave out"})

    return make


def _config_class(name: str) -> Any:
    if hasattr(hf, name):
        return getattr(hf, name)
    module, _, name = name.rpartition(".")
    return getattr(getattr(hf.models, module), name)


def _vocabulary_size(ids: Ids) -> int:
    return ids[""]


def _with_vision(
    outer: str, inner: Callable[[Ids], Any], vision: dict[str, Any], **more: Any
) -> Callable[[Ids], Any]:
    def make(ids: Ids) -> Any:
        return _config_class(outer)(
            text_config=inner(ids).to_dict(), vision_config=_VISION | vision, **more
        )

    return make


_GEMMA3_TEXT = _config(
    "Gemma3TextConfig",
    head_dim=32,
    sliding_window=WINDOW,
    layer_types=_SLIDING_THEN_FULL,
    query_pre_attn_scalar=32,
)
_PER_LAYER = {
    "vocab_size_per_layer_input": _vocabulary_size, "hidden_size_per_layer_input": 8,
    "num_hidden_layers": 4, "head_dim": 32, "sliding_window": WINDOW,
    "layer_types": _SLIDING_THEN_FULL * 2, "num_kv_shared_layers": 2,
}  # fmt: skip
_GEMMA4_TEXT = _config("Gemma4TextConfig", **_PER_LAYER, global_head_dim=32)
_MISTRAL_TEXT = _config("MistralConfig", head_dim=32, sliding_window=None)

FAMILIES = (
    Family("Llama 3.1", LLAMA, "meta-llama-Llama-3.1-8B-Instruct",
           _config("LlamaConfig", rope_parameters=_LLAMA3_ROPE),
           stops=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")),
    Family("Llama 3.2", LLAMA, "meta-llama-Llama-3.2-3B-Instruct",
           _config("LlamaConfig", rope_parameters=_LLAMA3_ROPE, tie_word_embeddings=True),
           stops=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")),
    Family("Llama 3.1 base", LLAMA, None, _config("LlamaConfig")),
    Family("Llama 4", LLAMA4, templates.LLAMA4,
           _config("Llama4TextConfig", num_hidden_layers=4, head_dim=32, intermediate_size_mlp=128,
                   num_local_experts=4, num_experts_per_tok=1, attention_chunk_size=WINDOW,
                   moe_layers=[1, 3])),
    Family("Qwen 2.5", QWEN, "Qwen-Qwen2.5-7B-Instruct", _config("Qwen2Config"),
           stops=("<|im_end|>", "<|endoftext|>")),
    Family("Qwen 2 MoE", QWEN, "Qwen-Qwen2.5-7B-Instruct",
           _config("Qwen2MoeConfig", **_EXPERTS, shared_expert_intermediate_size=64)),
    Family("Qwen 3", QWEN, "Qwen-Qwen3-0.6B",
           _config("Qwen3Config", head_dim=32, tie_word_embeddings=True),
           stops=("<|im_end|>", "<|endoftext|>")),
    Family("Qwen 3 MoE", QWEN, "Qwen-Qwen3-0.6B",
           _config("Qwen3MoeConfig", head_dim=32, **_EXPERTS)),
    Family("Qwen 3 Next", QWEN, "Qwen-Qwen3-0.6B",
           _config("Qwen3NextConfig", num_hidden_layers=4, head_dim=32, **_EXPERTS, **_LINEAR,
                   shared_expert_intermediate_size=64)),
    Family("Qwen 3.5", QWEN, "Qwen3.5-4B",
           _config("qwen3_5.Qwen3_5TextConfig", num_hidden_layers=4, head_dim=32, **_LINEAR)),
    Family("Gemma 2", GEMMA, "google-gemma-2-2b-it",
           _config("Gemma2Config", head_dim=32, sliding_window=WINDOW, query_pre_attn_scalar=32),
           stops=("<eos>", "<end_of_turn>")),
    Family("Gemma 3", GEMMA, templates.GEMMA3, _GEMMA3_TEXT, stops=("<eos>", "<end_of_turn>")),
    Family("Gemma 3 multimodal", GEMMA, templates.GEMMA3,
           _with_vision("Gemma3Config", _GEMMA3_TEXT, {}, mm_tokens_per_image=4),
           stops=("<eos>", "<end_of_turn>")),
    Family("Gemma 3n", GEMMA, templates.GEMMA3,
           _config("gemma3n.Gemma3nTextConfig", **_PER_LAYER, laurel_rank=8, altup_num_inputs=2,
                   activation_sparsity_pattern=[0.0] * 4), stops=("<eos>", "<end_of_turn>")),
    Family("Gemma 4", GEMMA4, "google-gemma-4-31B-it", _GEMMA4_TEXT, stops=("<eos>", "<turn|>")),
    Family("Mistral 0.1", MISTRAL, templates.MISTRAL,
           _config("MistralConfig", sliding_window=WINDOW)),
    Family("Mistral 0.2", MISTRAL, templates.MISTRAL,
           _config("MistralConfig", sliding_window=None)),
    Family("Mistral Nemo", TEKKEN, "mistralai-Mistral-Nemo-Instruct-2407", _MISTRAL_TEXT),
    Family("Mistral Small 3.2", TEKKEN, templates.MISTRAL_SMALL,
           _with_vision("Mistral3Config", _MISTRAL_TEXT, {"model_type": "pixtral", "head_dim": 16},
                        image_token_index=10)),
    Family("Mixtral", MISTRAL, templates.MISTRAL,
           _config("MixtralConfig", num_local_experts=4, num_experts_per_tok=2,
                   sliding_window=None)),
    Family("Phi 3.5", PHI35, "microsoft-Phi-3.5-mini-instruct",
           _config("Phi3Config", num_key_value_heads=4, sliding_window=None,
                   pad_token_id=lambda ids: ids["<|endoftext|>"]),
           stops=("<|end|>", "<|assistant|>", "<|endoftext|>")),
    Family("Phi 4", PHI4, templates.PHI4,
           _config("Phi3Config", sliding_window=None,
                   pad_token_id=lambda ids: ids["<|endoftext|>"])),
    Family("OLMo 2", OLMO, templates.OLMO2, _config("Olmo2Config", pad_token_id=None)),
    Family("OLMo 3", CHATML, templates.CHATML,
           _config("Olmo3Config", sliding_window=WINDOW, layer_types=_SLIDING_THEN_FULL,
                   pad_token_id=None)),
    Family("OLMoE", OLMO, templates.OLMO2,
           _config("OlmoeConfig", num_experts=4, num_experts_per_tok=2, pad_token_id=None)),
    Family("Granite 3.3", GRANITE, "ibm-granite-granite-3.3-2B-Instruct",
           _config("GraniteConfig", tie_word_embeddings=True, embedding_multiplier=12.0,
                   logits_scaling=8.0, residual_multiplier=0.22, attention_multiplier=0.0156)),
    Family("Granite MoE", GRANITE, "ibm-granite-granite-3.3-2B-Instruct",
           _config("GraniteMoeConfig", num_local_experts=4, num_experts_per_tok=2)),
    Family("Granite 4 dense", GRANITE, "ibm-granite-granite-4.0",
           _config("GraniteMoeHybridConfig", layer_types=["attention"] * 2, num_local_experts=0,
                   num_experts_per_tok=0, shared_intermediate_size=128,
                   attention_multiplier=0.25, **_MAMBA)),
    Family("Granite 4 hybrid", GRANITE, "ibm-granite-granite-4.0",
           _config("GraniteMoeHybridConfig", num_hidden_layers=4, **_MAMBA, mamba_expand=2,
                   layer_types=["mamba", "attention"] * 2, num_local_experts=4,
                   num_experts_per_tok=2, shared_intermediate_size=64)),
    Family("SmolLM3", SMOLLM3, "HuggingFaceTB-SmolLM3-3B",
           _config("SmolLM3Config", num_hidden_layers=4, tie_word_embeddings=True,
                   pad_token_id=None)),
    Family("gpt-oss", GPT_OSS, "openai-gpt-oss-120b",
           _config("GptOssConfig", head_dim=32, num_local_experts=4, num_experts_per_tok=2,
                   sliding_window=WINDOW, pad_token_id=None),
           stops=("<|return|>", "<|endoftext|>", "<|call|>")),
    Family("GLM 4", GLM, templates.GLM4, _config("Glm4Config", head_dim=32, pad_token_id=None),
           stops=("<|endoftext|>", "<|user|>", "<|observation|>")),
    Family("GLM 4.6", GLM, "GLM-4.6",
           _config("Glm4MoeConfig", head_dim=32, n_routed_experts=4, num_experts_per_tok=2,
                   moe_intermediate_size=32, n_shared_experts=1, first_k_dense_replace=1, n_group=1,
                   topk_group=1, pad_token_id=None),
           stops=("<|endoftext|>", "<|user|>", "<|observation|>")),
    Family("DeepSeek R1 distill", DEEPSEEK, "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
           _config("Qwen2Config")),
    Family("DeepSeek V3.1", DEEPSEEK, "deepseek-ai-DeepSeek-V3.1",
           _config("DeepseekV3Config", num_key_value_heads=4, moe_intermediate_size=32,
                   n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1,
                   first_k_dense_replace=1, q_lora_rank=32, kv_lora_rank=16, qk_rope_head_dim=16,
                   qk_nope_head_dim=16, v_head_dim=16)),
    Family("LFM2", LFM, "LFM2-8B-A1B",
           _config("Lfm2Config", num_hidden_layers=4, layer_types=["conv", "full_attention"] * 2)),
    Family("Falcon-H1", CHATML, templates.CHATML,
           _config("FalconH1Config", mamba_d_ssm=128, **_MAMBA)),
    Family("Mamba 2", CHATML, templates.CHATML,
           refusal="token by token, differs",
           config=_config("Mamba2Config", num_heads=8, head_dim=16, state_size=16, n_groups=1,
                   expand=2, chunk_size=16, num_attention_heads="leave out",
                   num_key_value_heads="leave out",
                   intermediate_size="leave out", max_position_embeddings="leave out")),
)  # fmt: skip
