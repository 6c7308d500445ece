"""Estimates of training time from a model's config and arithmetic; no model is loaded.

A weight costs two floating-point operations per token forward and two more for the gradient of its
input; the base's own gradients are never computed. The estimates are good to a factor of two.
"""

from dataclasses import dataclass
from pathlib import Path

from lorabank.engine.models.folder_checks import CONFIG, read_object
from lorabank.lora.shapes import parse_layers

FLOPS_PER_SECOND = 3e11
"""Forward and backward on two cores with AVX512-BF16, as measured (docs/LOG.md)."""
FACT_TOKENS = 14
"""Number of answer tokens of a typical fact."""
_HEADER_TOKENS, _PROMPT_TOKENS = 3, 20  # of the chat template and of a typical question


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model that decide how long it takes."""

    hidden: int
    ffn: int
    layers: int
    vocabulary: int
    kv_share: float
    """Number of key-value heads over number of heads."""

    @property
    def per_layer(self) -> float:
        """Return the number of weights of a block."""
        return self.hidden**2 * (2 + 2 * self.kv_share) + 3 * self.hidden * self.ffn

    @property
    def head(self) -> int:
        """Return the number of weights of the output layer."""
        return self.hidden * self.vocabulary

    @property
    def per_token(self) -> float:
        """Return the number of weights that a token passes on its way through the model."""
        return self.layers * self.per_layer + self.head

    def lowest_layer(self, layers: str) -> int:
        """Return the first block that adapters are placed in, as gradients reach no further."""
        return 0 if layers == "all" else min(parse_layers(layers, self.layers))


def read_shape(folder: Path) -> Shape | None:
    """Return a model's shape from its config.json; None if the config names its sizes otherwise.

    Raises:
        ModelError: the file is no JSON object, or cannot be read.
    """
    config = read_object(folder / CONFIG)
    text = config.get("text_config")
    config = text if isinstance(text, dict) else config
    heads = config.get("num_attention_heads")
    sizes = [
        *(config.get(key) for key in ("hidden_size", "intermediate_size", "num_hidden_layers")),
        *(config.get("vocab_size"), heads, config.get("num_key_value_heads") or heads),
    ]
    hidden, ffn, layers, vocabulary, n_heads, n_kv_heads = (
        size if type(size) is int and size > 0 else 0 for size in sizes
    )
    if not all((hidden, ffn, layers, vocabulary, n_heads, n_kv_heads)):
        return None
    return Shape(hidden, ffn, layers, vocabulary, kv_share=n_kv_heads / n_heads)


def facts_flops(
    shape: Shape,
    n_examples: float,
    *,
    layers: str = "all",
    activated: bool = True,
    scores_prompt: bool = False,
) -> float:
    """Return the floating-point operations of training on facts.

    Args:
        n_examples: number of facts times exposures.
        layers: placement of the adapter, in the words of `lorabank.lora.shapes.parse_layers`.
        activated: whether the adapter starts at the answer, so that the prompt is cached.
        scores_prompt: whether the loss is taken over the whole example, as in the paper's recipe.
    """
    n_tokens = FACT_TOKENS + _HEADER_TOKENS + (0 if activated else _PROMPT_TOKENS)
    n_scored = n_tokens if scores_prompt else FACT_TOKENS
    blocks = (shape.layers - shape.lowest_layer(layers)) * shape.per_layer * n_tokens
    return 4 * (blocks + shape.head * n_scored) * n_examples
