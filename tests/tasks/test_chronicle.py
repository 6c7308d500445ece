"""Chronicles: their facts, their length, and the same chronicle for the same seed."""

import random
import re
from collections import Counter

import pytest

from lorabank.errors import UsageError
from lorabank.tasks.synthetic import chronicle, chronicle_lore
from lorabank.tasks.synthetic.chronicle import (
    build,
    count_words,
    render_chapter,
    render_chapters,
    render_sentence,
    render_text,
)
from lorabank.tasks.synthetic.chronicle_world import ChronicleFact, Date, draw_chapters, draw_name


def all_facts(n_words: int, seed: int = 0) -> list[ChronicleFact]:
    return [fact for chapter in build(n_words, seed=seed).chapters for fact in chapter.facts]


# Contents


def test_a_chapter_is_its_facts_rendered():
    first = build(1000, seed=0).chapters[0]
    told_sentences = [chronicle_lore.OPENINGS[first.opening], *map(render_sentence, first.facts)]
    heading, body = render_chapter(first).split("\n\n", 1)
    assert heading == "Chapter 1. The year 301."
    assert body.replace("\n\n", " ") == " ".join(told_sentences)


def test_a_pinned_chronicle():
    # Pinned: a Python that draws otherwise would make other studies of the same seed.
    first, *_, last = build(1000, seed=0).chapters
    assert render_sentence(first.facts[0]) == "Muhamere was known far and wide for its smoked eels."
    assert render_sentence(last.facts[-1]) == "The teacher of Sogu Cena was Muzu Nari."


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        (ChronicleFact("Ada Bo", "trade", "cooper", 0), "By trade Ada Bo was a cooper."),
        (ChronicleFact("the hunt of Pim", "leader", "Ada Bo", 0), "Ada Bo led the hunt of Pim."),
        (ChronicleFact("the hunt of Pim", "length", "9 days", 0), "The hunt of Pim lasted 9 days."),
        (
            ChronicleFact("Pim", "reeve", "Ada Bo", 2, Date(302, 1, 9)),
            "Ada Bo was sworn in as reeve of Pim on 9 Icemonth 302.",
        ),
    ],
)
def test_a_fact_becomes_a_sentence(fact: ChronicleFact, text: str):
    assert render_sentence(fact) == text


def test_no_two_people_towns_or_events_share_what_identifies_them():
    # Each has one fact for each relation, so two of the same name would have two.
    facts = [fact for fact in all_facts(60_000) if fact.relation != chronicle_lore.REEVE]
    assert max(Counter((fact.subject, fact.relation) for fact in facts).values()) == 1
    for relation in ("keepsake", "river"):
        values = [fact.value for fact in facts if fact.relation == relation]
        assert len(values) == len(set(values)) > 100
    kinds: dict[str, set[str]] = {}
    for fact in facts:
        relation = chronicle_lore.RELATIONS[fact.relation]
        kinds.setdefault(fact.subject, set()).add(relation.subject)
        if relation.value:
            kinds.setdefault(fact.value, set()).add(relation.value)
    assert {len(subject_kinds) for subject_kinds in kinds.values()} == {
        1
    }  # no town has a person's name


def test_a_town_has_one_new_reeve_a_year_and_none_twice():
    reeves = [fact for fact in all_facts(60_000) if fact.relation == chronicle_lore.REEVE]
    assert len({(fact.subject, fact.value) for fact in reeves}) == len(reeves)
    assert len({(fact.subject, fact.date.year) for fact in reeves if fact.date}) == len(reeves)


def test_teachers_are_older_than_their_pupils():
    facts = all_facts(30_000)
    born = {fact.subject: int(fact.value) for fact in facts if fact.relation == "birth_year"}
    pairs = [(fact.subject, fact.value) for fact in facts if fact.relation == "teacher"]
    birth_years = [
        (born[pupil], born[teacher]) for pupil, teacher in pairs if {pupil, teacher} <= born.keys()
    ]
    assert len(birth_years) > 50
    assert all(teacher < pupil for pupil, teacher in birth_years)


def test_the_facts_of_a_person_are_in_many_chapters():
    chapters: dict[str, set[int]] = {}
    for chapter in build(20_000, seed=0).chapters:
        for fact in chapter.facts:
            chapters.setdefault(fact.subject, set()).add(chapter.number)
    assert sum(len(numbers) > 2 for numbers in chapters.values()) > len(chapters) / 3


def test_every_form_of_a_sentence_is_used():
    used = {(fact.relation, fact.form) for fact in all_facts(10_000)}
    assert used == {(r, form) for r in [*chronicle_lore.RELATIONS, "reeve"] for form in range(3)}
    assert all(len(relation.statements) == 3 for relation in chronicle_lore.RELATIONS.values())


def test_no_word_after_a_begins_with_a_vowel():
    assert not re.search(r"\ba [aeiou]", render_text(build(60_000, seed=0)))


# Length, seeds


@pytest.mark.parametrize("n_words", [500, 1000, 2001, 20_000, 250_000])
def test_the_length_is_reached_up_to_two_sentences(n_words: int):
    made = build(n_words, seed=3)
    assert n_words - 40 < count_words(render_text(made)) <= n_words
    assert [chapter.number for chapter in made.chapters] == list(range(1, len(made.chapters) + 1))


def test_the_length_is_in_units_of_the_count():
    made = build(9000, seed=0, count=len)
    assert 9000 - 200 < len(render_text(made)) <= 9000


def test_a_shorter_chronicle_is_the_beginning_of_a_longer_one():
    short, long = build(2000, seed=5), build(5000, seed=5)
    *complete, last = short.chapters
    assert complete == list(long.chapters[: len(complete)])
    assert last.facts == long.chapters[len(complete)].facts[: len(last.facts)]


def test_the_same_seed_gives_the_same_chronicle():
    assert build(3000, seed=1) == build(3000, seed=1)
    assert not {f.subject for f in all_facts(3000, 1)} & {f.subject for f in all_facts(3000, 2)}


def test_documents_are_the_chapters_of_the_text():
    made = build(1500, seed=0)
    assert "\n\n".join(render_chapters(made)) == render_text(made)
    assert len(render_chapters(made)) == len(made.chapters) > 8


@pytest.mark.parametrize("length", [0, 499, 250_001])
def test_a_length_out_of_range_raises(length: int):
    with pytest.raises(UsageError, match=r"must be 500\.\.250,000, got"):
        build(length, seed=0)


def test_counts_that_no_chronicle_can_meet_raise():
    with pytest.raises(UsageError, match="no sentence fits in a length of 500"):
        build(500, seed=0, count=lambda text: 100 * len(text))
    with pytest.raises(UsageError, match=r"a chronicle has words for [0-9,]+ chapters"):
        build(500, seed=0, count=lambda text: 0)


def test_chapters_end_only_beyond_the_longest_chronicle():
    chapters = []
    with pytest.raises(UsageError, match="1,922 chapters"):
        chapters.extend(map(render_chapter, draw_chapters(random.Random(0))))
    assert sum(map(count_words, chapters)) > chronicle.MAX_LENGTH


def test_names_are_two_words():
    assert re.fullmatch(r"[A-Z][a-z]{3} [A-Z][a-z]{3}", draw_name(random.Random(0)))
