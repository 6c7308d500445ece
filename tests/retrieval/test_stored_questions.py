"""Which stored question a question is: in other words, badly typed, and near misses."""

import numpy as np
import pytest

from lorabank.retrieval.stored_questions import (
    MOST,
    PLAIN,
    Match,
    StoredQuestions,
    probability,
)
from lorabank.retrieval.trigrams import TrigramIndex, fold
from lorabank.retrieval.wordings import token_rarity

COMMON = frozenset(
    """
    what is the phone number of who which dial for leads team airport code where was born in how
    can reach by call should to speak with fax address email old boss please tell me telephone
    crew north south harbour parish church buried
    """.split()  # noqa: SIM905 - to be read as words
)
RARITY = token_rarity(lambda word: 1 if word.strip().lower() in COMMON else 3)
STORED = [
    "What is the phone number of Runa Hjelm?",
    "What is the phone number of Ebbe Vrang?",
    "What is the phone number of Siv Kolbe?",
    "Who leads the harbour team?",
    "What is the airport code of New Ardenholm City?",
    "Where was Odd Sunde born?",
    "Where was Tora Lunt buried?",
    "Who is the boss of Aksel Tofte?",
]


@pytest.fixture(scope="module")
def stored() -> StoredQuestions:
    return StoredQuestions(STORED, RARITY)


def best(stored: StoredQuestions, question: str) -> Match:
    return stored.match([question])[0][0]


@pytest.mark.parametrize(
    ("question", "row"),
    [
        ("What is the phone number of Runa Hjelm?", 0),
        ("what is the phone number of runa hjelm", 0),
        ("Please tell me: What is the phone number of Runa Hjelm?", 0),
        ("What is the phone number of Runa Hjlem?", 0),
        ("phone Ebbe Vrang", 1),
        ("What number should I call to speak with Siv Kolbe?", 2),
        ("Where was Odd Sunde born", 5),
    ],
)
def test_other_words_and_slips_find_their_question(
    stored: StoredQuestions, question: str, row: int
):
    match = best(stored, question)
    assert match.row == row
    assert probability(match.score) > 0.5


@pytest.mark.parametrize(
    "question",
    [
        "What is the phone number of Runa Krogh?",
        "What is the phone number of Ture Vold?",
        "What is the fax number of Runa Hjelm?",
        "Who is the boss of Odd Sunde?",
        "What is bread made of?",
        "?",
    ],
)
def test_near_misses_and_other_questions_are_no_stored_question(
    stored: StoredQuestions, question: str
):
    assert probability(best(stored, question).score) < 0.5


def test_initials_stand_for_a_name(stored: StoredQuestions):
    match = best(stored, "What is the airport code of NAC?")
    assert match.row == 4
    assert match.features[2] < best(stored, "What is the airport code of NXC?").features[2]


def test_a_question_taken_out_is_not_found(stored: StoredQuestions):
    (matches,) = stored.match([STORED[0]], without=[frozenset([0])])
    assert 0 not in [match.row for match in matches]
    assert probability(matches[0].score) < 0.5


def test_a_threshold_lets_few_questions_through_whose_fact_is_not_stored():
    apart = StoredQuestions(STORED, RARITY).calibrate(["What is bread made of?"])
    assert apart == PLAIN
    twins = [f"What is the phone number of Runa Hjel{letter}?" for letter in "mnkvdt"]
    assert PLAIN < StoredQuestions(twins, RARITY).calibrate([]) <= MOST
    assert StoredQuestions(STORED[:1], RARITY).calibrate([]) == PLAIN


def test_a_batch_matches_as_its_questions_alone(stored: StoredQuestions):
    together = stored.match(STORED)
    assert together == [stored.match([question])[0] for question in STORED]


def test_nothing_stored_matches_nothing():
    assert StoredQuestions([], RARITY).match(["Who?"]) == [[]]


def test_names_that_differ_are_named(stored: StoredQuestions):
    known, asked = stored.difference("What is the phone number of Runa Krogh?", STORED[0])
    assert (known, asked) == ("Runa Hjelm", "Runa Krogh")
    known, asked = stored.difference("what is the phone number of runa krogh", STORED[0])
    assert (known, asked) == ("Runa Hjelm", "krogh")


def test_trigram_cosine_is_that_of_sets_weighted_by_rarity():
    texts = [fold(text) for text in ("Ab cd", "ab  cd!", "xyz", "")]
    scores = TrigramIndex(texts).scores(fold("AB, CD"))
    np.testing.assert_allclose(scores, [1.0, 1.0, 0.0, 0.0], atol=1e-6)
    assert TrigramIndex([]).scores("ab").shape == (0,)


def test_typed_in_any_script_and_form():
    stored = StoredQuestions(["東京の電話番号は?", "Где живёт Олег?", "Straße 5?"], RARITY)
    for row, text in enumerate(["東京の電話番号は", "где живёт олег", "STRASSE 5"]):
        assert best(stored, text).row == row
