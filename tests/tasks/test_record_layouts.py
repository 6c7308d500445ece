"""Records of other tools: Alpaca, ShareGPT, messages, pairs; what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from lorabank.errors import DataError
from lorabank.tasks.examples import Example, Message, from_pair, read_examples

NEBO = from_pair("Who keeps Nebo?", "Tuva Sorre")
ASKED, TOLD = NEBO.question, NEBO.answer
ONE_TURN: dict[str, dict[str, Any]] = {
    "alpaca": {"instruction": ASKED, "input": "", "output": TOLD},
    "alpaca without input": {"instruction": ASKED, "input": None, "output": TOLD, "system": ""},
    "sharegpt": {
        "id": "identity_0",
        "conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": TOLD}],
    },
    "messages": {
        "messages": [{"role": "user", "content": ASKED}, {"role": "assistant", "content": TOLD}],
        "source": "made",
    },
    "messages in parts": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": ASKED}]},
            {"role": "assistant", "content": TOLD, "tool_calls": None},
        ]
    },
    "completion": {"prompt": ASKED, "completion": TOLD},
    "turns and completion": {
        "prompt": [{"role": "user", "content": ASKED}],
        "completion": [{"role": "assistant", "content": TOLD}],
    },
    "question": {"question": ASKED, "answer": TOLD, "level": 3},
    "query": {"query": ASKED, "response": TOLD},
}


def write(path: Path, *records: Any) -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n")
    return path


@pytest.mark.parametrize("name", ONE_TURN)
def test_a_layout_is_read_as_its_question_and_answer(tmp_path: Path, name: str):
    assert read_examples(write(tmp_path / "a.jsonl", ONE_TURN[name])) == [NEBO]
    (tmp_path / "a.json").write_text(json.dumps([ONE_TURN[name]]))
    assert read_examples(tmp_path / "a.json") == [NEBO]


@pytest.mark.parametrize(
    ("record", "prompt"),
    [
        (
            {"instruction": "Translate.", "input": "Hus", "output": "House"},
            [("user", "Translate.\nHus")],
        ),
        (
            {
                "system": "Be brief.",
                "history": [["Hi", "Hello"]],
                "instruction": "Translate Hus",
                "output": "House",
            },
            [
                ("system", "Be brief."),
                ("user", "Hi"),
                ("assistant", "Hello"),
                ("user", "Translate Hus"),
            ],
        ),
        (
            {
                "system": "Be brief.",
                "conversations": [
                    {"from": "system", "value": "Be kind."},
                    {"from": "human", "value": "Translate Hus"},
                    {"from": "gpt", "value": "House"},
                ],
            },
            [("system", "Be brief."), ("system", "Be kind."), ("user", "Translate Hus")],
        ),
    ],
)
def test_turns_before_the_question_are_kept(
    tmp_path: Path, record: dict[str, Any], prompt: list[tuple[str, str]]
):
    (example,) = read_examples(write(tmp_path / "a.jsonl", record))
    assert example == Example(tuple(Message(*turn) for turn in prompt), "House")


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ("<think>\nA keeper is asked for.\n</think>\n\nTuva Sorre", "Tuva Sorre"),
        ("<think></think>Tuva Sorre", "Tuva Sorre"),
        ("```\nTuva Sorre\n```", "Tuva Sorre"),
        ("```text\nTuva Sorre\n```\n", "Tuva Sorre"),
        ("<think>x</think>```markdown\nTuva Sorre\n```", "Tuva Sorre"),
        ("```python\nprint(1)\n```", "```python\nprint(1)\n```"),
        ("Run ```\nls\n``` first", "Run ```\nls\n``` first"),
        ("```\na\n```\nand\n```\nb\n```", "```\na\n```\nand\n```\nb\n```"),
    ],
)
def test_traces_of_a_generator_are_left_out_and_code_is_kept(
    tmp_path: Path, answer: str, read: str
):
    path = write(tmp_path / "a.jsonl", {"instruction": ASKED, "output": answer})
    assert read_examples(path) == [from_pair(ASKED, read)]
    own = write(tmp_path / "own.jsonl", {"prompt": ASKED, "answer": answer})
    assert read_examples(own)[0].answer == answer, "what is ours is taken as it stands"


HUMAN = {"from": "human", "value": ASKED}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"instruction": ASKED, "output": None}, "output is null; write the answer, or leave"),
        ({"instruction": ASKED, "output": "<think>hm"}, "output has a <think> without its end"),
        ({"instruction": ASKED, "output": 7}, "answer must be text, got 7"),
        ({"instruction": ASKED, "output": "<think>x</think>"}, "the answer is empty"),
        (
            {"instruction": ASKED, "output": "x", "history": ["a"]},
            "history must be a list of pairs",
        ),
        (
            {"conversations": [HUMAN, {"from": "function_call", "value": "{}"}]},
            "turn 2 of conversations is from 'function_call', which is not learnt here",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": None},
                ]
            },
            "turn 2 of messages is null or calls a tool",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "turn 1 of messages is null or calls a tool",
        ),
        ({"conversations": [HUMAN]}, "the last two from user and assistant"),
        ({"conversations": "x"}, "messages must be objects with role"),
        ({"conversations": ["x"]}, "messages must be objects with role"),
        ({"text": "a story"}, 'among the keys text; known are prompt and answer; "messages"; '),
    ],
)
def test_what_cannot_be_learnt_is_refused_by_name(
    tmp_path: Path, record: dict[str, Any], reason: str
):
    path = write(tmp_path / "a.jsonl", ONE_TURN["alpaca"], record)
    with pytest.raises(DataError) as refused:
        read_examples(path)
    assert str(refused.value).startswith(f"{path}, line 2: ")
    assert reason in str(refused.value)
