"""A base model in memory: frozen, and in the dtype in which this machine multiplies fastest.

The base is loaded from a folder that `find_model` returns. It stays in eval mode and is never
changed. `fleet.py` puts adapters around its linear layers and takes them off again.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from lorabank.engine.backbone import attention, fourbit, identity
from lorabank.engine.backbone.adaptable import adaptable_linears, adaptable_share
from lorabank.engine.backbone.caches import (
    LruCache,
    new_document_cache,
    new_layer_input_cache,
    new_ordinary_cache,
    new_prompt_cache,
    new_teacher_cache,
)
from lorabank.engine.backbone.head import Head, cross_entropy, leads, losses_of_hidden
from lorabank.engine.backbone.prefill import KeyValues
from lorabank.engine.backbone.self_check import Abilities
from lorabank.engine.encoding.chat import Chat
from lorabank.engine.models.catalog import CATALOG
from lorabank.engine.models.checked_loading import (
    check_forward,
    check_vocabulary,
    load_causal_lm,
    load_tokenizer,
)
from lorabank.engine.models.registry import ModelInfo, find_model
from lorabank.errors import ModelError, UnavailableError, UsageError
from lorabank.lora.distillation import TeacherTargets
from lorabank.lora.shapes import Shape

_ORDINARY_TEXT = "Seven ships lay in the harbour; at noon the wind turned, and three of them left."
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(eq=False)
class Base:
    """A loaded base model with its tokenizer and the caches of what it has computed."""

    info: ModelInfo
    model: Any
    """Causal language model of transformers, frozen and in eval mode."""
    chat: Chat
    prompt_cache: LruCache[KeyValues] = field(default_factory=new_prompt_cache)
    """Keys and values of prompts under the bare model."""
    document_cache: LruCache[Any] = field(default_factory=new_document_cache)
    """KV caches of documents that precede questions, under the bare model."""
    layer_input_cache: LruCache[Tensor] = field(default_factory=new_layer_input_cache)
    """Hidden states that enter the lowest adapted layer."""
    teacher_cache: LruCache[TeacherTargets] = field(default_factory=new_teacher_cache)
    """Predictions of the bare model with a document in its context."""
    ordinary_cache: LruCache[Tensor] = field(default_factory=new_ordinary_cache)
    """Log-probabilities of the bare model on ordinary replies (evaluation/drift.py)."""
    known_answers: tuple[str, ...] | None = None
    """Answers to simple questions that the bare model gives; None before it was asked."""
    ordinary_directions: dict[bool, dict[str, Tensor]] = field(default_factory=dict)
    """Directions of ordinary text by layer, for activated adapters and for others
    (training/protection.py)."""
    entered: list[AbstractContextManager[Any]] = field(default_factory=list)
    """Fleets whose adapters are around the model now, the innermost first."""
    quantized: str | None = None
    """Kind of quantization, `4bit` or None."""
    on_pass: Callable[[], None] | None = None
    """Called between forward passes of long measurements, while no adapter is assigned, so that
    others can use the base meanwhile."""

    @property
    def device(self) -> torch.device:
        return self.model.device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype  # type: ignore[no-any-return]

    @property
    def precision(self) -> str:
        """Return dtype and quantization as records have them: `bfloat16` or `bfloat16 4bit`."""
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{dtype} {self.quantized}" if self.quantized else dtype

    @cached_property
    def identity(self) -> dict[str, str]:
        """Return what records say of the base: its name and the hashes that tell it from others."""
        return {
            "name": self.info.name,
            "sha256": self.info.sha256,
            "config_sha256": identity.hash_config(self.model.config),
            "tokenizer_sha256": identity.hash_tokenizer(self.chat.tokenizer),
            "template_sha256": identity.hash_template(self.chat.tokenizer),
            "transformers": transformers.__version__,
        }

    def let_others_in(self) -> None:
        """Let others use the base, between two forward passes."""
        if self.on_pass:
            self.on_pass()

    @contextmanager
    def bare(self) -> Iterator[None]:
        """Take all fleets off the model for the block, so that others can be put around it."""
        fleets = list(self.entered)
        for fleet in reversed(fleets):
            fleet.__exit__(None, None, None)
        try:
            yield
        finally:
            for fleet in fleets:
                fleet.__enter__()

    @property
    def max_tokens(self) -> int:
        config = self.model.config.get_text_config(decoder=True)
        return int(getattr(config, "max_position_embeddings", 2**31))

    @cached_property
    def linears(self) -> dict[str, Shape]:
        """Return path and (out, in) of the linear layers that an adapter can go around.

        Raises:
            ModelError: there are none, or the model cannot be run.
        """
        ids = torch.tensor(self._ordinary_tokens[:10], device=self.device).view(2, 5)
        try:
            linears = adaptable_linears(self.model, ids)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, ModelError):
                raise
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise self._unusable(f"cannot be run ({reason})") from error
        if not linears:
            raise self._unusable("has no linear layer in its decoder that an adapter can go around")
        return linears

    @cached_property
    def adaptable_share(self) -> float:
        """Return the share of the decoder layers' weights that lie in `linears`."""
        return adaptable_share(self.model, self.linears)

    @cached_property
    def abilities(self) -> Abilities:
        """Return which shortcuts leave this model's results as they are."""
        return Abilities(self.model, self._ordinary_tokens)

    def check_usable(self) -> None:
        """Try on a few tokens what training and asking need, before any work is done.

        Raises:
            ModelError: the model cannot be adapted, or does not write what it reads.
        """
        if self.linears and not self.abilities.generates:
            raise self._unusable("written token by token, differs from itself read at once")

    def _unusable(self, problem: str) -> ModelError:
        kind = type(self.model).__name__
        return ModelError(f"{self.info.name} ({kind}) {problem}; take another base")

    @property
    def _ordinary_tokens(self) -> tuple[int, ...]:
        ids = self.chat.tokenizer(_ORDINARY_TEXT, add_special_tokens=False)["input_ids"]
        return tuple(ids) * 10 if len(ids) < 10 else tuple(ids)

    def weight(self, path: str) -> Tensor:
        """Return an (out, in) float32 copy of a linear layer's frozen weight."""
        module = self.model.get_submodule(path)
        weight: Tensor = getattr(module, "linear", module).weight  # a fleet may have wrapped it
        return weight.detach().float()

    def logits_at(self, rows: Tensor, columns: Tensor, **inputs: Any) -> Tensor:
        """Return the logits at chosen positions only.

        The head of a small model costs as much as all its layers, and a fact needs it at a dozen
        positions. What the architecture does to logits after the head is still done.

        Args:
            rows, columns: (N,) positions in the (B, T) input.
            inputs: passed on to the model.

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
        """Return the cross-entropy of chosen tokens, and how far each leads every other token.

        Args:
            rows, columns: (N,) where in the (B, T) input to read.
            targets: (N,) token ids.
            inputs: passed to the model.

        Returns:
            (N,) nats, differentiable, and (N,) leads in nats, below 0 where argmax picks another
            token.
        """
        if not self.has_plain_head:
            logits = self.logits_at(rows, columns, **inputs)
            nll = F.cross_entropy(logits.float(), targets, reduction="none")
            log_p = F.log_softmax(logits.detach(), dim=-1, dtype=torch.float32)
            return nll, leads(logits.detach(), log_p, targets[:, None])
        hidden = self.hidden_at(rows, columns, **inputs)  # (N, d)
        return losses_of_hidden(hidden, self.head_weights(hidden), targets, cross_entropy(targets))

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

    def head_weights(self, hidden: Tensor) -> Head:
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
    fetch: bool = True,
) -> Base:
    """Load the base model of a name, Hugging Face id, folder or GGUF file.

    Args:
        dtype: `bfloat16` or `float32`; None for bfloat16 where the hardware computes in it.
        device: `cpu` or `cuda`; None for cuda where there is a GPU.
        quantize: `4bit` for NF4 weights in the decoder's linear layers (bitsandbytes), or None.
        fetch: whether the network may be used.

    Raises:
        ModelError: the model is unknown or unusable.
        UnavailableError: the model has to be fetched and cannot be.
    """
    fourbit.check_quantize(quantize)
    return load_info(find_model(name, fetch=fetch), dtype=dtype, device=device, quantize=quantize)


def load_named_base(
    name: str, *, named_by: str, device: str | None = None, quantize: str | None = None
) -> Base:
    """Load the base model that a bank or an adapter names, which somebody else may have made.

    A model of the hub is used if it is on this machine and never fetched: whoever made the file
    would choose what is downloaded.

    Args:
        named_by: the bank or adapter, for the message.

    Raises:
        ModelError: the model is unknown or unusable.
        UnavailableError: the model would have to be fetched.
    """
    try:
        fetch = name in CATALOG
        return load_base(name, device=device, quantize=quantize, fetch=fetch)
    except (ModelError, UnavailableError) as error:
        raise type(error)(
            f"{named_by} names the base model {name[:80]!r}: {error}; if you trust that model, "
            f"fetch it with lorabank models pull, or give another copy as the base"
        ) from error


def load_info(
    info: ModelInfo,
    *,
    dtype: str | None = None,
    device: str | None = None,
    quantize: str | None = None,
) -> Base:
    """Load the base model in a folder that `find_model` returned; arguments as for `load_base`."""
    transformers_logging.disable_progress_bar()  # the commands draw their own
    fourbit.check_quantize(quantize)
    chosen_device = pick_device(device)
    chosen_dtype = DTYPES[dtype] if dtype else native_dtype(chosen_device)
    arguments = fourbit.quantization_arguments(chosen_device, chosen_dtype) if quantize else {}
    model = load_causal_lm(info.path, dtype=chosen_dtype, **arguments)
    if quantize:
        fourbit.replace_packed_layers(model)
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(attention.NAME)
    tokenizer = load_tokenizer(info.path)
    if not quantize:  # a quantised model is on its device already, and cannot be moved
        model.to(chosen_device)
    head = model.get_output_embeddings()
    if head is None:
        raise ModelError(f"{info.name} has no language-model head; give a causal LM")
    check_vocabulary(info.name, model, tokenizer)
    check_forward(info.name, model)
    head.register_forward_pre_hook(_make_contiguous)
    eos = model.generation_config.eos_token_id
    eos_ids = eos if isinstance(eos, list) else [] if eos is None else [eos]
    base = Base(info, model, Chat(tokenizer, eos_ids=eos_ids), quantized=quantize)
    base.check_usable()
    return base


def _make_contiguous(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Copy the head's input (R, T, d) into contiguous memory.

    The last column of the hidden states is not contiguous, and torch would copy the head's weight
    R times. With one row the column counts as contiguous but has the strides of the whole, and the
    weight is copied as well.
    """
    return (args[0].clone(memory_format=torch.contiguous_format), *args[1:])


def pick_device(device: str | None) -> str:
    """Return `cpu` or `cuda`; for None, cuda if torch sees a GPU.

    Raises:
        UsageError: another name, or cuda where torch sees no GPU.
    """
    if device not in (None, "cpu", "cuda"):
        raise UsageError(f"--device must be cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no CUDA GPU here; leave the option out for cpu")
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def native_dtype(device: str) -> torch.dtype:
    """Return bfloat16 where the hardware multiplies in it, else float32.

    On a CPU with AVX512-BF16 it is twice as fast as float32.
    """
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
