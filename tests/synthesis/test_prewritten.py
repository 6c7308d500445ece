"""Items that were written before and are read from a file in place of a generator."""

import json
import os
from pathlib import Path

import pytest

from lorabank.errors import DataError, UsageError
from lorabank.synthesis.example_synthesis import synthesise
from lorabank.synthesis.formats import FormatKind, parse_formats
from lorabank.synthesis.prewritten import (
    PrewrittenGenerator,
    chunks_of_passages,
    is_prewritten,
    read_prewritten,
)
from lorabank.synthesis.results import SynthesisOutcome
from lorabank.synthesis.sources import sources_from_chunks
from tests.synthesis.fact_documents import country, word

BARE = '{"title": "T", "context": "C", "questions": [{"question": "Q", "answer": "C"}]}'
DATA = os.environ.get("LORABANK_DATA")
QA = "What is the {0} of {1}?\nAnswer 1: {2}\n\nQuestion 2: Where is it?\nAnswer 2: in Asia"


@pytest.fixture
def passages(tmp_path: Path) -> Path:
    path = tmp_path / "qa.jsonl"
    rows = [
        {
            "title": f"On_{word(i)}",
            "context": country(i),
            "questions": [{"question": "What?", "answer": word(i)}],
            "completions": [
                QA.format("capital", word(i), word(100 + 10 * i)),
                QA.format("river", word(i), word(101 + 10 * i)),
                "I would rather not." if i else QA.format("lake", word(i), "Vienna"),
            ],
        }
        for i in range(2)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(path: Path, formats: str) -> SynthesisOutcome:
    sources = sources_from_chunks(chunks_of_passages(read_prewritten(path)))
    return synthesise(
        sources,
        parse_formats(formats),
        PrewrittenGenerator.of(path),
        None,
    )


def test_completions_are_read_checked_and_counted(passages: Path):
    outcome = run(passages, "qa:5,original")
    assert is_prewritten(passages)
    assert [example.prompt for example in outcome.made if example.format == "qa"] == [
        f"What is the {thing} of {word(i)}?" for i in range(2) for thing in ("capital", "river")
    ]
    assert sum(example.format == "original" for example in outcome.made) == 2
    reasons = [item.reason for item in outcome.refused]
    assert reasons.count("a question that needs its passage to be understood") == 5
    assert reasons.count("an answer the passage does not support") == 1
    assert reasons.count("an item without its texts") == 1
    assert outcome.calls == 2


def test_a_passage_without_usable_items_is_named_and_a_file_of_them_is_an_error(passages: Path):
    rows = [json.loads(line) for line in passages.read_text().splitlines()]
    rows[1]["completions"] = ["la la"]
    passages.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(passages, "qa:5").documents_without_examples == [f"On_{word(1)}/1"]
    rows[0]["completions"] = ["la la"]
    passages.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UsageError, match="nothing fit to be taught"):
        run(passages, "qa:5")


def test_a_passage_that_is_not_in_the_file_counts_as_failed(passages: Path, tmp_path: Path):
    other = tmp_path / "other.jsonl"
    other.write_text(passages.read_text().splitlines()[0] + "\n")
    sources = sources_from_chunks(chunks_of_passages(read_prewritten(passages)))
    outcome = synthesise(
        sources,
        parse_formats("qa:5"),
        PrewrittenGenerator.of(other),
        None,
    )
    assert any("has no such passage" in item.text for item in outcome.refused)
    assert len({example.document for example in outcome.made}) == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "x", "are a .jsonl file of passages"),
        ("a.jsonl", "", "no passages"),
        ("a.jsonl", '{"title": "T"}', "context is missing"),
        ("a.jsonl", BARE, "nothing that was written"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path: Path, name: str, text: str, message: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        PrewrittenGenerator.of(tmp_path / name)
    with pytest.raises(DataError, match=r"must have paperQA\.json"):
        PrewrittenGenerator.of(tmp_path)


@pytest.mark.skipif(not DATA, reason="LORABANK_DATA is not set")
def test_published_completions_give_the_known_numbers_of_examples():
    papers = run(Path(str(DATA)) / "paperqa", "qa:40,original")
    assert papers.wanted == 410
    assert 380 < len(papers.made) < 400
    covered = papers.coverage
    assert 0.75 < covered.sentences_covered / covered.sentences < 0.9
    folder = Path(str(DATA)) / "squad" / "synthetic"
    rewrites = run(folder / "rewrite_qwen2.5-7b.jsonl", "rewrite:4")
    assert 300 < len(rewrites.made) < 400
    assert {example.format for example in rewrites.made} == {FormatKind.REWRITE}
    assert len(run(folder / "qa_qwen2.5-7b.jsonl", "qa:20").made) > 1500
