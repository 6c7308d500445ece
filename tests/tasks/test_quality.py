"""QuALITY: articles with multiple-choice questions, read from its files, and their accuracy."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from lorabank.errors import DataError, UsageError
from lorabank.tasks.datasets import quality
from lorabank.tasks.datasets.quality import Accuracy, Article, QualityQuestion
from lorabank.tasks.examples import from_pair

OPTIONS = ["Ada", "Bo", "Cy", "Di"]


def record(question: str = "Who?", answer: int = 2, hard: bool = True) -> dict[str, object]:
    return {"question": question, "options": OPTIONS, "answer": answer, "hard": hard}


def write_article(folder: Path, number: int, text: str, records: list[object]) -> None:
    for name in ("source", "eval"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "source" / f"article_{number}.txt").write_text(text, encoding="utf-8")
    lines = "".join(f"{json.dumps(row)}\n" for row in records)
    (folder / "eval" / f"article_{number}.jsonl").write_text(lines, encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_article(tmp_path, 0, "Ada left.\n", [record(), record("Why?", 0, False)])
    write_article(tmp_path, 10, "Bo left.", [record("When?", 3)])
    write_article(tmp_path, 2, "Cy left.", [record("Where?", 1)])
    return tmp_path


def test_articles_are_read_by_number(folder: Path):
    options = tuple(OPTIONS)
    assert quality.read_articles(folder, allow_other_version=True) == [
        Article(
            0,
            "Ada left.",
            (
                QualityQuestion("Who?", options, "C", True),
                QualityQuestion("Why?", options, "A", False),
            ),
        ),
        Article(2, "Cy left.", (QualityQuestion("Where?", options, "B", True),)),
        Article(10, "Bo left.", (QualityQuestion("When?", options, "D", True),)),
    ]


def test_a_file_of_rows_gives_the_same_articles_as_a_folder(folder: Path, tmp_path: Path):
    rows = [
        {"article": "Bo left.", **record("When?", 3)},
        {"article": "Ada left.", **record()},
        {"article": "Cy left.", **record("Where?", 1)},
        {"article": "Ada left.", **record("Why?", 0, False)},
    ]
    path = tmp_path / "quality.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    articles = quality.read_articles(path, allow_other_version=True)
    assert [article.number for article in articles] == [0, 1, 2]
    folder_articles = quality.read_articles(folder, allow_other_version=True)
    by_text = {article.text: article.questions for article in folder_articles}
    assert {article.text: article.questions for article in articles} == by_text


def test_an_incomplete_part_is_refused_unless_allowed(folder: Path):
    message = "has 115 articles and 2,086 questions, got 3 and 4"
    with pytest.raises(DataError, match=message):
        quality.read_articles(folder)


def test_a_complete_part_is_read(tmp_path: Path):
    counts = [19] * 16 + [18] * 99
    assert (len(counts), sum(counts)) == (quality.N_ARTICLES, quality.N_QUESTIONS)
    for number, n in enumerate(counts):
        write_article(tmp_path, number, f"Text {number}", [record(f"{i}?") for i in range(n)])
    assert len(quality.read_articles(tmp_path)) == 115


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": ""}, "question must be text that is not empty"),
        ({"options": OPTIONS[:3]}, "options must be 4 texts, got 3"),
        ({"options": [*OPTIONS, "Ed"]}, "options must be 4 texts, got 5"),
        ({"options": "ABCD"}, "options must be a list of texts"),
        ({"options": [*OPTIONS[:3], ""]}, "options must be a list of texts"),
        ({"answer": 4}, r"answer must be 0\.\.3, got 4"),
        ({"answer": -1}, "answer must be 0 or more, got -1"),
        ({"answer": "C"}, "answer must be 0 or more, got 'C'"),
        ({"hard": 1}, "hard must be true or false, got 1"),
    ],
)
def test_altered_questions_are_named_with_their_lines(
    folder: Path, change: dict[str, object], message: str
):
    write_article(folder, 2, "Cy left.", [record(), record("Why?") | change])
    with pytest.raises(DataError, match=rf"article_2\.jsonl, line 2: {message}"):
        quality.read_articles(folder, allow_other_version=True)


@pytest.mark.parametrize("key", ["question", "options", "answer", "hard"])
def test_missing_fields_are_named(folder: Path, key: str):
    broken = record()
    del broken[key]
    write_article(folder, 2, "Cy left.", [broken])
    with pytest.raises(DataError, match=rf"article_2\.jsonl, line 1: {key} is missing"):
        quality.read_articles(folder, allow_other_version=True)


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ("source/article_2.txt", "article 2 is in one alone"),
        ("eval/article_10.jsonl", "article 10 is in one alone"),
        ("source", r"source: no files article_0\.txt, article_1\.txt, … in it"),
        ("eval", r"eval: no files article_0\.jsonl"),
    ],
)
def test_missing_files_are_named(folder: Path, removed: str, message: str):
    path = folder / removed
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=message):
        quality.read_articles(folder, allow_other_version=True)


def test_stray_equal_and_empty_files_of_a_folder_are_named(folder: Path):
    (folder / "source" / "article_x.txt").write_text("?")
    with pytest.raises(DataError, match=r"article_x\.txt: must be article_, a number"):
        quality.read_articles(folder, allow_other_version=True)
    (folder / "source" / "article_x.txt").unlink()
    write_article(folder, 2, "Bo left.", [record()])
    with pytest.raises(DataError, match="articles 2 and 10 are one text"):
        quality.read_articles(folder, allow_other_version=True)
    write_article(folder, 2, " \n", [record()])
    with pytest.raises(DataError, match=r"article_2\.txt: must be the text of an article"):
        quality.read_articles(folder, allow_other_version=True)
    write_article(folder, 2, "Cy left.", [])
    with pytest.raises(DataError, match=r"article_2\.jsonl: no questions in it"):
        quality.read_articles(folder, allow_other_version=True)


def test_missing_and_empty_files_raise(tmp_path: Path):
    with pytest.raises(DataError, match=r"none\.jsonl: no such file"):
        quality.read_articles(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match=r"empty\.jsonl: no questions in it"):
        quality.read_articles(tmp_path / "empty.jsonl")


def test_an_altered_article_is_recognised_by_its_checksum(folder: Path):
    path = folder / "source" / "article_2.txt"
    checksums = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  source/article_2.txt\n"
    (folder / "SHA256SUMS").write_text(checksums, encoding="utf-8")
    assert len(quality.read_articles(folder, allow_other_version=True)) == 3
    path.write_text("Cy left for good.", encoding="utf-8")
    with pytest.raises(DataError, match=r"article_2\.txt: is not the file SHA256SUMS lists"):
        quality.read_articles(folder, allow_other_version=True)


# Asking and scoring


def test_an_example_shows_the_options_by_letter():
    assert quality.to_example(QualityQuestion("Who?", tuple(OPTIONS), "C", True)) == from_pair(
        "Who?\nA: Ada\nB: Bo\nC: Cy\nD: Di\n"
        "Reply with the letter of the correct option and nothing else.",
        "C",
    )


def test_accuracy_is_the_mean_over_articles(folder: Path):
    articles = quality.read_articles(folder, allow_other_version=True)
    chosen = [["C", "B"], [None], ["D"]]  # half, none, all; of the hard ones all, none, all
    assert quality.accuracy(articles, chosen) == Accuracy(
        pytest.approx(1.5 / 3), pytest.approx(2 / 3)
    )


def test_without_hard_questions_there_is_no_hard_accuracy():
    easy = Article(0, "x", (QualityQuestion("?", tuple(OPTIONS), "A", False),))
    assert quality.accuracy([easy], [["A"]]) == Accuracy(1, None)


@pytest.mark.parametrize("chosen", [[], [["C", "A"], ["B"]], [["C"], ["B"], ["D"]]])
def test_accuracy_needs_a_reply_to_every_question(folder: Path, chosen: list[list[str]]):
    articles = quality.read_articles(folder, allow_other_version=True)
    with pytest.raises(UsageError, match="each of 4 questions of 3 articles, one at least, must"):
        quality.accuracy(articles, chosen)


def test_no_articles_have_no_accuracy():
    with pytest.raises(UsageError, match="each of 0 questions of 0 articles, one at least"):
        quality.accuracy([], [])
