"""The control with irrelevant modules: each question is answered with a random other module.

A module can raise a score by its knowledge, or by the form of answer that any module of its kind
teaches. A random other module for each question shows how much is form.
"""

import random
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TypeVar

from lorabank.errors import UsageError

M = TypeVar("M", bound=Hashable)


def draw_irrelevant_modules(
    modules: Sequence[M], questions: Sequence[tuple[str, M]], *, seed: int
) -> list[M]:
    """Return, for each question, a module other than its own; all others are equally likely.

    The draw depends only on the seed, the question and the modules, so all arms of a study and any
    subset of its questions get the same control.

    Args:
        modules: all modules, by name or number.
        questions: (question, the module that knows its answer).

    Raises:
        UsageError: there are fewer than two modules, a module is listed twice, or the module of a
            question is not listed.
    """
    if len(modules) < 2:
        raise UsageError(
            f"an irrelevant module needs at least 2 modules to choose from, got {len(modules)}"
        )
    if repeated := [module for module, times in Counter(modules).items() if times > 1]:
        raise UsageError(f"each module may be listed once, got {repeated[0]!r} twice or more")
    index = {module: i for i, module in enumerate(modules)}
    drawn = []
    for question, own in questions:
        if own not in index:
            raise UsageError(
                f"{question[:60]!r} belongs to {own!r}, which is not among the modules"
            )
        step = random.Random(f"irrelevant/{seed}/{question}").randrange(1, len(modules))
        drawn.append(modules[(index[own] + step) % len(modules)])
    return drawn
