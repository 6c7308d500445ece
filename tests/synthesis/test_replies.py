"""What is read from replies, and what is not guessed."""

import json

import pytest

from lorabank.synthesis.formats import FormatKind
from lorabank.synthesis.generators import Finish, Reply, Request
from lorabank.synthesis.replies import WRONG_FORM, ParsedReply, WrittenItem, parse_reply

AB = [WrittenItem("What is A?", "one"), WrittenItem("What is B?", "two")]
RAW = json.dumps({"items": [{"question": i.question, "answer": i.answer} for i in AB]})
LINES = "Question: What is A?\nAnswer: one\n\nQuestion: What is B?\nAnswer: two"


def read(
    text: str, kind: FormatKind = FormatKind.QA, *, json: bool, finish: Finish = Finish.STOP
) -> ParsedReply:
    return parse_reply(Reply(Request((), 9, as_json=json), text, finish), kind)


@pytest.mark.parametrize(
    "text",
    [
        RAW,
        f"```json\n{RAW}\n```",
        f"<think>\nLet me see: {{}}\n</think>\n{RAW}",
        json.dumps(json.loads(RAW)["items"]),
        json.dumps(json.loads(RAW), indent=4),
    ],
    ids=["plain", "fenced", "after a thought", "the bare list", "indented"],
)
def test_json(text: str):
    assert read(text, json=True) == ParsedReply(AB)


@pytest.mark.parametrize(
    "text",
    ["", "Sure!", RAW[:-9], f"Here you are: {RAW}", "{}", '{"items": []}', '{"items": "x"}', "7"],
)
def test_json_that_is_none_is_not_guessed(text: str):
    assert read(text, json=True) == ParsedReply(rejected=[(WRONG_FORM, text)])


@pytest.mark.parametrize(
    "bad",
    ['"a text"', "null", '{"question": "Q?"}', '{"question": "Q?", "answer": true}',
     '{"question": "Q?", "answer": " … "}', '{"question": [], "answer": "a"}'],
)  # fmt: skip
def test_an_item_without_its_texts_is_dropped_and_the_others_kept(bad: str):
    found = read(RAW.replace("[{", f"[{bad}, {{"), json=True)
    assert found.items == AB
    assert [why for why, _ in found.rejected] == ["an item without its texts"]


def test_a_whole_number_is_a_text():
    found = read('[{"question": "When?", "answer": 1880}]', json=True)
    assert found.items == [WrittenItem("When?", "1880")]


@pytest.mark.parametrize("cut", range(1, 12))
def test_of_json_that_was_cut_off_only_whole_items_count(cut: int):
    found = read(RAW[: -cut * 4], json=True, finish=Finish.LENGTH)
    assert found.items == (AB[:1] if cut * 4 > 2 else AB)


def test_json_that_was_cut_off_before_its_first_item():
    assert read('{"items": [{"qu', json=True, finish=Finish.LENGTH).rejected[0][0] == "cut off"


@pytest.mark.parametrize(
    "text",
    [
        LINES,
        f"Here are two questions:\n\n{LINES}\n\nI hope this helps!",
        "Question 1: What is A?\nAnswer 1: one\nQuestion 2: What is B?\nAnswer 2: two",
        "**Question 1:** What is A?\n**Answer:** one\n\n2. **Question:** What is B?\n- Answer: two",
        "Question:\nWhat is A?\nAnswer:\none\nQuestion:\nWhat is B?\nAnswer:\ntwo",
    ],
    ids=["as asked", "with talk", "numbered", "marked up", "texts below"],
)
def test_labelled_lines(text: str):
    assert read(text, json=False) == ParsedReply(AB)


def test_a_number_keeps_its_sign():
    found = read("Question: How cold was it?\nAnswer: -5 degrees", json=False)
    assert found.items == [WrittenItem("How cold was it?", "-5 degrees")]


def test_a_pair_that_may_go_on_or_is_not_whole_is_dropped():
    found = read(f"{LINES}\nYou are an assistant.\nQuestion: And C?", json=False)
    assert found.items == AB[:1]
    assert [why for why, _ in found.rejected] == [WRONG_FORM] * 3
    assert read(LINES, json=False, finish=Finish.LENGTH).items == AB[:1]
    assert read("Nothing here.", json=False).rejected == [(WRONG_FORM, "Nothing here.")]


def test_a_text_is_one_item_and_a_counted_list_of_them_several():
    assert read("All of it.\n\nMore.", FormatKind.SUMMARY, json=False).items == [
        WrittenItem("", "All of it.\n\nMore.")
    ]
    assert read("1. One.\n\n2. Two\nlines.", FormatKind.REWRITE, json=False).items == [
        WrittenItem("", "One."),
        WrittenItem("", "Two\nlines."),
    ]
    whole = "1. One.\n2. Two."
    assert read(whole, FormatKind.IMPLICATIONS, json=False).items == [WrittenItem("", whole)]
    assert (
        read("1. One.\n3. Three.", FormatKind.REWRITE, json=False).items[0].answer.startswith("1.")
    )
    assert (
        read("All of", FormatKind.SUMMARY, json=False, finish=Finish.LENGTH).rejected[0][0]
        == "cut off"
    )


@pytest.mark.parametrize(
    "text",
    ["I'm sorry, but I can't do that.", "I cannot help with this.", "As an AI language model, I"],
)
def test_refusals_in_words(text: str):
    assert read(text, FormatKind.SUMMARY, json=False).rejected == [("refused", text)]


def test_a_text_that_only_mentions_being_sorry_is_none():
    assert read("He was sorry. I cannot stay, he said.", FormatKind.SUMMARY, json=False).items
