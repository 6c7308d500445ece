"""The capacity of a module: the capacity law of its base, at the module's size."""

from functools import lru_cache

from lorabank.bank.bank import Bank
from lorabank.engine.backbone.base import Base
from lorabank.planning.forecast import GOAL, load_shipped_capacity
from lorabank.planning.law import fit_recall_law


def capacity_bits(bank: Bank, trainable_parameters: int | None) -> float | None:
    """Return the bits at which 98 % recall is predicted; None where no law is known."""
    per_parameter = _bits_per_parameter(bank.base)
    if per_parameter is None or not trainable_parameters:
        return None
    return per_parameter * trainable_parameters


@lru_cache(maxsize=4)
def _bits_per_parameter(base: Base) -> float | None:
    capacity = load_shipped_capacity(base)
    return fit_recall_law(capacity.points).invert(GOAL) if capacity else None
