"""Several wordings of a fact share its exposures; those held out are asked and never trained on."""

from dataclasses import replace
from pathlib import Path

import pytest

from lorabank.engine.backbone.base import Base
from lorabank.engine.learn import learn, plan_job
from lorabank.engine.recall import recall
from lorabank.engine.settings import PAPER, SOUND, settings_for
from lorabank.errors import DataError, UsageError
from lorabank.tasks.examples import Example, Message, from_pair
from lorabank.tasks.synthetic import phonebook

BOOK = phonebook.to_examples(phonebook.build(4, seed=3))
FAST = replace(SOUND, lr=2e-2, layers=None, protect_share=0.0, exposures=150, margin=0.0)
SEVERAL = [
    Example((Message("user", "Who keeps the mill?"),), "Ada", also=("The miller is", "mill who")),
    from_pair("Who keeps the lock?", "Bo"),
]


def rows(base: Base, epoch: int, **changes: str) -> list[str]:
    dataset = plan_job(base, SEVERAL, replace(SOUND, **changes)).dataset
    decode = base.chat.tokenizer.decode
    return [decode(dataset.row(i, epoch).token_ids) for i in range(len(dataset))]


def test_each_exposure_has_one_wording_and_all_come_in_turn(tiny: Base):
    epochs = [rows(tiny, epoch, renderings="template") for epoch in range(6)]
    mill = [[text in row for row, _ in epochs] for text in SEVERAL[0].questions]
    assert mill == [[True, False, False] * 2, [False, True, False] * 2, [False, False, True] * 2]
    assert all("Who keeps the lock?" in lock for _, lock in epochs)


def test_other_wordings_come_in_other_renderings_and_the_own_one_in_all(tiny: Base):
    own = [row for epoch in range(9) for row in rows(tiny, epoch) if "keeps the mill" in row]
    assert len(own) == len(set(own)) == 3
    dataset = plan_job(tiny, SEVERAL, SOUND).dataset
    assert [form.name for form in dataset.wordings] == ["wording 2", "wording 3"]
    assert len(dataset.forms) == 5


def test_the_reports_say_recall_of_wordings_never_trained_on(tiny: Base, tmp_path: Path):
    report = learn(tiny, BOOK, out=tmp_path / "four", settings=FAST)
    assert report.facts == 4
    assert report.recall == 1.0
    assert report.reworded == 8
    assert report.recall_reworded is not None
    assert report.recall_reversed is None
    again = recall(tiny, tmp_path / "four", BOOK)
    assert (again.reworded, again.recall_reworded) == (8, report.recall_reworded)


def test_without_wordings_there_is_nothing_reworded(tiny: Base, tmp_path: Path):
    settings = replace(FAST, wordings=0, exposures=3)
    report = learn(tiny, BOOK, out=tmp_path / "none", settings=settings)
    assert (report.reworded, report.recall_reworded) == (0, None)


def test_reversed_questions_are_taught_as_facts_of_their_own(tiny: Base, tmp_path: Path):
    settings = replace(FAST, reverse=True, wordings=2, exposures=2)
    report = learn(tiny, BOOK, out=tmp_path / "both", settings=settings)
    assert report.facts == 8
    assert report.recall_reversed is not None


def test_wordings_of_a_file_are_trained_on_under_the_recipe_paper_too(tiny: Base):
    dataset = plan_job(tiny, SEVERAL, PAPER).dataset
    decode = tiny.chat.tokenizer.decode
    assert "Question: The miller is Answer: Ada" in decode(dataset.row(0, 1).token_ids)
    assert settings_for("paper").wordings == 0


def test_a_wording_too_long_for_the_model_is_left_to_the_facts_own(tiny: Base):
    long = Example((Message("user", "Who?"),), "Ada", also=("who " * 600,), held_out=("a " * 600,))
    dataset = plan_job(tiny, [long], replace(SOUND, renderings="template")).dataset
    assert dataset.row(0, 1) == dataset.row(0, 0)


def test_what_cannot_be_is_refused(tiny: Base, tmp_path: Path):
    with pytest.raises(UsageError, match=r"--wordings must be 0\.\.16, got 17"):
        settings_for("sound", wordings=17)
    with pytest.raises(UsageError, match="--reverse takes facts alone"):
        settings_for("sound", reverse=True, objective="distil")
    with pytest.raises(DataError, match="contradicts in another spelling example 1"):
        learn(tiny, [("Who?", "Ada"), ("WHO", "Bo")], out=tmp_path / "no", settings=FAST)
