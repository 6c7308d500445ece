import pytest

from lorabank.tasks.scoring.letters import letter, letter_as_published

OPTIONS = ("A man in a hat", "He was captured", "Vitamin C", "Because of D")


@pytest.mark.parametrize(
    ("reply", "published", "meant"),
    [
        # Those of the published rule's description.
        ("The answer is C", "A", "C"),
        ("Correct: D", "C", "D"),
        ("He was captured", "A", None),
        ("Because…", "B", None),
        # A letter by itself or at the beginning.
        ("C", "C", "C"),
        (" (c)\n", "C", "C"),
        ("b.", "B", "B"),
        ("C: He left with A", "C", "C"),
        ("**B**. He left", "B", "B"),
        ("Option D", "D", "D"),
        ("Answer\nB", "A", "B"),
        # Called the answer.
        ("The correct answer is: D", "C", "D"),
        ("the answer is c.", "A", "C"),
        ("The best answer is (B), as A is too early", "B", "B"),
        ("Option A is wrong; the answer is D", "A", "D"),
        ("A is correct", "A", "A"),
        ("The answer's C", "A", "C"),
        ("The answer is A because he left", "A", "A"),
        # Alone.
        ("I would say C", "D", "C"),
        ("It is A.", "A", "A"),
        # Nothing, or nothing certain.
        ("", "X", None),
        ("no", "X", None),
        ("A man left", "A", None),
        ("The answer is A man", "A", None),
        ("the answer is a man", "A", None),
        ("A or B", "A", None),
        ("Both B and D", "B", None),
        ("The answer is not C", "A", None),
        ("It isn't D", "D", None),
        ("Neither A nor B but C", "A", None),
        ("Plan-B, B-side, D.C., C's", "A", None),
    ],
)
def test_both_rules(reply: str, published: str, meant: str | None):
    assert letter_as_published(reply) == published
    assert letter(reply) == meant


@pytest.mark.parametrize(
    ("reply", "meant"),
    [
        ("He was captured.", "B"),
        ("vitamin c", "C"),
        ("a man in a hat", "A"),
        ("Because of D", "D"),
        ("The answer is A", "A"),
        ("He was", None),
        ("", None),
    ],
)
def test_a_reply_that_is_an_option_means_it(reply: str, meant: str | None):
    assert letter(reply, OPTIONS) == meant


def test_two_options_of_one_text_are_not_told_apart():
    assert letter("He left", ("He left", "he left.", "x", "y")) is None
    assert letter("?", ("?", "x", "y", "z")) is None
