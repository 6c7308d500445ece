"""Items are read from replies in JSON or in labelled lines, one by one; nothing is guessed."""

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
        f"Here you are, {{reader}}:\n\n```json\n{RAW}\n```\nShall I go on?",
        f"```json {RAW} ```",
        RAW.replace("}]}", "},],}"),
        RAW.replace("items", "questions"),
        RAW.replace("question", "Question").replace("answer", "ANSWER "),
        f'{{"title": "A and B", "tags": ["x", 7], "result": {RAW}}}',
        RAW[len('{"items": [') : -2].replace("}, {", "}\n{"),
        RAW[:-2].replace("}, {", "} {"),
        f"The user wants {{questions}}.\n</think>\n\n{RAW}",
        f"<thinking>\nFirst {RAW.replace('one', 'won')}, no.\n</thinking>\nHere: {RAW}",
        f"[THINK]About A and [B].[/THINK]{RAW}",
        f"<|begin_of_thought|>{RAW.replace('one', 'won')}<|end_of_thought|>\n\n{RAW}",
        json.dumps(RAW),
        RAW.replace(", ", ",\\n "),
    ],
    ids=[
        "plain", "fenced", "after a thought", "the bare list", "indented", "with talk",
        "a fence of one line", "trailing commas", "another key", "capital keys", "wrapped",
        "JSON lines", "never closed", "a thought never opened", "another tag", "brackets for a tag",
        "marks for a tag", "encoded twice", "escapes between values",
    ],
)  # fmt: skip
def test_items_are_read_from_json(text: str):
    assert read(text, json=True) == ParsedReply(ITEMS)


@pytest.mark.parametrize(
    "text",
    ["", "Sure!", "{}", '{"items": []}', '{"items": "x"}', "7", "As in [1], {none}.", "[" * 99_999,
     "<think>" + RAW, '{"a":' * 9_999],
)  # fmt: skip
def test_a_reply_without_items_is_rejected_whole(text: str):
    assert read(text, json=True) == ParsedReply(rejected=[(WRONG_FORM, text)])


def test_items_that_speak_of_tags_are_no_thoughts():
    item = WrittenItem("What ends a thought?", "The tag </think> [or none] does")
    raw = json.dumps([{"question": item.question, "answer": item.answer}])
    assert read(raw, json=True).items == [item]
    assert read(f"<think>Hm.</think>{raw}", json=True).items == [item]


@pytest.mark.parametrize(
    "bad_item",
    [
        '{"question": "Q?", "answer": "a',
        '{"question": "Q?", "answer": "the "big" one"}',
        '{"question": "Q?", "answer": "a", "answer": "b"}',
        '{"question": "Q?" "answer": "a"}',
    ],
    ids=["cut off", "quotes in it", "a key twice", "no comma"],
)
def test_an_item_that_is_not_whole_costs_no_other(bad_item: str):
    reply = read(RAW.replace("[{", f"[{bad_item}, {{"), json=True)
    assert reply.items == ITEMS
    assert [reason for reason, _ in reply.rejected] == ["an item that is no JSON"]


@pytest.mark.parametrize("kind", [FormatKind.SUMMARY, FormatKind.PARAPHRASE])
def test_a_list_of_texts_is_read_where_an_item_is_one_text(kind: FormatKind):
    items = read('{"items": ["One of it.", "Two of it.",]}', kind, json=True).items
    assert [item.question or item.answer for item in items] == ["One of it.", "Two of it."]


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (r"\alpha \cdot \upsilon", r"\alpha \cdot \upsilon"),
        (r"$\frac{1}{2}\beta$", r"$\frac{1}{2}\beta$"),
        (r"$\theta \times \rho$", r"$\theta \times \rho$"),
        (r"$\nabla x + \nu$", r"$\nabla x + \nu$"),
        (r"$\\frac{\\theta}{2}$", r"$\frac{\theta}{2}$"),
        (r"one\ntwo\nu", "one\ntwo\nu"),
        (r"a\tB \"c\" d\/e \u00e9 it\'s", 'a\tB "c" d/e é it\'s'),
        ("one\ntwo", "one\ntwo"),
        (r"\ud83d\ude00 yes", "😀 yes"),
    ],
)
def test_backslashes_of_latex_are_put_back(raw: str, answer: str):
    reply = read(f'[{{"question": "How?", "answer": "{raw}"}}]', json=True)
    assert reply == ParsedReply([WrittenItem("How?", answer)])


@pytest.mark.parametrize("raw", [r"x \ud83d", "x \ufffd", r"x \f y", r"x \thicklines", r"x \u0000"])
def test_an_item_with_broken_characters_is_rejected(raw: str):
    reply = read(f'[{{"question": "How?", "answer": "{raw}"}}]', json=True)
    assert [reason for reason, _ in reply.rejected] == ["an item with broken characters"]
    reply.rejected[0][1].encode()  # can be written to the log


@pytest.mark.parametrize(
    "bad_item",
    ['"a text"', "null", '{"question": "Q?"}', '{"question": "Q?", "answer": true}',
     '{"question": "Q?", "answer": " … "}', '{"question": [], "answer": "a"}'],
)  # fmt: skip
def test_an_item_without_its_texts_is_dropped_and_the_others_used(bad_item: str):
    reply = read(RAW.replace("[{", f"[{bad_item}, {{"), json=True)
    assert reply.items == ITEMS
    assert [reason for reason, _ in reply.rejected] == ["an item without its texts"]


@pytest.mark.parametrize("number", ["1880", "-0.50", "0171", "1e999", "9" * 5000])
def test_a_number_is_a_text_as_it_was_written(number: str):
    reply = read(f'[{{"question": "When?", "answer": {number}}}]', json=True)
    assert reply.items == [WrittenItem("When?", number)]


@pytest.mark.parametrize("n_missing", range(1, 12))
def test_only_whole_items_of_truncated_json_are_used(n_missing: int):
    reply = read(RAW[: -n_missing * 4], json=True, finish=Finish.LENGTH)
    assert reply.items == (ITEMS[:1] if n_missing * 4 > 2 else ITEMS)


def test_a_reply_that_ends_in_mid_item_is_cut_off_whatever_the_server_says():
    reply = read(RAW[:-9], json=True)
    assert reply.items == ITEMS[:1]
    assert [reason for reason, _ in reply.rejected] == ["cut off"]


def test_json_truncated_before_its_first_item_is_rejected():
    for text in ('{"items": [{"qu', "<think>\nThey want", ""):
        assert read(text, json=True, finish=Finish.LENGTH).rejected[0][0] == "cut off"


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
