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
    pieces = sources_from_chunks(chunks_of_passages(read_prewritten(path)))
    return synthesise(
        pieces,
        parse_formats(formats),
        PrewrittenGenerator.of(path),
        None,
    )


def test_completions_are_read_checked_and_counted(passages: Path):
    outcome = run(passages, "qa:5,original")
    assert is_prewritten(passages)
    assert [made.prompt for made in outcome.made if made.format == "qa"] == [
        f"What is the {thing} of {word(i)}?" for i in range(2) for thing in ("capital", "river")
    ]
    assert sum(made.format == "original" for made in outcome.made) == 2
    reasons = [one.reason for one in outcome.refused]
    assert reasons.count("a question that needs its passage to be understood") == 5
    assert reasons.count("an answer the passage does not support") == 1
    assert reasons.count("an item without its texts") == 1
    assert outcome.calls == 2


def test_a_passage_of_which_nothing_is_fit_is_named_but_all_are_an_error(passages: Path):
    rows = [json.loads(line) for line in passages.read_text().splitlines()]
    rows[1]["completions"] = ["la la"]
    passages.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(passages, "qa:5").documents_without_examples == [f"On_{word(1)}/1"]
    rows[0]["completions"] = ["la la"]
    passages.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UsageError, match="nothing fit to be taught"):
        run(passages, "qa:5")


def test_a_passage_that_is_not_in_the_file_has_failed(passages: Path, tmp_path: Path):
    other = tmp_path / "other.jsonl"
    other.write_text(passages.read_text().splitlines()[0] + "\n")
    pieces = sources_from_chunks(chunks_of_passages(read_prewritten(passages)))
    outcome = synthesise(
        pieces,
        parse_formats("qa:5"),
        PrewrittenGenerator.of(other),
        None,
    )
    assert any("has no such passage" in one.text for one in outcome.refused)
    assert len({made.document for made in outcome.made}) == 1


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "x", "are a .jsonl file of passages"),
        ("a.jsonl", "", "no passages"),
        ("a.jsonl", '{"title": "T"}', "context is missing"),
        ("a.jsonl", BARE, "nothing that was written"),
    ],
)
def test_files_of_another_form(tmp_path: Path, name: str, text: str, said: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        PrewrittenGenerator.of(tmp_path / name)
    with pytest.raises(DataError, match=r"must have paperQA\.json"):
        PrewrittenGenerator.of(tmp_path)


@pytest.mark.skipif(not DATA, reason="LORABANK_DATA is not set")
def test_real_files():
    papers = run(Path(str(DATA)) / "paperqa", "qa:40,original")
    assert papers.wanted == 410
    assert 380 < len(papers.made) < 400
    covered = papers.coverage
    assert 0.75 < covered.sentences_covered / covered.sentences < 0.9
    folder = Path(str(DATA)) / "squad" / "synthetic"
    rewrites = run(folder / "rewrite_qwen2.5-7b.jsonl", "rewrite:4")
    assert 300 < len(rewrites.made) < 400
    assert {made.format for made in rewrites.made} == {FormatKind.REWRITE}
    assert len(run(folder / "qa_qwen2.5-7b.jsonl", "qa:20").made) > 1500
