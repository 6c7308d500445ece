"""PEFT's layers around those of the base, and their removal afterwards.

A tuner is one of PEFT's thirty or so classes that adapt linear layers (lora, loha, lokr, ia3,
vera, oft, …). It is built from a job's settings or read from a folder, replaces the base's layers
in place, and is always removed again.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import peft
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer

from lorabank.engine.adapters.adapter import (
    TENSORS,
    check_base,
    read_config,
    read_record,
    warn_of_other_base,
)
from lorabank.engine.adapters.plain_lora import is_target
from lorabank.engine.backbone.base import Base
from lorabank.engine.peft_backend import adalora
from lorabank.engine.settings import PEFT_PREFIX, TrainSettings
from lorabank.errors import AdapterError, UsageError, did_you_mean

_UNSUPPORTED = {
    "adaption_prompt": "wraps attention blocks",
    "ln_tuning": "trains norms",
    "poly": "needs a task with every row",
    "shadow": "runs a second stream of hidden states",
    "trainable_tokens": "trains embeddings",
}
_PICKLE = "adapter_model.bin"  # PEFT reads it with weights_only, so nothing in it is run
_FEEDFORWARD = ("down_proj", "fc2", "fc_out", "dense_4h_to_h", "w2")  # ia3 scales their input


def tuner_names() -> list[str]:
    """Return dora and PEFT's tuners that adapt chosen linear layers of a causal LM."""
    names = [
        kind.value.lower()
        for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()
        if "target_modules" in {field.name for field in fields(config)}
    ]
    return ["dora", *(name for name in names if name not in _UNSUPPORTED)]


def peft_config(
    base: Base, paths: Sequence[str], settings: TrainSettings, *, total_steps: int = 1000
) -> Any:
    """Return PEFT's configuration of a job, with r, alpha and dropout if the tuner has them.

    Args:
        total_steps: of the job, for a tuner with a schedule of its own.

    Raises:
        UsageError: the tuner is unknown (the message names the nearest), or PEFT refuses a value.
    """
    s, name = settings, settings.variant.removeprefix(PEFT_PREFIX)
    _check_name(name)
    kinds = {kind.value.lower(): config for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    config = kinds["lora" if name == "dora" else name]
    if name in ("dora", "lora", "adalora"):
        limit = min(min(base.linears[path]) for path in paths)
        if s.r > limit:
            raise UsageError(
                f"--variant {s.variant} takes r 1..{limit} for these layers, got {s.r}; lower --r"
            )
    alpha = s.alpha if s.alpha % 1 else int(s.alpha)
    values: dict[str, Any] = {
        "r": s.r,
        **dict.fromkeys(("alpha", "lora_alpha", f"{name}_alpha"), alpha),
        **dict.fromkeys(("lora_dropout", f"{name}_dropout"), s.dropout),
    }
    known = {field.name for field in fields(config)}
    arguments = {key: value for key, value in values.items() if key in known}
    if name == "dora":
        arguments["use_dora"] = True
    elif settings.variant == adalora.VARIANT:
        del arguments["r"]
        arguments |= adalora.schedule(settings, total_steps)
    elif name == "oft":
        arguments["oft_block_size"] = 0  # follows from r, the number of blocks
    elif name == "ia3":
        arguments["feedforward_modules"] = [path for path in paths if path.endswith(_FEEDFORWARD)]
    with _peft_errors(f"--variant {s.variant} does not fit these layers", UsageError):
        return config(
            task_type="CAUSAL_LM",
            target_modules=list(paths),
            base_model_name_or_path=str(base.info.path),
            **arguments,
        )


@contextmanager
def wrapped(
    base: Base,
    build: Callable[[], Any],
    problem: str,
    kind: type[UsageError],
    *,
    changes_base: bool = False,
) -> Iterator[Any]:
    """Yield the model that `build` makes around the base's layers, and restore them afterwards.

    Args:
        problem: the start of the error message if PEFT refuses, which goes on with PEFT's reason.
        kind: class of that error.
        changes_base: whether `build` may change weights of the base, as PiSSA does; they are copied
            first and put back afterwards.

    Raises:
        UsageError: `build` fails.
    """
    before = dict(base.model.named_modules())  # parents before their children
    kept_weights = (
        {name: p.data.clone() for name, p in base.model.named_parameters()}
        if (changes_base)
        else {}
    )
    try:
        with _peft_errors(problem, kind):
            model = build()
        set_training(model, False)
        yield model
    finally:
        for path, module in before.items():
            if path and base.model.get_submodule(path) is not module:
                base.model.set_submodule(path, module)
        vars(base.model).pop("peft_config", None)
        for name, weight in kept_weights.items():
            base.model.get_parameter(name).data = weight
        base.model.requires_grad_(False)


@contextmanager
def opened(folder: Path, base: Base) -> Iterator[Any]:
    """Yield the base with the adapter of a folder around its layers, as PEFT reads it.

    Raises:
        AdapterError: the adapter is damaged, of another base model, or activated, which a fleet
            alone supports.
    """
    config, record = read_config(folder), read_record(folder)
    check_base(folder, record, base)
    warn_of_other_base(folder, config, record, base)
    _check_opened(folder, config)
    if config.get("alora_invocation_tokens"):
        raise AdapterError(
            f"{folder} is an activated adapter but not a plain LoRA; use PEFT's own generate"
        )

    def build() -> Any:
        return peft.PeftModel.from_pretrained(base.model, folder, torch_device=base.device.type)

    problem = f"{folder} cannot be read for {base.info.name}"
    # A and B of PiSSA, OLoRA and their like count from a base that PEFT changes at loading.
    with wrapped(base, build, problem, AdapterError, changes_base=True) as model:
        yield model


def _check_opened(folder: Path, config: dict[str, Any]) -> None:
    """Refuse what PEFT would fetch, import or wait for while it opens a folder.

    Raises:
        AdapterError: names it.
    """
    kinds = [
        kind.value
        for kind, class_ in PEFT_TYPE_TO_CONFIG_MAPPING.items()
        if "target_modules" in {field.name for field in fields(class_)}
    ]
    if config.get("peft_type") not in kinds:
        raise AdapterError(f"{folder}: peft_type {str(config.get('peft_type'))[:40]} is not opened")
    for key in ("megatron_config", "arrow_config", "loftq_config"):
        if config.get(key) and (
            key != "loftq_config" or config.get("init_lora_weights") == "loftq"
        ):
            raise AdapterError(f"{folder}: {key} is not opened; convert the adapter with PEFT")
    odd = [p.name for p in folder.iterdir() if p.is_symlink() or not (p.is_file() or p.is_dir())]
    if odd:
        raise AdapterError(
            f"{folder} holds {odd[0]}, a link, a pipe or a device; give a folder of files"
        )
    if not any((folder / name).is_file() for name in (TENSORS, _PICKLE)):
        raise AdapterError(f"{folder} has no {TENSORS}; PEFT's save_pretrained writes it")
    for key in ("target_modules", "exclude_modules"):
        if isinstance(config.get(key), str):
            is_target({"target_modules": config[key]}, "model.layers.0.self_attn.q_proj")


def set_training(model: Any, mode: bool) -> None:
    """Set training mode, and with it dropout, in the adapter's layers only, never in the base's."""
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.train(mode)
            module.get_base_layer().train(False)


def _check_name(name: str) -> None:
    names = tuner_names()
    if name in names:
        return
    if name in _UNSUPPORTED:
        raise UsageError(
            f"--variant {PEFT_PREFIX}{name} is not supported, as it {_UNSUPPORTED[name]}"
        )
    hint = did_you_mean(name, names, n=3) or f"; choose from {', '.join(names)}"
    raise UsageError(
        f"--variant {PEFT_PREFIX}{name} is not a tuner of PEFT {peft.__version__}{hint}"
    )


@contextmanager
def _peft_errors(problem: str, kind: type[UsageError]) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        # AdaLoRA's own: its keys name what PEFT looks up elsewhere, and are read all the same.
        warnings.filterwarnings("ignore", "The following rank_pattern keys", RuntimeWarning)
        warnings.filterwarnings("ignore", ".* have invalid shape", UserWarning)
        warnings.filterwarnings("error", "Found missing adapter keys", UserWarning)
        try:
            yield
        except Exception as error:  # PEFT refuses with errors of every type
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise kind(f"{problem}: {reason}") from error
