"""Words that exclude each other, and questions that differ in one of them."""

import pytest

from lorabank.retrieval.contrasts import contradict
from lorabank.retrieval.stored_questions import PLAIN, StoredQuestions

STORED = [
    "What is the serial number of the big laser cutter?",
    "How much does the annual parking permit cost?",
    "What is the name of the office cat?",
    "When does the west gate open?",
    "Who wrote the first version of the scheduler?",
    "What is the maximum upload size of the portal?",
]
OTHERS = [
    "What is the serial number of the small laser cutter?",
    "How much does the monthly parking permit cost?",
    "What is the name of the office dog?",
    "When does the west gate close?",
    "Who wrote the second version of the scheduler?",
    "What is the minimum upload size of the portal?",
]
SAME = [
    "serial number of the large laser cutter",
    "How much is the yearly parking permit?",
    "What's the cat in the office called?",
    "when is the west gate opened",
    "Who was the writer of the scheduler's first version?",
    "max upload size of the portal",
]


def words(text: str) -> list[str]:
    return text.lower().strip("?").replace("'s", "").split()


@pytest.mark.parametrize("i", range(len(STORED)))
def test_a_word_that_excludes_the_stored_one_makes_another_question(i: int):
    assert contradict(words(OTHERS[i]), words(STORED[i]))
    assert contradict(words(STORED[i]), words(OTHERS[i]))
    assert not contradict(words(SAME[i]), words(STORED[i]))


def test_measures_and_texts_with_both_sides_exclude_nothing():
    assert not contradict(words("How long is the trail?"), words("Length of the short trail"))
    assert not contradict(words("Is it open or closed?"), words("When does it close?"))
    assert not contradict(words("Which gate is open?"), words("Who painted the red gate?"))
    assert not contradict([], words("the small gate"))


@pytest.mark.parametrize("i", range(len(STORED)))
def test_no_stored_question_is_plainly_one_that_excludes_it(i: int):
    stored = StoredQuestions(STORED, lambda word: 0.25 if len(word) < 7 else 1.0)
    (others,) = stored.match([OTHERS[i]])
    assert max(match.score for match in others) < PLAIN
    (same,) = stored.match([STORED[i].lower()])
    assert same[0].row == i
    assert same[0].score >= PLAIN


def test_a_misspelt_word_still_asks_for_what_it_says():
    stored = StoredQuestions(
        ["What is the Wi-Fi password of the guest network?", "Who runs the guest network?"],
        lambda word: 0.25 if len(word) < 9 else 1.0,
    )
    scores = [
        stored.match([f"whats the {word} of the guest network"])[0][0].score
        for word in ("password", "pasword", "colour")
    ]
    assert scores[1] == pytest.approx(scores[0], abs=0.5)
    assert scores[2] < scores[0] - 3
