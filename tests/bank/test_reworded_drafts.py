"""Wordings in the bank: made at write time, stored with their fact, found by, and kept."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import EXAMPLES, draft_from_examples, draft_from_files, draft_from_jsonl
from lorabank.bank.opening import identify_base
from lorabank.bank.write.reworded_drafts import reword_draft
from lorabank.engine.backbone.base import Base
from lorabank.engine.settings import TrainSettings
from lorabank.errors import DataError
from lorabank.store.store import Store
from lorabank.tasks.examples import Example
from lorabank.tasks.made_wordings import reword

FEW = TrainSettings(r=2, alpha=4.0, lr=1e-2, exposures=2, batch_size=8, margin=0.0)


def test_a_module_holds_its_wordings_and_is_found_by_those_it_was_taught(
    tiny: Base, tmp_path: Path, book: list[Example]
):
    store = Store.create(tmp_path / "bank", base=identify_base(tiny.info))
    with Bank(store, tiny, embeds=False) as bank:
        report = bank.write("team", book[:2], settings=FEW)
        assert (report.facts, report.reworded) == (2, 4)
        version = bank.store.current("team")
        lines = [json.loads(line) for line in bank.store.read(version, EXAMPLES).splitlines()]
        assert [len(line["also"]) for line in lines] == [3, 3]
        assert [len(line["held_out"]) for line in lines] == [2, 2]
        keys = [key.text for key in bank.store.keys(version)]
        assert keys == [text for e in reword(book[:2], 4) for text in e.questions]
        assert bank.recall_by_rendering("team")["reworded"] == report.recall_reworded
        assert bank.reader.read_draft(version).examples[0].held_out
        for question in (keys[1], keys[-1]):  # the lookup knows a fact in all taught wordings
            (found,) = bank.state.examples.look_up([question])
            assert found.best is not None
            assert found.best.answer in {example.answer for example in book[:2]}


def test_reversed_facts_go_into_the_source_of_their_fact(book: list[Example]):
    draft = draft_from_examples("team", book[:3])
    reworded = reword_draft(draft, replace(FEW, reverse=True))
    assert [example.is_reversed for example in reworded.examples] == [False] * 3 + [True] * 3
    assert reworded.sources[0].n_examples == 6
    body = reworded.as_jsonl()
    assert draft_from_jsonl("team", reworded.sources, body).examples == reworded.examples


def test_a_bank_written_before_there_were_wordings_reads_as_before(book: list[Example]):
    draft = draft_from_examples("team", book[:2])
    assert reword_draft(draft, replace(FEW, wordings=0)) == draft
    lines = [json.loads(line) for line in draft.as_jsonl().splitlines()]
    assert [sorted(line) for line in lines] == [["answer", "prompt", "source"]] * 2
    assert draft_from_jsonl("team", draft.sources, draft.as_jsonl()) == draft


@pytest.mark.parametrize("also", ["text", [1], {"a": "b"}])
def test_stored_wordings_that_are_no_texts_are_refused(book: list[Example], also: object):
    draft = draft_from_examples("team", book[:1])
    line = {**json.loads(draft.as_jsonl()), "also": also}
    with pytest.raises(TypeError, match="wordings"):
        draft_from_jsonl("team", draft.sources, f"{json.dumps(line)}\n".encode())


def test_one_prompt_in_two_files_is_refused_in_any_wording(tmp_path: Path):
    one, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    one.write_text('{"prompt": "Who?", "also": ["By whom?"], "answer": "Ada"}\n')
    other.write_text('{"prompt": "by WHOM", "answer": "Ada"}\n')
    with pytest.raises(DataError, match=r"b\.jsonl and a\.jsonl both ask 'by WHOM'"):
        draft_from_files("team", [one, other])
