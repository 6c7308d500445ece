"""Examples from files and from memory, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from lorabank.errors import DataError
from lorabank.tasks.examples import (
    Example,
    Message,
    as_examples,
    examples_from,
    from_pair,
    read_examples,
)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_damaged_line_is_called_half_downloaded_only_at_the_end(tmp_path: Path):
    whole, cut = '{"prompt": "a", "answer": "b"}\n', '{"prompt": "c", "ans'
    with pytest.raises(DataError, match=r"line 2: not JSON: .*half-downloaded"):
        read_examples(write(tmp_path, "f.jsonl", f"{whole}{cut}\n\n"))
    with pytest.raises(DataError, match="line 1: not JSON") as problem:
        read_examples(write(tmp_path, "f.jsonl", f"{cut}\n{whole}"))
    assert "half-downloaded" not in str(problem.value)


def test_texts_are_composed_on_the_way_in(tmp_path: Path):
    decomposed = {"prompt": "Cafe\u0301?", "answer": "Ra\u030ask"}
    composed = from_pair("Café?", "Råsk")
    path = write(tmp_path, "f.jsonl", json.dumps(decomposed))
    assert read_examples(path) == [composed]
    assert examples_from([decomposed], name="team") == [composed]
    assert as_examples([from_pair("Cafe\u0301?", "Ra\u030ask")]) == [composed]


def test_a_file_without_its_closing_quote_is_refused_in_linear_time(tmp_path: Path):
    path = write(tmp_path, "f.csv", 'prompt,answer\n"a' + '""' * 60_000 + "\n")
    with pytest.raises(DataError, match=r"line 2: not a CSV row: .* no closing quote"):
        read_examples(path)


def test_csv_may_have_quotes_other_columns_and_a_byte_order_mark(tmp_path: Path):
    content = '\ufeffid,prompt,answer\n1,"Who, then?","A ""B"" C"\n2,Where?,Über\n'
    assert read_examples(write(tmp_path, "f.csv", content)) == [
        from_pair("Who, then?", 'A "B" C'),
        from_pair("Where?", "Über"),
    ]


def test_jsonl_lines_are_pairs_or_conversations(tmp_path: Path):
    content = (
        '{"prompt": "Who?", "answer": "Ada"}\n\n'
        '{"messages": [{"role": "system", "content": "Be brief"},'
        ' {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Bo"}]}\n'
    )
    assert read_examples(write(tmp_path, "f.jsonl", content)) == [
        from_pair("Who?", "Ada"),
        Example((Message("system", "Be brief"), Message("user", "Who?")), "Bo"),
    ]


def test_a_published_phone_book_slice_is_read(tmp_path: Path):
    line = "Question: What is the phone number of Mr. O'Neil? Answer: 603-556-7631"
    assert read_examples(write(tmp_path, "f.csv", f"text\n{line}\n")) == [
        from_pair("What is the phone number of Mr. O'Neil?", "603-556-7631")
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.csv", "question,answer\na,b\n", "needs the columns prompt,answer; prompt not among"),
        ("f.csv", "", "needs the columns prompt,answer"),
        ("f.csv", "prompt,answer\n", "no examples in it"),
        ("f.csv", "prompt,answer\na,b\n ,c\n", "line 3: the prompt is empty"),
        ("f.csv", "prompt,answer\na,\n", "line 2: the answer is empty"),
        ("f.csv", "prompt,answer\na\n", "line 2: the answer is empty"),
        ("f.csv", "prompt,answer\na,b,c\n", "line 2: more fields than columns"),
        ("f.csv", 'prompt,answer\n"a\nb",\n', "line 2: the answer is empty"),
        ("f.csv", 'prompt,answer\na,"b\n', "not a CSV row"),
        ("f.csv", "prompt,answer\na,b\nc,d\na,b\n", r"repeats line 2 \(line 4\)"),
        ("f.csv", "prompt,answer\na,b\nc,d\na,x\n", r"contradicts line 2 \(line 4\)"),
        ("f.csv", "text\nParis is big\n", "line 2: a file with the one column text"),
        ("f.csv", b"prompt,answer\na,b\nc,\xff\n", "must be UTF-8, got byte 0xff in line 3"),
        ("f.txt", "a\n", "must be a .csv, .jsonl, .ndjson, .json, .parquet file or a folder"),
        ("f.jsonl", "{]\n", "line 1: not JSON"),
        ("f.jsonl", "[1]\n", "line 1: must be a JSON object"),
        ("f.jsonl", '{"prompt": "a"}\n', 'line 1: needs "prompt" and "answer"'),
        ("f.jsonl", '{"prompt": "a", "answer": 7}\n', "answer must be text, got 7"),
        ("f.jsonl", '{"messages": [{"role": "user", "content": "a"}]}\n', "the last two from"),
        ("f.jsonl", '{"messages": "hi"}\n', "messages must be objects"),
        ("f.csv", "prompt,answer,answer\na,b,c\n", "line 1: the column answer occurs 2 times"),
        ("f.csv", "prompt,answer\n\n\na,\n", "line 4: the answer is empty"),
        ("f.csv", 'prompt,answer\n"a\nb","c\nd,e\n', "line 3: not a CSV row: .* no closing quote"),
        ("f.csv", 'prompt,answer\na,"b\nc,"d"\n', "line 2: not a CSV row: .* goes on after"),
        ("f.csv", 'prompt,answer\nx,y\r\n"a" b,c\n', "line 3: not a CSV row: .* goes on after"),
        ("f.csv", "prompt,answer\na,b\nc\0,d\n", r"line 3: the prompt holds .* U\+0000"),
        ("f.csv", "prompt,answer\na,\frac\n", r"line 2: the answer holds .* U\+000C"),
        ("f.csv", f"prompt,answer\n{'a' * 200_000},b\n", "line 2: a field has more than 131,072"),
        ("f.csv", "prompt,answer\nCafé?,a\nCafe\u0301?,b\n", r"contradicts line 2 \(line 3\)"),
        ("f.csv", "prompt,answer\na,Café\na,Cafe\u0301\n", r"repeats line 2 \(line 3\)"),
        ("f.jsonl", '{"prompt": "a", "answer": "b"},\n', "line 1: .* ends in a comma"),
        ("f.jsonl", '{\n "prompt": "a",\n "answer": "b"\n}\n', "line 1: .* over several lines"),
        ("f.jsonl", '\n[{"prompt": "a",\n"answer": "b"}]\n', "line 2: .* over several lines"),
        ("f.jsonl", '{"prompt": "a", "answer": null}', "line 1: answer must be text, got null"),
        ("f.jsonl", '{"prompt": true, "answer": "b"}', "line 1: prompt must be text, got true"),
        ("f.jsonl", '{"prompt": "a", "answer": "b", "answer": "c"}', "key 'answer' occurs twice"),
        (
            "f.jsonl",
            '{"messages": [{"role": "user", "role": "system", "content": "a"}]}',
            "line 1: the key 'role' occurs twice",
        ),
        ("f.jsonl", r'{"prompt": "a", "answer": "b\ud83d"}', "line 1: holds half of a character"),
        ("f.jsonl", r'{"prompt": "a", "\ud83d": "b"}', "line 1: holds half of a character"),
        ("f.jsonl", '{"prompt": "a", "answer": 1e400}', "line 1: has a number beyond"),
        ("f.jsonl", '{"prompt": "a", "answer": NaN}', "line 1: NaN is not a number of JSON"),
        ("f.jsonl", f'{{"a": {"9" * 5_000}}}', "line 1: has a number of thousands of digits"),
        ("f.jsonl", f'{{"a": {"9" * 50}}}', "line 1: has a whole number of more than 63 bits"),
        ("f.jsonl", f'{{"a": {"[" * 200}{"]" * 200}}}', "line 1: nests deeper than 100 levels"),
        ("f.jsonl", '{"a": ' + "[" * 100_000, "line 1: nests deeper than 100 levels"),
    ],
)
def test_bad_files_are_named_with_their_lines(
    tmp_path: Path, name: str, content: str | bytes, message: str
):
    with pytest.raises(DataError, match=message):
        read_examples(write(tmp_path, name, content))


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        read_examples(tmp_path / "none.csv")


def test_facts_in_memory_may_be_pairs_dicts_or_examples():
    messages = [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "At noon"}]
    facts = [
        ("Who?", "Ada"),
        {"prompt": "Where?", "answer": "Oslo"},
        {"messages": messages},
        from_pair("Why?", "Because"),
    ]
    assert examples_from(iter(facts), name="team") == [
        from_pair("Who?", "Ada"),
        from_pair("Where?", "Oslo"),
        from_pair("When?", "At noon"),
        from_pair("Why?", "Because"),
    ]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ([], "team: there are no facts"),
        ("facts.csv", "team: facts must be a list of .* got one str"),
        ({"prompt": "a", "answer": "b"}, "team: facts must be a list of .* got one dict"),
        ([("a", "b"), ("a", "b", "c")], "team, example 2: must be an Example .* of type tuple"),
        ([("a", 7)], "team, example 1: must be an Example"),
        ([("a", "b"), 7], "team, example 2: must be an Example .* got '7' of type int"),
        ([Example((), "b")], "team, example 1: must be an Example with at least one message"),
        ([{"prompt": "a"}], 'team, example 1: needs "prompt" and "answer", or "mess'),
        ([{"messages": []}], "team, example 1: messages must be objects"),
        ([("a", "b"), (" ", "c")], "team, example 2: the prompt is empty"),
        ([("a", "b"), ("c", "")], "team, example 2: the answer is empty"),
        ([("a", "b"), ("c", "d"), ("a", "b")], r"repeats example 1 \(example 3\)"),
        ([("a", "b"), from_pair("a", "x")], r"contradicts example 1 \(example 2\); keep one"),
    ],
)
def test_bad_facts_in_memory_are_named_with_their_numbers(facts: Any, message: str):
    with pytest.raises(DataError, match=message):
        examples_from(facts, name="team")
