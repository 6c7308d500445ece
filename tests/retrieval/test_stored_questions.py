"""Which stored question a question is: in other words, badly typed, and near misses."""

import numpy as np
import pytest

from lorabank.retrieval.aspects import aspects
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


def test_a_sentence_with_a_gap_is_asked_only_with_a_gap():
    gap = "What is missing in “Once ___ is lit, the keeper rings the bell of the tower”?"
    questions = StoredQuestions([gap, *STORED], RARITY)
    plain, filled = questions.match(["What does the keeper of the tower ring once it is lit?", gap])
    assert 0 not in [match.row for match in plain]
    assert filled[0].row == 0
    assert StoredQuestions([gap], RARITY).match(["Who rings the bell?"]) == [[]]


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


TYPED_FACTS = [
    "What is the airport code of São Arvelho?",
    "What happened on flight 4,217?",
    "What does the Wi-Fi of the guest house cost?",
    "Who is the boss of Aksel Tofte?",
    "When was Odd Sunde born?",
    "Wie lautet die Telefonnummer von Jürgen Brandt?",
    "林静的电话号码是多少？",
    "What is the model number of the pump?",
    "Which room is the finance department in?",
]
NAMES = {"arvelho", "aksel", "tofte", "sunde", "brandt"}
EVERYDAY = token_rarity(
    lambda word: 2 if (name := word.strip().lower()) in NAMES or not name.isascii() else 1
)


@pytest.mark.parametrize(
    ("question", "row"),
    [
        ("Sao Arvelho airport code?", 0),
        ("AIRPORT CODE SAO ARVELHO PLS", 0),
        ("what happened on flight 4217", 1),
        ("What does the WiFi of the guesthouse cost?", 2),
        ("who does aksel tofte report to", 3),
        ("odd sunde birthday", 4),
        ("Telefonnummer von Jurgen Brandt", 5),
        ("林静的电话号码？", 6),
        ("model no. of the pump", 7),
        ("what room is the finance dept in", 8),
    ],
)
def test_typed_without_accents_separators_and_in_everyday_words(question: str, row: int):
    match = best(StoredQuestions(TYPED_FACTS, EVERYDAY), question)
    assert match.row == row
    assert match.score > 0


@pytest.mark.parametrize(
    "question",
    [
        "Where was Odd Sunde born?",
        "what happened on flight 4218",
        "王静的电话号码是多少？",
        "What is the address of Odd Sunde?",
        "weight of the pump",
    ],
)
def test_what_is_asked_for_tells_near_misses_apart(question: str):
    assert best(StoredQuestions(TYPED_FACTS, EVERYDAY), question).score < 0


def test_folding_keeps_words_apart():
    assert fold("  São-Paulo’s Ærø! ") == "sao paulo s aero"
    assert fold("4,217") == fold("4 217") == fold("4217") == "4217"
    assert fold("1.5 and 3,14") == "1 5 and 3 14"
    assert fold("519-017-5311") == "519017 5311"
    assert fold("東京ABC") == "東 京 abc"


def test_aspects_are_asked_in_three_languages():
    assert aspects(["telefonnummer"]) == aspects(["telefono"]) == aspects(["phone"])
    assert not aspects(["wie", "lautet", "die", "nummer"])
    assert aspects(["when", "did", "he", "die"])
    assert not aspects(["found"])
    assert aspects(["founded"])
