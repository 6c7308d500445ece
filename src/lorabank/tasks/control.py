"""The irrelevant-module control: the same question, answered with a module that does not know.

What a module adds to a score can be knowledge, or only the form of an answer that any module of
its kind would teach. A random other module for each question shows how much is the second.
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
    """For each question a module other than its own, every other one as likely.

    The draw depends on the seed, the question and the modules, not on what else is asked: all arms
    of a study, and any part of its questions, get the same control.

    Args:
        modules: all there are, by name or number.
        questions: (question, the module that knows).

    Raises:
        UsageError: fewer than two modules, one named twice, or a question's own not among them.
    """
    if len(modules) < 2:
        raise UsageError(
            f"an irrelevant module needs at least 2 modules to choose from, got {len(modules)}"
        )
    if twice := [module for module, times in Counter(modules).items() if times > 1]:
        raise UsageError(f"each module may stand once, got {twice[0]!r} twice or more")
    place = {module: i for i, module in enumerate(modules)}
    drawn = []
    for question, own in questions:
        if own not in place:
            raise UsageError(f"{question[:60]!r} is of {own!r}, which is not among the modules")
        step = random.Random(f"irrelevant/{seed}/{question}").randrange(1, len(modules))
        drawn.append(modules[(place[own] + step) % len(modules)])
    return drawn
