"""PEFT's layers in the base model, and the base given back as it was.

A tuner here is a class of PEFT's that adapts linear layers: the LoRA of a fleet's other kinds is
one of some thirty (loha, lokr, ia3, vera, oft, …). It is built from a job's settings, or read
from a folder, goes around the base's layers in place, and comes off again whatever happens.
"""

import difflib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import peft
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer

from lorabank.engine.adapters.adapter import check_base, read_config, read_record
from lorabank.engine.backbone.base import Base
from lorabank.engine.training.settings import PEFT_PREFIX, TrainSettings
from lorabank.errors import AdapterError, UsageError

_UNFIT = {
    "adalora": "moves ranks about on a schedule of its own",
    "adaption_prompt": "goes around attention blocks",
    "ln_tuning": "trains norms",
    "poly": "wants a task with every row",
    "shadow": "runs a second stream of its own",
    "trainable_tokens": "trains embeddings",
}
_FEEDFORWARD = ("down_proj", "fc2", "fc_out", "dense_4h_to_h", "w2")  # ia3 scales their input


def tuner_names() -> list[str]:
    """Tuners of the installed PEFT that adapt chosen linear layers of a causal LM, and dora."""
    found = [
        kind.value.lower()
        for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()
        if "target_modules" in {field.name for field in fields(config)}
    ]
    return ["dora", *(name for name in found if name not in _UNFIT)]


def peft_config(base: Base, paths: Sequence[str], settings: TrainSettings) -> Any:
    """PEFT's configuration of a job; r, alpha and dropout go where the tuner has them.

    Raises:
        UsageError: an unknown tuner (names the nearest), or values PEFT refuses.
    """
    s, name = settings, settings.variant.removeprefix(PEFT_PREFIX)
    _check_name(name)
    kinds = {kind.value.lower(): config for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    config = kinds["lora" if name == "dora" else name]
    if name in ("dora", "lora"):
        limit = min(min(base.linears[path]) for path in paths)
        if s.r > limit:
            raise UsageError(
                f"--variant {s.variant} takes r 1..{limit} for these layers, got {s.r}; lower --r"
            )
    alpha = s.alpha if s.alpha % 1 else int(s.alpha)
    wanted: dict[str, Any] = {
        "r": s.r,
        **dict.fromkeys(("alpha", "lora_alpha", f"{name}_alpha"), alpha),
        **dict.fromkeys(("lora_dropout", f"{name}_dropout"), s.dropout),
    }
    known = {field.name for field in fields(config)}
    given = {key: value for key, value in wanted.items() if key in known}
    if name == "dora":
        given["use_dora"] = True
    elif name == "oft":
        given["oft_block_size"] = 0  # follows from r, the number of blocks
    elif name == "ia3":
        given["feedforward_modules"] = [path for path in paths if path.endswith(_FEEDFORWARD)]
    with _refusing(f"--variant {s.variant} does not fit these layers", UsageError):
        return config(
            task_type="CAUSAL_LM",
            target_modules=list(paths),
            base_model_name_or_path=str(base.info.path),
            **given,
        )


@contextmanager
def wrapped(
    base: Base, build: Callable[[], Any], says: str, kind: type[UsageError]
) -> Iterator[Any]:
    """What `build` puts around the base's layers; they get their places back whatever happens.

    Raises:
        UsageError: of that `kind`, with what it `says` and what PEFT said, if `build` fails.
    """
    before = dict(base.model.named_modules())  # parents before their children
    try:
        with _refusing(says, kind):
            model = build()
        set_training(model, False)
        yield model
    finally:
        for path, module in before.items():
            if path and base.model.get_submodule(path) is not module:
                base.model.set_submodule(path, module)
        vars(base.model).pop("peft_config", None)
        base.model.requires_grad_(False)


@contextmanager
def opened(folder: Path, base: Base) -> Iterator[Any]:
    """The base with the adapter of a folder around its layers, as PEFT reads it.

    Raises:
        AdapterError: damaged, of another base model, or activated: only a fleet reads that.
    """
    check_base(folder, read_record(folder), base)
    if read_config(folder).get("alora_invocation_tokens"):
        raise AdapterError(f"{folder} is activated and no plain LoRA; PEFT's generate reads it")

    def build() -> Any:
        return peft.PeftModel.from_pretrained(base.model, folder, torch_device=base.device.type)

    says = f"{folder} cannot be read for {base.info.name}"
    with wrapped(base, build, says, AdapterError) as model:
        yield model


def set_training(model: Any, mode: bool) -> None:
    """Dropout and the like in the adapter only; the base always reads as it will in use."""
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.train(mode)
            module.get_base_layer().train(False)


def _check_name(name: str) -> None:
    names = tuner_names()
    if name in names:
        return
    if name in _UNFIT:
        raise UsageError(f"--variant {PEFT_PREFIX}{name} is not trained here: it {_UNFIT[name]}")
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(names)}"
    raise UsageError(
        f"--variant {PEFT_PREFIX}{name} is no tuner of PEFT {peft.__version__}; {hint}"
    )


@contextmanager
def _refusing(says: str, kind: type[UsageError]) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        warnings.filterwarnings("error", "Found missing adapter keys", UserWarning)
        try:
            yield
        except Exception as error:  # PEFT refuses with errors of every type
            why = " ".join(str(error).split())[:300] or type(error).__name__
            raise kind(f"{says}: {why}") from error
