"""Letters of multiple-choice answers, read from replies."""

import pytest

from lorabank.tasks.scoring.letters import letter

OPTIONS = ("A man in a hat", "He was captured", "Vitamin C", "Because of D")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        # Examples from the description of the published rule, which misreads them.
        ("The answer is C", "C"),
        ("Correct: D", "D"),
        ("He was captured", None),
        ("Because…", None),
        # A letter by itself or at the beginning.
        ("C", "C"),
        (" (c)\n", "C"),
        ("b.", "B"),
        ("C: He left with A", "C"),
        ("**B**. He left", "B"),
        ("Option D", "D"),
        ("Answer\nB", "B"),
        # Called the answer.
        ("The correct answer is: D", "D"),
        ("the answer is c.", "C"),
        ("The best answer is (B), as A is too early", "B"),
        ("Option A is wrong; the answer is D", "D"),
        ("A is correct", "A"),
        ("The answer's C", "C"),
        ("The answer is A because he left", "A"),
        ("The correct answer is (C).", "C"),
        ("**The correct answer is C**", "C"),
        ("The correct answer is Cy", None),
        ("The correct answer is B? No. The correct answer is (C).", None),
        ("The answer is: C", "C"),
        ("Surely, the option is C", "C"),
        ("Definitely (C).", "C"),
        ("Clearly B", "B"),
        ("It is option B, not C", None),
        ("The answer is", None),
        # The only letter of the reply.
        ("I would say C", "C"),
        ("It is A.", "A"),
        # No letter, or no certain one.
        ("", None),
        ("no", None),
        ("A man left", None),
        ("The answer is A man", None),
        ("the answer is a man", None),
        ("A or B", None),
        ("Both B and D", None),
        ("The answer is not C", None),
        ("It isn't D", None),
        ("Neither A nor B but C", None),
        ("Plan-B, B-side, D.C., C's", None),
    ],
)
def test_the_letter_is_read_from_a_reply(reply: str, expected: str | None):
    assert letter(reply) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
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
def test_a_reply_that_repeats_an_option_has_its_letter(reply: str, expected: str | None):
    assert letter(reply, OPTIONS) == expected


def test_a_reply_that_repeats_two_equal_options_has_no_letter():
    assert letter("He left", ("He left", "he left.", "x", "y")) is None
    assert letter("?", ("?", "x", "y", "z")) is None
