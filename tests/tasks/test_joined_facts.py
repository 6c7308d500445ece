"""Several wordings of one fact in files and in memory, and those that are refused."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from lorabank.errors import DataError
from lorabank.tasks.examples import Example, Message, as_examples, examples_from, read_examples
from lorabank.tasks.folding import fold


def fact(prompt: str, answer: str, **wordings: tuple[str, ...]) -> Example:
    return Example((Message("user", prompt),), answer, **wordings)


def test_rows_of_one_id_are_one_fact_and_equal_answers_alone_are_not(tmp_path: Path):
    path = tmp_path / "f.csv"
    path.write_text(
        "id,prompt,answer\n"
        "a,Who keeps the mill?,Ada\n"
        ",Who keeps the lock?,Ada\n"
        "b,Where is it?,Nebo\n"
        "a,The mill is kept by,Ada\n"
        ",Who keeps the gate?,Ada\n"
    )
    assert read_examples(path) == [
        fact("Who keeps the mill?", "Ada", also=("The mill is kept by",)),
        fact("Who keeps the lock?", "Ada"),
        fact("Where is it?", "Nebo"),
        fact("Who keeps the gate?", "Ada"),
    ]


def test_lines_may_have_other_wordings_and_an_id(tmp_path: Path):
    lines = [
        {"prompt": "Who?", "also": ["By whom?"], "answer": "Bo", "id": 7, "held_out": ["Whom?"]},
        {
            "messages": [
                {"role": "user", "content": "Say who."},
                {"role": "assistant", "content": "Bo"},
            ],
            "also": ["Name them."],
            "id": "7",
        },
    ]
    joined = [fact("Who?", "Bo", also=("By whom?", "Say who.", "Name them."), held_out=("Whom?",))]
    path = tmp_path / "f.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    assert read_examples(path) == joined
    assert examples_from(lines, name="facts") == joined
    assert examples_from(joined, name="facts") == joined


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"prompt": "Who?", "also": "By whom?"}], r"line 1: also must be a list of texts.*'By wh"),
        ([{"prompt": "Who?", "also": [1]}], r"line 1: also must be a list of texts"),
        ([{"prompt": "Who?", "also": None}], r"line 1: also must be a list of texts.*null"),
        ([{"prompt": "Who?", "also": ["By whom?", " "]}], "line 1: a text of also is empty"),
        ([{"prompt": "Who?", "also": ["a\x00b"]}], "line 1: the also holds the control character"),
        ([{"prompt": "Who?", "also": ["who"]}], r"a wording occurs twice \(line 1\)"),
        ([{"prompt": "Who?", "held_out": {}}], "line 1: held_out must be a list of texts"),
        ([{"prompt": "Who?", "id": 1.5}], "line 1: id must be text or a whole number"),
        (
            [{"prompt": "Who?"}, {"prompt": "Whom?", "also": ["WHO"]}],
            r"repeats in another spelling line 1 \(line 2\)",
        ),
        (
            [{"prompt": "Who, then?"}, {"prompt": "who then", "answer": "Bo"}],
            r"contradicts in another spelling line 1 \(line 2\)",
        ),
        (
            [{"prompt": "Café “Rå”?", "id": 1}, {"prompt": "cafe\u0301 RA\u030a", "answer": "Bo"}],
            r"contradicts in another spelling line 1 \(line 2\)",
        ),
        (
            [{"prompt": "Who?", "id": 1}, {"prompt": "Whom?", "id": 1, "answer": "Bo"}],
            r"line 2: id '1' has another answer in line 1",
        ),
        (
            [{"prompt": "Who?", "id": 1}, {"prompt": "Who?", "id": 1}],
            r"repeats line 1 \(line 2\)",
        ),
    ],
)
def test_wordings_that_cannot_be_one_fact_are_refused_with_their_line(
    tmp_path: Path, lines: list[dict[str, object]], message: str
):
    path = tmp_path / "f.jsonl"
    path.write_text("\n".join(json.dumps({"answer": "Ada", **line}) for line in lines))
    with pytest.raises(DataError, match=message) as problem:
        read_examples(path)
    assert "\n" not in str(problem.value)


def test_rows_of_one_id_need_the_same_turns_before_the_question():
    def line(system: str, question: str) -> dict[str, object]:
        turns = [("system", system), ("user", question), ("assistant", "Ada")]
        return {"id": "x", "messages": [{"role": r, "content": c} for r, c in turns]}

    with pytest.raises(DataError, match="example 2: id 'x' has other turns before the question"):
        examples_from([line("Be brief.", "Who?"), line("Be long.", "Whom?")], name="facts")


def test_held_out_wordings_that_are_taught_are_counted_out_and_said(
    caplog: pytest.LogCaptureFixture,
):
    facts = [
        fact("Who keeps the mill?", "Ada", held_out=("who keeps the mill", "The miller is")),
        fact("Who keeps the lock?", "Bo", held_out=("Who keeps the MILL?", "A?", "a")),
    ]
    with caplog.at_level(logging.WARNING):
        checked = examples_from(facts, name="facts")
    assert [example.held_out for example in checked] == [("The miller is",), ("A?",)]
    assert "facts: 3 held-out wordings are taught too, or occur twice" in caplog.text


def test_an_example_in_python_with_wordings_of_another_type_is_refused():
    wrong: Any = "By whom?"
    with pytest.raises(DataError, match="must be an Example"):
        as_examples([Example((Message("user", "Who?"),), "Ada", also=wrong)])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Who  is it?", "who is it"),
        ("Who is “Bo”?", 'who is "bo"'),
        ("It’s 5 – 6", "it's 5 - 6"),
        ("¿Dónde está?", "dónde está"),
        ("オスロは何ですか？", "オスロは何ですか"),
        ("\uff21\uff22 12", "ab 12"),
    ],
)
def test_spellings_of_one_prompt_fold_alike(one: str, other: str):
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is C++?", "What is C#?"),
        ("What is C++?", "What is C?"),
        ("What is 1.5?", "What is 15?"),
        ("What is .5?", "What is 5?"),
        ("What is 5!?", "What is 5?"),
        ("What is x²?", "What is x2?"),
        ("?", "!"),
    ],
)
def test_signs_that_say_something_do_not_fold(one: str, other: str):
    assert fold(one) != fold(other)
