"""Estimates of training time from a model's config and arithmetic; no model is loaded.

A weight costs two floating-point operations per token forward and two more for the gradient of its
input; the base's own gradients are never computed. The estimates are good to a factor of two.
"""

import json
from dataclasses import dataclass
from pathlib import Path

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
    """Return a model's shape from its config.json; None if the config names its sizes otherwise."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config = config.get("text_config", config)
    try:
        heads = config["num_attention_heads"]
        return Shape(
            hidden=config["hidden_size"],
            ffn=config["intermediate_size"],
            layers=config["num_hidden_layers"],
            vocabulary=config["vocab_size"],
            kv_share=config.get("num_key_value_heads", heads) / heads,
        )
    except KeyError:
        return None


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
