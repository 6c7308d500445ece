"""A base model in memory: frozen, in the fastest exact dtype this machine has.

The base is loaded from a folder `find_model` gave, kept in eval mode and never changed; adapters
are put around its linear layers by `fleet.py` and taken off again.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from lorabank.engine.backbone import attention, fourbit
from lorabank.engine.backbone.caches import (
    LruCache,
    new_document_cache,
    new_layer_input_cache,
    new_prompt_cache,
    new_teacher_cache,
)
from lorabank.engine.backbone.head import TokenNll
from lorabank.engine.backbone.prefill import KeyValues
from lorabank.engine.encoding.chat import Chat
from lorabank.engine.models.registry import ModelInfo, find_model
from lorabank.errors import ModelError, UsageError
from lorabank.lora.distillation import TeacherTargets
from lorabank.lora.shapes import Shape

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(eq=False)
class Base:
    """A loaded base model with its tokenizer and record."""

    info: ModelInfo
    model: Any
    """A transformers causal LM, frozen, in eval mode."""
    chat: Chat
    prompt_cache: LruCache[KeyValues] = field(default_factory=new_prompt_cache)
    """Keys and values of prompts as the bare model reads them."""
    document_cache: LruCache[Any] = field(default_factory=new_document_cache)
    """Caches of documents that questions go on from, as the bare model reads them."""
    layer_input_cache: LruCache[Tensor] = field(default_factory=new_layer_input_cache)
    """Hidden states that enter the lowest adapted layer."""
    teacher_cache: LruCache[TeacherTargets] = field(default_factory=new_teacher_cache)
    """What the bare model says with a document before it."""
    quantized: str | None = None
    """`4bit`, or None for weights as they are."""

    @property
    def device(self) -> torch.device:
        return self.model.device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype  # type: ignore[no-any-return]

    @property
    def precision(self) -> str:
        """In what its numbers are, as records have it: `bfloat16`, `bfloat16 4bit`."""
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{dtype} {self.quantized}" if self.quantized else dtype

    @property
    def max_tokens(self) -> int:
        return int(getattr(self.model.config, "max_position_embeddings", 2**31))

    @cached_property
    def linears(self) -> dict[str, Shape]:
        """Path and (out, in) of every linear layer an adapter may go on: all but the head."""
        head = self.model.get_output_embeddings()
        return {
            path: (module.out_features, module.in_features)
            for path, module in self.model.named_modules()
            if isinstance(module, nn.Linear | fourbit.FourBitLinear) and module is not head
        }

    def weight(self, path: str) -> Tensor:
        """(out, in) float32 copy of a linear layer's frozen weight."""
        module = self.model.get_submodule(path)
        weight: Tensor = getattr(module, "linear", module).weight  # a fleet may sit around it
        return weight.detach().float()

    def logits_at(self, rows: Tensor, columns: Tensor, **inputs: Any) -> Tensor:
        """Logits at chosen positions only.

        The head of a small model costs as much as all its layers; a row of a phone book needs
        it at a dozen positions. What the architecture does to logits afterwards still happens.

        Args:
            rows, columns: (N,) where in the (B, T) input to read.
            inputs: passed to the model.

        Returns:
            (N, vocabulary), in the model's dtype.
        """

        def gather(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (args[0][rows, columns][None], *args[1:])  # (1, N, d)

        hook = self.model.get_output_embeddings().register_forward_pre_hook(gather)
        try:
            return self.model(**inputs).logits[0]  # type: ignore[no-any-return]
        finally:
            hook.remove()

    def token_nll(
        self, rows: Tensor, columns: Tensor, targets: Tensor, **inputs: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of chosen tokens, and whether each was the most likely one.

        Args:
            rows, columns: (N,) where in the (B, T) input to read.
            targets: (N,) token ids.
            inputs: passed to the model.

        Returns:
            (N,) nats, differentiable, and (N,) bool.
        """
        if not self.has_plain_head:
            logits = self.logits_at(rows, columns, **inputs)
            nll = F.cross_entropy(logits.float(), targets, reduction="none")
            return nll, logits.argmax(-1) == targets
        hidden = self.hidden_at(rows, columns, **inputs)  # (N, d)
        return TokenNll.apply(hidden, *self.head_weights(hidden), targets)  # type: ignore[no-any-return,no-untyped-call]

    def hidden_at(self, rows: Tensor, columns: Tensor, **inputs: Any) -> Tensor:
        """Return (N, d) what enters the head at chosen positions; the head is not run."""
        captured: list[Tensor] = []

        def capture(hidden: Tensor) -> Tensor:
            captured.append(hidden[rows, columns])  # (N, d)
            return hidden[:1, :1]  # taken for logits that nobody reads

        head = self.model.get_output_embeddings()
        head.forward = capture
        try:
            self.model(**inputs)
        finally:
            del head.forward
        return captured[0]

    def head_weights(self, hidden: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the head's weight (V, d), its transpose and its bias (V,).

        The transpose is None where `hidden` needs no gradient or the copy saves no time.
        """
        head = self.model.get_output_embeddings()
        return head.weight, self._head_transposed if hidden.requires_grad else None, head.bias

    @cached_property
    def _head_transposed(self) -> Tensor | None:
        """Copy (d, V) of the head's weight for its gradient; it saves a fifth on a CPU only."""
        weight: Tensor = self.model.get_output_embeddings().weight
        return weight.t().contiguous() if weight.device.type == "cpu" else None

    @property
    def has_plain_head(self) -> bool:
        """Whether logits are the product of the head and nothing else."""
        config = self.model.config.get_text_config(decoder=True)
        changes = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
        head = self.model.get_output_embeddings()
        return type(head) is nn.Linear and not any(getattr(config, k, None) for k in changes)


def load_base(
    name: str = "smollm2-135m",
    *,
    dtype: str | None = None,
    device: str | None = None,
    quantize: str | None = None,
) -> Base:
    """The base model by name, Hugging Face id, folder or GGUF file, ready to be read.

    Args:
        dtype: `bfloat16` or `float32`; None for bfloat16 where the machine computes in it.
        device: `cpu` or `cuda`; None for cuda where there is one.
        quantize: `4bit` for NF4 weights in the blocks (bitsandbytes); None for weights as they are.

    Raises:
        ModelError: unknown or unusable. UnavailableError: it would have to be fetched, but cannot.
    """
    fourbit.check_quantize(quantize)
    return load_info(find_model(name), dtype=dtype, device=device, quantize=quantize)


def load_info(
    info: ModelInfo,
    *,
    dtype: str | None = None,
    device: str | None = None,
    quantize: str | None = None,
) -> Base:
    """As `load_base`, for a model already found."""
    transformers_logging.disable_progress_bar()  # the commands draw their own
    fourbit.check_quantize(quantize)
    where = pick_device(device)
    number = DTYPES[dtype] if dtype else native_dtype(where)
    packing = fourbit.quantization_arguments(where, number) if quantize else {}
    model = AutoModelForCausalLM.from_pretrained(
        info.path, dtype=number, local_files_only=True, **packing
    )
    if quantize:
        fourbit.replace_packed_layers(model)
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(attention.NAME)
    tokenizer = AutoTokenizer.from_pretrained(info.path, local_files_only=True)
    model.requires_grad_(False).eval()
    if not quantize:  # there already, and transformers lets nobody move it
        model.to(where)
    head = model.get_output_embeddings()
    if head is None:
        raise ModelError(f"{info.name} has no language-model head; give a causal LM")
    head.register_forward_pre_hook(_in_one_piece)
    return Base(info, model, Chat(tokenizer), quantized=quantize)


def _in_one_piece(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The last column of (R, T, d) is not contiguous, and torch would copy the head R times.

    With one row it calls itself contiguous, but has the strides of what it was cut from, and is
    copied nonetheless.
    """
    return (args[0].clone(memory_format=torch.contiguous_format), *args[1:])


def pick_device(device: str | None) -> str:
    if device not in (None, "cpu", "cuda"):
        raise UsageError(f"--device must be cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no CUDA GPU here; leave the option out for cpu")
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def native_dtype(device: str) -> torch.dtype:
    """bfloat16 where the hardware multiplies in it (twice as fast on AVX512-BF16), else float32."""
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
