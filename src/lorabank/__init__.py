"""LoRA adapters as modular knowledge memory for language models.

The names below are what most programs need; each is loaded when it is first used, so that
importing this package costs nothing. Everything else is imported from its own module.

    import lorabank

    base = lorabank.load_base("smollm2-135m")
    report = lorabank.learn(base, [("Who keeps the lighthouse at Nebo?", "Tuva Sorre")], out="nebo")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lorabank.bank.bank import Bank as Bank
    from lorabank.engine.adapters.merging import merge_adapters as merge_adapters
    from lorabank.engine.backbone.base import load_base as load_base
    from lorabank.engine.evaluation.evaluate import evaluate as evaluate
    from lorabank.engine.learn import learn as learn
    from lorabank.engine.recall import recall as recall
    from lorabank.engine.settings import TrainSettings as TrainSettings
    from lorabank.tasks.examples import Example as Example

_PLACES = {
    "Bank": "lorabank.bank.bank",
    "Example": "lorabank.tasks.examples",
    "TrainSettings": "lorabank.engine.settings",
    "evaluate": "lorabank.engine.evaluation.evaluate",
    "learn": "lorabank.engine.learn",
    "load_base": "lorabank.engine.backbone.base",
    "merge_adapters": "lorabank.engine.adapters.merging",
    "recall": "lorabank.engine.recall",
}
__all__ = ["__version__", *_PLACES]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'lorabank' has no attribute {name!r}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
