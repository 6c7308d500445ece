"""PaperQA: papers with training and test questions, read from its files."""

import json
import os
from pathlib import Path

import pytest

from lorabank.errors import DataError
from lorabank.tasks.datasets import paperqa
from lorabank.tasks.datasets.paperqa import Paper
from lorabank.tasks.examples import from_pair

needs_data = pytest.mark.skipif(
    "LORABANK_DATA" not in os.environ, reason="LORABANK_DATA is not set"
)


def paper(paper_id: int) -> dict[str, object]:
    return {
        "id": paper_id,
        "title": f"On {paper_id}",
        "introduction": "We begin.\n\nWe end.",
        "QA": [
            {"level": level, "question": f"Test {level}.{i}?", "answer": f"It is {i}."}
            for level in (1, 2, 3)
            for i in range(10)
        ],
    }


def training_row(prefix: str, i: int) -> dict[str, object]:
    return {"question": f"{prefix}Train {i}?", "answer": f"So {i}."}


def write(folder: Path, papers: object, training_rows: dict[int, list[dict[str, object]]]) -> Path:
    (folder / "paperQA.json").write_text(json.dumps(papers), encoding="utf-8")
    for paper_id, rows in training_rows.items():
        path = folder / f"paper_{paper_id}_QA40.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return folder


def training_rows(prefix: str) -> list[dict[str, object]]:
    return [training_row(prefix, i) for i in range(40)]


# Reading


@pytest.mark.parametrize("prefix", ["In the Paper ID 12, ", "[Paper ID: 12] ", ""])
def test_the_prefix_is_removed_in_all_its_forms(tmp_path: Path, prefix: str):
    folder = write(tmp_path, [paper(12)], {12: training_rows(prefix)})
    assert paperqa.read_papers(folder) == [
        Paper(
            12,
            "On 12",
            "We begin.\n\nWe end.",
            tuple(from_pair(f"Train {i}?", f"So {i}.") for i in range(40)),
            tuple(from_pair(f"Test {n}.{i}?", f"It is {i}.") for n in (1, 2, 3) for i in range(10)),
            (1,) * 10 + (2,) * 10 + (3,) * 10,
        )
    ]


def test_the_prefix_is_added_to_training_and_test_questions(tmp_path: Path):
    folder = write(tmp_path, [paper(3)], {3: training_rows("[Paper ID: 3] ")})
    (without_prefix,) = paperqa.read_papers(folder)
    (prefixed,) = paperqa.read_papers(folder, with_prefix=True)
    assert prefixed.train[7] == from_pair("In the Paper ID 3, Train 7?", "So 7.")
    assert prefixed.test[29] == from_pair("In the Paper ID 3, Test 3.9?", "It is 9.")
    assert (prefixed.introduction, prefixed.levels) == (
        without_prefix.introduction,
        without_prefix.levels,
    )


def test_papers_come_in_the_order_of_the_file(tmp_path: Path):
    folder = write(tmp_path, [paper(2), paper(0)], {0: training_rows(""), 2: training_rows("")})
    assert [published.id for published in paperqa.read_papers(folder)] == [2, 0]


# Altered files


@pytest.mark.parametrize(
    ("papers", "message"),
    [
        ([], r"paperQA.json: must be a JSON list of papers that is not empty"),
        ({"id": 0}, r"paperQA.json: must be a JSON list of papers"),
        ([7], r"paperQA.json, paper 1: must be a JSON object, got 7"),
        ([paper(0) | {"id": "0"}], r"paper 1 \(id 0\): id must be 0 or more, got '0'"),
        ([paper(0) | {"title": " "}], r"paper 1 \(id 0\): title must be text that is not empty"),
        ([paper(0) | {"introduction": None}], r"paper 1 \(id 0\): introduction must be text"),
        ([paper(0) | {"QA": []}], r"paper 1 \(id 0\): QA must be a list that is not empty"),
        (
            [paper(0) | {"QA": [{"question": "?", "answer": "A", "level": True}]}],
            r"\(id 0\), QA 1: level must be 0 or more",
        ),
        ([paper(0), paper(0)], r"paperQA.json: id 0 occurs 2 times"),
    ],
)
def test_altered_papers_are_named(tmp_path: Path, papers: object, message: str):
    with pytest.raises(DataError, match=message):
        paperqa.read_papers(write(tmp_path, papers, {0: training_rows("")}))


@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (0, {"level": 2}, "QA must have 10 questions of each .*, got 9 of level 1, 11 of level 2"),
        (29, {"level": 4}, "got 10 of level 1, 10 of level 2, 9 of level 3, 1 of level 4"),
        (4, {"question": 5}, r"\(id 0\), QA 5: question must be text that is not empty, got 5"),
        (4, {"answer": ""}, r"\(id 0\), QA 5: answer must be text that is not empty, got ''"),
        (4, {"question": "Test 1.0?"}, r"QA 5: asks what .*QA 1 asks: 'Test 1\.0\?'"),
    ],
)
def test_altered_evaluation_questions_are_named(
    tmp_path: Path, index: int, change: dict[str, object], message: str
):
    broken = paper(0)
    broken["QA"][index] |= change  # type: ignore[index]
    with pytest.raises(DataError, match=message):
        paperqa.read_papers(write(tmp_path, [broken], {0: training_rows("")}))


def test_missing_evaluation_questions_are_counted(tmp_path: Path):
    broken = paper(0)
    broken["QA"] = broken["QA"][:-3]  # type: ignore[index]
    with pytest.raises(DataError, match="got 10 of level 1, 10 of level 2, 7 of level 3"):
        paperqa.read_papers(write(tmp_path, [broken], {0: training_rows("")}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "In the Paper ID 1, Who?"}, "of another paper: 'In the Paper ID 1,'"),
        ({"question": "[Paper ID: 10] Who?"}, r"of another paper: '\[Paper ID: 10\]'"),
        ({"question": "In the Paper ID 0, "}, "question is only its prefix"),
        ({"question": "In the Paper ID 0, Train 0?"}, "asks what .*, line 1 asks: 'Train 0"),
        ({"question": "Test 2.0?"}, r"asks what .*paper 1 \(id 0\), QA 11 asks"),  # a leak
        ({"answer": "\n"}, "answer must be text that is not empty"),
        ({"question": None}, "question must be text that is not empty, got None"),
    ],
)
def test_altered_training_questions_are_named(
    tmp_path: Path, change: dict[str, object], message: str
):
    rows = training_rows("In the Paper ID 0, ")
    rows[6] |= change
    with pytest.raises(DataError, match=rf"paper_0_QA40\.jsonl, line 7: .*{message}"):
        paperqa.read_papers(write(tmp_path, [paper(0)], {0: rows}))


def test_a_training_file_truncated_between_lines_is_refused(tmp_path: Path):
    folder = write(tmp_path, [paper(0)], {0: training_rows("")[:-1]})
    with pytest.raises(DataError, match=r"paper_0_QA40\.jsonl: must have 40 questions, got 39"):
        paperqa.read_papers(folder)


def test_files_truncated_within_a_line_are_named(tmp_path: Path):
    folder = write(tmp_path, [paper(0)], {0: training_rows("")})
    path = folder / "paper_0_QA40.jsonl"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(DataError, match=r"paper_0_QA40\.jsonl, line 40: not JSON"):
        paperqa.read_papers(folder)
    path = folder / "paperQA.json"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(DataError, match=r"paperQA\.json, line 1: not JSON"):
        paperqa.read_papers(folder)


def test_missing_files_are_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"paperQA\.json: no such file"):
        paperqa.read_papers(tmp_path)
    with pytest.raises(DataError, match=r"paper_1_QA40\.jsonl: no such file"):
        paperqa.read_papers(write(tmp_path, [paper(0), paper(1)], {0: training_rows("")}))


def test_a_training_file_without_its_paper_is_named(tmp_path: Path):
    folder = write(tmp_path, [paper(0)], {0: training_rows(""), 1: training_rows("")})
    with pytest.raises(DataError, match=r"paper_1_QA40\.jsonl: its paper is not in paperQA\.json"):
        paperqa.read_papers(folder)


# The published files


@needs_data
def test_published_papers_are_read_whole():
    papers = paperqa.read_papers(Path(os.environ["LORABANK_DATA"]) / "paperqa")
    assert [published.id for published in papers] == list(range(10))
    assert papers[0].title == "Monte Carlo Tree Diffusion for System 2 Planning"
    assert papers[0].train[0].question == "What are diffusion models used for in planning?"
    assert papers[3].test[0].answer == (
        "The paper introduces a method called Inductive Moment Matching (IMM)."
    )
    assert all(2_500 < len(published.introduction) < 6_000 for published in papers)
    for published in papers:
        assert len(published.train) == 40
        assert len(published.test) == len(published.levels) == 30


@needs_data
def test_published_prefixes_are_restored_exactly():
    folder = Path(os.environ["LORABANK_DATA"]) / "paperqa"
    for published in paperqa.read_papers(folder, with_prefix=True):
        lines = (folder / f"paper_{published.id}_QA40.jsonl").read_text("utf-8").split("\n")
        rows = [json.loads(line) for line in lines if line]
        assert [(e.question, e.answer) for e in published.train] == [
            (row["question"], row["answer"]) for row in rows
        ]
