"""The control with irrelevant modules."""

from collections import Counter

import pytest

from lorabank.errors import UsageError
from lorabank.tasks.control import draw_irrelevant_modules

MODULES = ("a", "b", "c", "d")
QUESTIONS = [(f"Question {i}?", MODULES[i % 4]) for i in range(600)]


def test_every_other_module_is_drawn_about_equally_often_and_never_the_own():
    drawn_modules = draw_irrelevant_modules(MODULES, QUESTIONS, seed=0)
    pairs = Counter((own, other) for (_, own), other in zip(QUESTIONS, drawn_modules, strict=True))
    assert set(pairs) == {(own, other) for own in MODULES for other in MODULES if own != other}
    assert all(30 <= times <= 70 for times in pairs.values())  # 50 expected, 3 sd are 17


def test_the_draw_depends_on_the_seed():
    drawn_modules = draw_irrelevant_modules(MODULES, QUESTIONS, seed=0)
    assert draw_irrelevant_modules(MODULES, QUESTIONS, seed=0) == drawn_modules
    assert draw_irrelevant_modules(MODULES, QUESTIONS, seed=1) != drawn_modules


def test_other_questions_do_not_change_the_draw():
    assert (
        draw_irrelevant_modules(MODULES, QUESTIONS[5:9], seed=0)
        == draw_irrelevant_modules(MODULES, QUESTIONS, seed=0)[5:9]
    )


def test_two_modules_leave_one_choice():
    assert draw_irrelevant_modules([7, 8], [("Who?", 7), ("Where?", 8)], seed=0) == [8, 7]


def test_a_pinned_draw():
    # Pinned: a change of `random` or of the draw would shift every control measured before it.
    assert draw_irrelevant_modules(MODULES, QUESTIONS[:6], seed=0) == ["d", "d", "d", "c", "b", "a"]


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([], "at least 2 modules to choose from, got 0"),
        (["a"], "at least 2 modules to choose from, got 1"),
        (["a", "b", "a"], "each module may be listed once, got 'a' twice"),
        (["b", "c"], "'Who\\?' belongs to 'a', which is not among the modules"),
    ],
)
def test_an_impossible_draw_raises(modules: list[str], message: str):
    with pytest.raises(UsageError, match=message):
        draw_irrelevant_modules(modules, [("Who?", "a")], seed=0)
