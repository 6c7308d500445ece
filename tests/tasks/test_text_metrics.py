"""Text metrics: by hand, against their formulas and against reference libraries."""

import math
import random
import sys
from collections import Counter

import pytest
from rouge_score.rouge_scorer import RougeScorer

from lorabank.errors import UnavailableError, UsageError
from lorabank.tasks.scoring import text_metrics
from lorabank.tasks.scoring.exact_match import is_same_text
from lorabank.tasks.scoring.letters import letter
from lorabank.tasks.scoring.text_metrics import (
    METRICS,
    bleu,
    exact_match,
    rouge_l,
    rouge_l_unstemmed,
    token_f1,
)

# Shared: 5 of 6 words, 3 of 5 pairs, 1 of 4 triples and none of 3 fours.
REPLY, GOLD = "the cat sat on the mat", "The cat is on the mat."


def bleu_by_formula(reply: list[str], gold: list[str]) -> float:
    """Return BLEU-4 of one sentence by its formula, with 0.1 in place of no match."""
    logs = []
    for n in range(1, 5):
        reply_counts, gold_counts = (
            Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
            for words in (reply, gold)
        )
        shared = sum((reply_counts & gold_counts).values())
        if n == 1 and not shared:
            return 0.0
        logs.append(math.log((shared or 0.1) / max(1, sum(reply_counts.values()))))
    return math.exp(min(0.0, 1 - len(gold) / len(reply)) + sum(logs) / 4)


def draw_words(rng: random.Random) -> list[str]:
    return rng.choices("the cat dog sat mat on a is 7".split(), k=rng.randint(1, 12))  # noqa: SIM905


# BLEU


def test_bleu_equals_a_calculation_by_hand():
    assert bleu(REPLY, GOLD) == pytest.approx((5 / 6 * 3 / 5 * 1 / 4 * 0.1 / 3) ** 0.25)


def test_bleu_is_lower_for_replies_that_are_too_short():
    gold = "one two three four five six"
    assert bleu("one two three four", gold) == pytest.approx(math.exp(1 - 6 / 4))
    assert bleu("one two three four five six seven", gold) > bleu("one two three four", gold)


def test_bleu_equals_its_formula():
    rng = random.Random("bleu")
    for _ in range(200):
        reply, gold = draw_words(rng), draw_words(rng)
        assert bleu(" ".join(reply), " ".join(gold)) == pytest.approx(bleu_by_formula(reply, gold))


@pytest.mark.parametrize(
    ("reply", "gold"),
    [
        ("A-B c's d_1, e", "a b C S d_1 e"),  # other characters separate words
        ("Über den Fluß 東京", "über den fluß 東京!"),
    ],
)
def test_bleu_ignores_case_and_punctuation(reply: str, gold: str):
    assert bleu(reply, gold) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "score"), [("Denver", 0.1**0.75), ("Denver Broncos", 0.1**0.5), ("a b c", 0.1**0.25)]
)
def test_bleu_of_an_equal_answer_under_four_words_is_below_1(text: str, score: float):
    assert bleu(text, text) == pytest.approx(score)


# ROUGE-L


def test_rouge_equals_a_calculation_by_hand():
    assert rouge_l(REPLY, GOLD) == pytest.approx(5 / 6)  # 5 of 6 both ways
    precision, recall = 2 / 3, 2 / 5  # "cats run" of "cats run fast", in order
    assert rouge_l("cats run fast", "the cats often run away") == pytest.approx(
        2 * precision * recall / (precision + recall)
    )


def test_rouge_compares_stems_of_words_above_three_letters():
    assert rouge_l("planning trees", "Planned tree") == 1
    assert rouge_l("gas", "ga") == 0


def test_rouge_depends_on_the_order_of_words():
    assert rouge_l("mat the on cat", "cat on the mat") == pytest.approx(1 / 4)


def test_rouge_knows_only_ascii_words():
    assert rouge_l("東京", "東京") == 0
    assert rouge_l("café", "caf") == 1


def test_rouge_equals_the_library_with_its_stemmer():
    rng = random.Random("rouge")
    library = RougeScorer(["rougeL"], use_stemmer=True)
    for _ in range(50):
        reply, gold = " ".join(draw_words(rng)), " ".join(draw_words(rng))
        assert rouge_l(reply, gold) == library.score(gold, reply)["rougeL"].fmeasure


def test_rouge_without_stems_compares_whole_words():
    assert rouge_l_unstemmed("planning trees", "Planned tree") == 0
    assert rouge_l_unstemmed("Planned trees", "planned, tree") == 1 / 2


def test_rouge_without_stems_equals_the_library_with_several_golds():
    rng = random.Random("plain")
    library = RougeScorer(["rougeL"], use_stemmer=False)
    for _ in range(50):
        reply, *golds = (" ".join([*draw_words(rng), "planning"]) for _ in range(3))
        best = library.score_multi(golds, reply)["rougeL"].fmeasure
        assert rouge_l_unstemmed(reply, golds) == best


# SQuAD's measures


def test_token_f1_equals_a_calculation_by_hand():
    # Without articles "cat sat on mat" against "cat is on mat": 3 shared of 4 and 4.
    assert token_f1(REPLY, GOLD) == pytest.approx(3 / 4)
    assert token_f1("to be or not to be", "to be to be to be") == pytest.approx(8 / 12)
    assert token_f1("in Santa Clara, California", "Santa Clara") == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    ("reply", "gold", "is_match"),
    [
        ("The  Denver\nBroncos.", "denver broncos", True),
        ('"golden anniversary"', "golden anniversary", True),
        ("U.S.", "us", True),  # punctuation goes without leaving a space
        ("well-known", "well known", False),
        ("theatre", "atre", False),  # only whole articles go
        ("Broncos Denver", "Denver Broncos", False),
        ("Denver", "Denver Broncos", False),
    ],
)
def test_exact_match_ignores_case_articles_and_punctuation(reply: str, gold: str, is_match: bool):
    assert exact_match(reply, gold) == float(is_match)


# All of them


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_an_equal_reply_of_four_words_scores_1_and_an_unlike_one_0(metric):
    assert metric("Monte Carlo Tree Diffusion", "monte carlo tree diffusion") == pytest.approx(1)
    assert metric("Rho", "Monte Carlo Tree Diffusion") == 0


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize(("reply", "gold"), [("", "x"), ("x", ""), (" \n", "x"), ("?!", "x")])
def test_without_words_on_one_side_nothing_is_shared(metric, reply: str, gold: str):
    assert metric(reply, gold) == 0


@pytest.mark.parametrize(
    ("name", "score"), [("bleu", 0), ("rouge_l", 0), ("token_f1", 1), ("exact_match", 1)]
)
@pytest.mark.parametrize(("reply", "gold"), [("", ""), ("...", "")])
def test_without_words_on_both_sides_overlap_is_0_and_equality_1(
    name: str, score: float, reply: str, gold: str
):
    assert METRICS[name](reply, gold) == score


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_the_best_of_several_golds_counts(metric):
    golds = ("in the year 2015", "the season of 2015", "2015")
    assert metric("season of 2015", golds) == max(metric("season of 2015", gold) for gold in golds)
    assert metric("season of 2015", golds) > metric("season of 2015", golds[2])


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_no_gold_raises(metric):
    with pytest.raises(UsageError, match="at least one gold answer"):
        metric("x", [])


@pytest.mark.parametrize(
    ("name", "package", "scorer"),
    [
        ("bleu", "nltk.translate.bleu_score", text_metrics._bleu_scorer),
        ("rouge_l", "rouge_score.rouge_scorer", text_metrics._rouge_scorer),
    ],
)
def test_a_missing_package_says_what_to_install(monkeypatch, name: str, package: str, scorer):
    scorer.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)  # what Python itself does for "not there"
    with pytest.raises(UnavailableError, match=r"install lorabank\[eval\]"):
        METRICS[name]("x", "x")


def test_accents_typed_as_one_character_or_two_are_the_same():
    assert exact_match("Cafe\u0301", "Café") == 1
    assert token_f1("the Cafe\u0301 Brandt", "Café Brandt") == 1
    assert is_same_text("Cafe\u0301.", "café")
    assert letter("Cafe\u0301", ("Bar", "Café", "Inn", "Pub")) == "B"
