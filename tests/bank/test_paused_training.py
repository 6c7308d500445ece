"""Training that makes room for questions between its steps, and that is paused and resumed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lorabank.bank.bank import Bank, identify_base
from lorabank.bank.write.consolidate import ConsolidateOptions
from lorabank.engine.adapters.adapter import TENSORS
from lorabank.engine.backbone.base import Base
from lorabank.engine.training.progress import FleetProgress
from lorabank.engine.training.train import TrainingPaused
from lorabank.store.store import Store
from lorabank.tasks.examples import Example

from .conftest import TINY

SHORT = replace(TINY, exposures=30)


def new_bank(base: Base, path: Path, book: list[Example]) -> Bank:
    bank = Bank(Store.create(path, base=identify_base(base.info)), base, embeds=False)
    bank.remember([(example.question, example.answer) for example in book[8:12]])
    return bank


def weights(bank: Bank) -> str:
    return bank.store.current("memory-1").files[TENSORS]


def test_questions_between_steps_are_answered_as_ever_and_change_no_weight(
    bank: Bank, book: list[Example], tiny: Base, tmp_path: Path
):
    with new_bank(tiny, tmp_path / "alone", book) as alone:
        alone.consolidate(ConsolidateOptions(settings=SHORT))
        expected = weights(alone)
    before = bank.ask(book[0].question, explain=True)
    assert before.module == "north"
    bank.remember([(example.question, example.answer) for example in book[8:12]])
    answers = []

    def ask(_: FleetProgress) -> None:
        assert bank.base.entered
        with bank.base.bare():
            assert not bank.base.entered
            answers.append(bank.ask(book[0].question, explain=True))
        assert bank.base.entered

    # The bank's own module taught these; remembering them again changes nothing there.
    with new_bank(tiny, tmp_path / "asked", book) as asked:
        asked.consolidate(ConsolidateOptions(settings=SHORT, on_round=ask))
        assert weights(asked) == expected
    assert len(answers) == 30
    assert {(a.text, a.module, a.kind) for a in answers} == {
        (before.text, before.module, before.kind)
    }
    after = bank.ask(book[0].question, explain=True)
    assert after.candidates[0].p == pytest.approx(before.candidates[0].p)


def test_a_paused_consolidation_resumes_to_the_same_weights(
    tiny: Base, book: list[Example], tmp_path: Path
):
    with new_bank(tiny, tmp_path / "alone", book) as alone:
        alone.consolidate(ConsolidateOptions(settings=SHORT))
        expected = weights(alone)
    n_rounds = [0]

    def pause(_: FleetProgress) -> None:
        n_rounds[0] += 1
        if n_rounds[0] == 7:
            raise TrainingPaused

    folder = tmp_path / "checkpoints"
    with new_bank(tiny, tmp_path / "paused", book) as paused:
        options = ConsolidateOptions(settings=SHORT, on_round=pause, checkpoints=folder)
        with pytest.raises(TrainingPaused):
            paused.consolidate(options)
        assert not tiny.entered
        assert paused.store.names() == []
        assert len(list(folder.iterdir())) == 1
        (folder / "of another step").mkdir()
        paused.consolidate(options)
        assert n_rounds[0] == 30  # the first seven were not taken again
        assert weights(paused) == expected
        assert list(folder.iterdir()) == []


def test_a_model_without_fleets_is_bare_already(tiny: Base):
    before = tiny.model(input_ids=torch.tensor([[1, 2, 3]])).logits
    with tiny.bare():
        assert torch.equal(tiny.model(input_ids=torch.tensor([[1, 2, 3]])).logits, before)
