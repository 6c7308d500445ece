"""A base model in four bits (NF4 of bitsandbytes), where 8B parameters take 5 GB instead of 16.

The linear layers of the decoder are quantised, and their scales are quantised again
(arXiv:2305.14314). Embeddings, norms and the head are not. A layer stores its packed weight and
unpacks it for each product, forward and backward. The layer of bitsandbytes is not used, because
on a CPU it repacks its weight at the first inference, and then nothing else can read it.
"""

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorabank.errors import UnavailableError, UsageError

NAMES = ("4bit",)
_EXTRA = "install lorabank[4bit], which brings bitsandbytes"


@final
class FourBitLinear(nn.Module):
    """A frozen linear layer with a packed weight that can be used like nn.Linear."""

    def __init__(self, packed: Tensor, state: Any, bias: Tensor | None, shape: tuple[int, int]):
        super().__init__()
        self.out_features, self.in_features = shape
        self.bias = bias
        self._packed, self._state = packed, state

    @property
    def weight(self) -> Tensor:
        """Unpack the (out, in) weight into the dtype of the model; done again on each access."""
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(self._packed, self._state)  # type: ignore[no-any-return]

    @property
    def packed_bytes(self) -> int:
        return self._packed.nbytes

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


def check_quantize(name: str | None) -> None:
    """Refuse a kind of quantization that does not exist or is not installed.

    Raises:
        UsageError: the name is unknown.
        UnavailableError: bitsandbytes is not installed.
    """
    if name is None:
        return
    if name not in NAMES:
        raise UsageError(f"--quantize must be {' or '.join(NAMES)}, got {name!r}")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise UnavailableError(f"--quantize {name} needs bitsandbytes; {_EXTRA}") from None


def quantization_arguments(device: str, dtype: torch.dtype) -> dict[str, Any]:
    """Return the arguments with which `from_pretrained` quantises while it loads."""
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def replace_packed_layers(model: nn.Module) -> None:
    """Replace the quantised layers of bitsandbytes by ours."""
    import bitsandbytes

    for path, module in list(model.named_modules()):
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            weight: Any = module.weight
            shape = (module.out_features, module.in_features)
            bias = None if module.bias is None else module.bias.detach()
            layer = FourBitLinear(weight.data, weight.quant_state, bias, shape)
            model.set_submodule(path, layer)
