"""Items are read from replies in JSON or in labelled lines; nothing is guessed."""

import json

import pytest

from lorabank.synthesis.formats import FormatKind
from lorabank.synthesis.generators import Finish, Reply, Request
from lorabank.synthesis.replies import WRONG_FORM, ParsedReply, WrittenItem, parse_reply

ITEMS = [WrittenItem("What is A?", "one"), WrittenItem("What is B?", "two")]
RAW = json.dumps({"items": [{"question": i.question, "answer": i.answer} for i in ITEMS]})
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
def test_items_are_read_from_json(text: str):
    assert read(text, json=True) == ParsedReply(ITEMS)


@pytest.mark.parametrize(
    "text",
    ["", "Sure!", RAW[:-9], f"Here you are: {RAW}", "{}", '{"items": []}', '{"items": "x"}', "7"],
)
def test_malformed_json_is_rejected_whole(text: str):
    assert read(text, json=True) == ParsedReply(rejected=[(WRONG_FORM, text)])


@pytest.mark.parametrize(
    "bad_item",
    ['"a text"', "null", '{"question": "Q?"}', '{"question": "Q?", "answer": true}',
     '{"question": "Q?", "answer": " … "}', '{"question": [], "answer": "a"}'],
)  # fmt: skip
def test_an_item_without_its_texts_is_dropped_and_the_others_used(bad_item: str):
    reply = read(RAW.replace("[{", f"[{bad_item}, {{"), json=True)
    assert reply.items == ITEMS
    assert [reason for reason, _ in reply.rejected] == ["an item without its texts"]


def test_a_whole_number_is_a_text():
    reply = read('[{"question": "When?", "answer": 1880}]', json=True)
    assert reply.items == [WrittenItem("When?", "1880")]


@pytest.mark.parametrize("n_missing", range(1, 12))
def test_only_whole_items_of_truncated_json_are_used(n_missing: int):
    reply = read(RAW[: -n_missing * 4], json=True, finish=Finish.LENGTH)
    assert reply.items == (ITEMS[:1] if n_missing * 4 > 2 else ITEMS)


def test_json_truncated_before_its_first_item_is_rejected():
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
def test_items_are_read_from_labelled_lines(text: str):
    assert read(text, json=False) == ParsedReply(ITEMS)


def test_a_number_keeps_its_sign():
    reply = read("Question: How cold was it?\nAnswer: -5 degrees", json=False)
    assert reply.items == [WrittenItem("How cold was it?", "-5 degrees")]


def test_a_pair_that_may_be_incomplete_is_dropped():
    reply = read(f"{LINES}\nYou are an assistant.\nQuestion: And C?", json=False)
    assert reply.items == ITEMS[:1]
    assert [reason for reason, _ in reply.rejected] == [WRONG_FORM] * 3
    assert read(LINES, json=False, finish=Finish.LENGTH).items == ITEMS[:1]
    assert read("Nothing here.", json=False).rejected == [(WRONG_FORM, "Nothing here.")]


def test_a_text_is_one_item_and_a_numbered_list_is_several():
    assert read("All of it.\n\nMore.", FormatKind.SUMMARY, json=False).items == [
        WrittenItem("", "All of it.\n\nMore.")
    ]
    assert read("1. One.\n\n2. Two\nlines.", FormatKind.REWRITE, json=False).items == [
        WrittenItem("", "One."),
        WrittenItem("", "Two\nlines."),
    ]
    text = "1. One.\n2. Two."
    assert read(text, FormatKind.IMPLICATIONS, json=False).items == [WrittenItem("", text)]
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
def test_refusals_in_words_are_recognised(text: str):
    assert read(text, FormatKind.SUMMARY, json=False).rejected == [("refused", text)]


def test_a_text_that_mentions_being_sorry_is_no_refusal():
    assert read("He was sorry. I cannot stay, he said.", FormatKind.SUMMARY, json=False).items
