"""One fact is forgotten: out of its module, with all values it has had, and nothing else goes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lorabank.bank.bank import Bank
from lorabank.bank.write.consolidate import ConsolidateOptions
from lorabank.bank.write.consolidation_plan import plan_consolidation
from lorabank.bank.write.fact_removal import remove_fact
from lorabank.cli.records import list_
from lorabank.cli.verify import verify
from lorabank.errors import AdapterError, UsageError
from lorabank.tasks.examples import Example

from .conftest import TINY


def bytes_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_taught_fact_leaves_its_module_which_keeps_the_others(bank: Bank, book: list[Example]):
    proof = bank.forget(book[0].question.lower(), is_fact=True)
    assert (proof.modules, proof.rewritten, proof.facts) == (("north",), ("north",), 1)
    assert (proof.recall_before, proof.recall_after, proof.kept_recall) == (1.0, 0.0, 1.0)
    assert proof.remaining == proof.unchecked == ()
    assert [version.number for version in bank.show("north")] == [1]
    assert bank.store.current("north").sources[0].n_examples == 3
    assert bank.ask(book[0].question).text == ""
    assert bank.ask(book[1].question).text == book[1].answer
    content = bytes_in(bank.store.path)
    assert book[0].answer.encode() not in content
    assert book[1].answer.encode() in content
    assert bank.verify() == []


def test_a_changed_fact_goes_with_all_its_values(bank: Bank, book: list[Example]):
    bank.remember([(book[0].question, "000-000-0000")])
    bank.remember([("Who leads Nebo?", "Tuva")])
    proof = bank.forget(book[0].question, is_fact=True)
    assert (proof.facts, proof.recall_before, proof.recall_after) == (2, 1.0, 0.0)
    assert [fact.answer for fact in bank.store.facts()] == ["Tuva"]
    content = bytes_in(bank.store.path)
    assert b"000-000-0000" not in content
    assert book[0].answer.encode() not in content
    for mode in ("adapter", "exact"):
        assert bank.ask(book[0].question, mode=mode).text == ""


def test_a_pending_fact_goes_without_training(bank: Bank, book: list[Example]):
    bank.remember([("Who leads Nebo?", "Tuva Sorre")])
    modules = bank.store.modules_state
    proof = bank.forget("who leads nebo", is_fact=True)
    assert (proof.modules, proof.facts, proof.recall_after) == ((), 1, 0.0)
    assert bank.store.modules_state == modules
    assert b"Tuva Sorre" not in bytes_in(bank.store.path)
    assert [event.what for event in bank.history()][-1] == "forget fact"


def test_a_consolidated_fact_goes_and_the_others_stay_remembered(bank: Bank, book: list[Example]):
    facts = [(e.question, e.answer) for e in book[12:15]]
    bank.remember(facts)
    bank.consolidate(ConsolidateOptions(settings=TINY))
    proof = bank.forget(facts[0][0], is_fact=True)
    assert (proof.rewritten, proof.recall_after, proof.kept_recall) == (("memory-1",), 0.0, 1.0)
    held = [(fact.answer, fact.module) for fact in bank.store.facts()]
    assert sorted(held) == sorted((answer, "memory-1") for _, answer in facts[1:])
    bank.forget(facts[1][0], is_fact=True)
    proof = bank.forget(facts[2][0], is_fact=True)
    assert (proof.rewritten, proof.kept_recall) == ((), None)
    assert "memory-1" not in bank.store.names()
    assert bank.store.facts() == []


def test_an_old_version_that_was_taught_it_goes_too(bank: Bank, book: list[Example]):
    rest = replace(TINY, exposures=1)
    bank.write("north", [(e.question, e.answer) for e in book[1:3]], settings=rest, replace=True)
    proof = bank.forget(book[0].question, is_fact=True)
    assert proof.rewritten == ()
    assert [version.number for version in bank.show("north")] == [2]


def test_the_history_of_a_fact_travels_with_its_module(bank: Bank, tmp_path: Path):
    question = "Who leads Nebo?"
    bank.remember([(question, "Tuva")], valid_at="2026-01-15")
    bank.remember([(question, "Siv")], valid_at="2026-06-01")
    bank.consolidate(ConsolidateOptions(settings=replace(TINY, exposures=1)))
    before = bank.store.facts()
    folder = tmp_path / "memory"
    bank.export("memory-1", folder)
    bank.forget("memory-1")
    assert bank.store.facts() == []  # the history of what is forgotten is forgotten, too
    bank.import_(folder, "memory-1")
    assert [replace(f, id=0) for f in bank.store.facts()] == [replace(f, id=0) for f in before]
    assert bank.ask(question, as_of="2026-02-01").text == "Tuva"
    assert bank.verify() == []

    description = json.loads((folder / "module.json").read_text())
    for wrong in ({"valid_at": "soon"}, {"also": "x"}, {"answer": 1}, {"sha256": "z"}):
        facts = [{**description["facts"][1], **wrong}]
        (folder / "module.json").write_text(json.dumps({**description, "facts": facts}))
        with pytest.raises(AdapterError, match="do not describe a module"):
            bank.import_(folder, "other")
    (folder / "module.json").write_text(
        json.dumps({**description, "facts": [description["facts"][1]] * 2})
    )
    with pytest.raises(AdapterError, match="two values that hold"):
        bank.import_(folder, "other")


def test_what_is_no_fact_is_named(bank: Bank, library: Bank, book: list[Example]):
    generation = bank.store.generation
    with pytest.raises(UsageError, match="no fact has the question 'Who leads Nebo"):
        bank.forget("Who leads Nebo?", is_fact=True)
    assert bank.store.generation == generation


def test_a_module_without_weights_is_named_and_consolidation_trains_it(
    bank: Bank, book: list[Example], capsys: pytest.CaptureFixture[str]
):
    remove_fact(bank.reader, bank.texts, book[1].question)
    path = bank.store.path
    (step,) = plan_consolidation(bank.store)
    assert (step.kind, step.module, step.n_facts) == ("train", "north", 3)
    assert step.why == "not trained yet"
    list_(path)
    assert "lorabank consolidate trains it" in capsys.readouterr().out
    verify(path, json=True)
    assert json.loads(capsys.readouterr().out)["untrained"] == ["north"]
    with pytest.raises(AdapterError, match=r"no weights yet; .* consolidate trains it"):
        bank.export("north", path.parent / "exported")
    assert bank.consolidate(ConsolidateOptions(trains_waiting=False)) == []
    (report,) = bank.consolidate()
    assert (report.module, report.recall, report.facts) == ("north", 1.0, 3)
    assert bank.ask(book[1].question).text == ""
    assert bank.ask(book[0].question).is_confirmed
    assert plan_consolidation(bank.store) == []
    assert [version.is_untrained for version in bank.show("north")] == [False]
