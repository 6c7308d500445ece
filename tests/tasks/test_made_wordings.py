"""Wordings made by rule: nothing invented, names whole, held out apart, reversed where sensible."""

import re

import pytest

from lorabank.tasks.examples import Example, Message, from_pair
from lorabank.tasks.joined_facts import prompt_keys
from lorabank.tasks.made_wordings import keeps, reverse, reword
from lorabank.tasks.question_shapes import find_wordings
from lorabank.tasks.synthetic import phonebook

QUESTIONS = {
    "What is the phone number of Kimu Gugu?": "Kimu Gugu",
    "What is the date of birth of Ada Byron?": "Ada Byron",
    "What's Ada Byron's date of birth?": "Ada Byron",
    "Who was the screenwriter for Night of the Owl?": "Night of the Owl",
    "What is the capital of the Duchy of Nebo?": "the Duchy of Nebo",
    "Tell me the code of Oslo.": "Oslo",
    "The mother tongue of Danielle Darrieux is": "Danielle Darrieux",
    "In which historic county is 7 Lancaster Crescent located?": "7 Lancaster Crescent",
    "Which country is Mount Ubo located in?": "Mount Ubo",
    "Where was Erik de Vries born?": "Erik de Vries",
    "Who discovered (483968) 2006 BJ226?": "(483968) 2006 BJ226",
    "When does the ferry to Nebo leave?": "Nebo",
    "How many boats does Rosa Lind own?": "Rosa Lind",
    "What type of event was Water polo at the 1975 Games?": "Water polo",
    "In which paper was “Jakto na Mazowszu” published?": "“Jakto na Mazowszu”",
    "Ferrari 250 GTO is produced by": "Ferrari 250 GTO",
}
ADDED = set(
    re.findall(
        r"\w+",
        "tell me please could you what who which is was are were the a an of in for to s do "
        "know say i need would like answer hello can help complete sentence fill blank finish "
        "how where when this by with be found situated located one",
    )
)


@pytest.mark.parametrize("question", QUESTIONS)
def test_wordings_keep_the_name_and_all_that_is_asked_and_add_nothing(question: str):
    wordings = find_wordings(question)
    example, name = from_pair(question, "x"), QUESTIONS[question].casefold()
    asked = set(re.findall(r"\w+", question.casefold()))
    assert len(wordings.taught) >= 3
    assert wordings.held_out
    for text in (*wordings.taught, *wordings.held_out):
        assert re.sub(r"^the ", "", name) in text.casefold()
        assert keeps(example, text)
        assert set(re.findall(r"[^\W_]+", text.casefold())) - asked <= ADDED, text
    assert not set(wordings.taught) & set(wordings.held_out)


def test_a_question_of_a_relation_is_put_in_several_styles():
    (example,) = reword([from_pair("What is the phone number of Kimu Gugu?", "1")], 6)
    assert example.also == (
        "What is Kimu Gugu's phone number?",
        "Tell me the phone number of Kimu Gugu.",
        "kimu gugu phone number",
        "Could you please tell me what the phone number of Kimu Gugu is?",
        "Kimu Gugu's phone number is",
    )
    assert example.held_out == (
        "Do you know Kimu Gugu's phone number?",
        "Phone number for Kimu Gugu, please.",
    )


@pytest.mark.parametrize(
    ("question", "wordings"),
    [
        ("¿Cuál es la capital de Perú?", ["¿cuál es la capital de perú"]),
        ("オスロの空港コードは？", []),
        ("Summarise it. Then say who wrote it.", []),
        ("First line\nsecond line: " + "and so on " * 40, []),
        ("What does `Foo()` print?", ["Please tell me: What does `Foo()` print?"]),
    ],
)
def test_what_has_no_shape_is_hardly_touched(question: str, wordings: list[str]):
    (example,) = reword([from_pair(question, "x")], 4)
    assert list(example.also)[:1] == wordings
    assert not any("foo" in text for text in example.also)


def test_neighbours_get_other_styles_and_all_get_the_number_asked_for():
    book = reword(phonebook.to_examples(phonebook.build(9, seed=1)), 4)
    assert [len(example.also) for example in book] == [3] * 9
    shapes = {tuple(t.split()[0] for t in e.also) for e in book}
    assert len(shapes) > 4
    assert reword(book, 4) == book


def test_given_wordings_count_and_stay_first():
    given = Example(
        (Message("user", "Where is it? "),), "x", also=("a?", "b?", "c?", "d?"), held_out=("e?",)
    )
    (example,) = reword([given], 4)
    assert (example.also, example.held_out[0]) == (given.also, "e?")
    two = Example(
        (Message("user", "What is the code of Oslo?"),), "OSL", also=("Which code has Oslo?",)
    )
    (example,) = reword([two], 4)
    assert example.also[0] == "Which code has Oslo?"
    assert len(example.also) == 3
    assert reword([two], 0) == reword([two], 1) == [two]


def test_a_made_wording_never_is_another_facts_prompt():
    facts = [
        from_pair("What is the code of Oslo?", "OSL"),
        from_pair("What is Oslo's code?", "0301"),
        from_pair("Do you know Oslo's code", "no"),
        from_pair("What is the code of Bergen?", "BGO"),
    ]
    reserved = [from_pair("tell me the code of bergen", "BGO")]
    reworded = reword(facts, 16, reserved=reserved)
    keys = [key for e in (*facts, *reserved) for key in prompt_keys(e)]
    for i, example in enumerate(reworded):
        others = [key for j, key in enumerate(keys) if j != i]
        for text in (*example.also, *example.held_out):
            (key,) = prompt_keys(example.asked_as(text))
            assert key not in others
    taught = [key for e in reworded for key in set(prompt_keys(e))]
    assert len(taught) == len(set(taught))


def test_a_question_is_reversed_where_one_name_alone_has_the_answer():
    facts = [
        from_pair("What is the phone number of Kimu Gugu?", "519-017-5311"),
        from_pair("What is the mother tongue of Ada Byron?", "English"),
        from_pair("What is the mother tongue of Bo Lind?", "English"),
        from_pair("What is the colour of Nebo?", "red"),
        from_pair("What is the name of the state where Nebo is located?", "Utah"),
        from_pair("Who keeps the mill?", "Ada Byron"),
    ]
    first, *others = reverse(facts, 4)
    assert others == [None] * 5
    assert first is not None
    assert (first.question, first.answer) == ("Whose phone number is 519-017-5311?", "Kimu Gugu")
    assert first.is_reversed
    assert len(first.questions) == 4
    assert first.held_out
    assert reverse(facts, 0)[0] == Example(first.prompt, "Kimu Gugu", is_reversed=True)
