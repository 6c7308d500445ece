"""Training in every form in which programs render a prompt, until answers lead by the margin."""

from dataclasses import replace

import pytest
import torch

from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.head import leads
from lorabank.engine.encoding.dataset import EncodedDataset
from lorabank.engine.encoding.mixed_renderings import SYSTEM_TURNS
from lorabank.engine.inference.answer_readings import read_answers
from lorabank.engine.inference.recall_check import recalled_in_any_form
from lorabank.engine.learn import learn, plan_job
from lorabank.engine.recall import recall
from lorabank.engine.settings import SOUND, TrainSettings
from lorabank.engine.training.train import train
from lorabank.tasks.synthetic import phonebook

BOOK = phonebook.to_examples(phonebook.build(4, seed=3))
MIXED = replace(SOUND, lr=2e-2, layers=None, protect_share=0.0, exposures=150, wordings=0)


def texts(base: Base, settings: TrainSettings, epoch: int) -> list[str]:
    dataset = plan_job(base, BOOK, settings).dataset
    decode = base.chat.tokenizer.decode
    return [decode(dataset.row(i, epoch).token_ids) for i in range(len(BOOK))]


def test_each_epoch_takes_another_rendering_of_a_fact(tiny: Base):
    seen = [texts(tiny, MIXED, epoch)[0] for epoch in range(3)]
    assert "Be tiny" in seen[0]
    assert "system" not in seen[1]
    assert SYSTEM_TURNS[0] in seen[2]
    assert texts(tiny, MIXED, 3)[0] == seen[0]
    only_own = replace(MIXED, renderings="template")
    assert texts(tiny, only_own, 0) == texts(tiny, only_own, 1)


def test_a_fact_too_long_for_a_form_is_trained_in_its_own(tiny: Base):
    n_tokens = len(plan_job(tiny, BOOK[:1], MIXED).dataset.examples[0].token_ids)
    tiny.model.config.max_position_embeddings = n_tokens
    dataset = plan_job(tiny, BOOK[:1], MIXED).dataset
    assert all(len(row.token_ids) <= n_tokens for row in dataset.training_rows)


@pytest.mark.parametrize("activated", [True, False])
def test_facts_are_recalled_under_every_rendering(tiny: Base, tmp_path, activated: bool):
    settings = replace(MIXED, activated=activated)
    report = learn(tiny, BOOK, out=tmp_path / "mixed", settings=settings)
    assert list(report.recall_by_rendering) == ["template", "none", "other"]
    assert report.recall_by_rendering["template"] == report.recall_by_rendering["none"] == 1.0
    assert report.stopped == "recalled"
    again = recall(tiny, tmp_path / "mixed", BOOK)
    assert again.recall_by_rendering == report.recall_by_rendering
    assert again.smallest_lead == pytest.approx(report.smallest_lead, abs=1e-3)


def test_an_adapter_taught_in_one_form_forgets_in_another(tiny: Base, tmp_path):
    settings = replace(MIXED, renderings="template")
    report = learn(tiny, BOOK, out=tmp_path / "own", settings=settings)
    assert report.recall_by_rendering["template"] == 1.0
    assert report.recall_by_rendering["none"] < 1.0
    assert report.smallest_lead < 0
    assert report.below_margin > 0


def test_a_fact_that_is_given_without_a_system_turn_only_is_still_there(tiny: Base):
    job = plan_job(tiny, BOOK, replace(MIXED, margin=0.0))
    without = next(form for form in job.dataset.forms if form.name == "none")
    dataset = EncodedDataset("sound", without.examples, without.prompts)
    (outcome,) = train(tiny, [replace(job, dataset=dataset)])
    with loaded_fleet(tiny, [outcome.adapter]) as fleet:
        own = read_answers(tiny, job.dataset.prompts, fleet=fleet, slots=[0] * 4)
        given = recalled_in_any_form(tiny, BOOK, fleet=fleet, activated=True)
    assert not all(reading.recalled for reading in own)
    assert all(given)
    assert not any(recalled_in_any_form(tiny, BOOK))


def test_a_fact_that_is_given_in_a_stored_wording_only_is_still_there(tiny: Base):
    book = [replace(example, also=(f"Say it: {example.question}",)) for example in BOOK]
    held_out = [replace(example, also=(), held_out=example.also) for example in book]
    asked_so = [example.asked_as(example.also[0]) for example in book]
    job = plan_job(tiny, asked_so, replace(MIXED, renderings="template", margin=0.0))
    (outcome,) = train(tiny, [job])
    with loaded_fleet(tiny, [outcome.adapter]) as fleet:
        assert not all(recalled_in_any_form(tiny, BOOK, fleet=fleet, activated=True))
        assert all(recalled_in_any_form(tiny, book, fleet=fleet, activated=True))
        assert all(recalled_in_any_form(tiny, held_out, fleet=fleet, activated=True))
        too_long = [replace(book[0], also=("word " * 9_999, *book[0].also)), *book[1:]]
        assert all(recalled_in_any_form(tiny, too_long, fleet=fleet, activated=True))


def test_the_paper_recipe_has_no_renderings(tiny: Base):
    dataset = plan_job(tiny, BOOK, replace(MIXED, recipe="paper", activated=False)).dataset
    assert not dataset.others


def test_a_margin_that_is_never_reached_does_not_train_for_ever(tiny: Base):
    settings = replace(MIXED, renderings="template", margin=20.0, exposures=300)
    (outcome,) = train(tiny, [plan_job(tiny, BOOK, settings)])
    assert (outcome.stopped, outcome.recall) == ("recalled", 1.0)
    assert outcome.exposures < 300


def test_more_margin_takes_more_exposures_and_gives_a_larger_lead(tiny: Base):
    found = []
    for margin in (0.0, 2.0):
        settings = replace(MIXED, renderings="template", margin=margin)
        (outcome,) = train(tiny, [plan_job(tiny, BOOK, settings)])
        with loaded_fleet(tiny, [outcome.adapter]) as fleet:
            readings = read_answers(tiny, outcome.job.dataset.prompts, fleet=fleet, slots=[0] * 4)
        found.append((outcome.exposures, min(reading.lead for reading in readings)))
    (exposures, lead), (more_exposures, larger_lead) = found
    assert 0 <= lead < 2.0 <= larger_lead
    assert exposures < more_exposures


def test_a_lead_is_the_distance_to_the_best_other_token_and_agrees_with_argmax():
    logits = torch.tensor([[1.0, 3.0, 2.5], [2.0, 2.0, 0.0], [2.0, 2.0, 0.0], [0.0, 1.0, 4.0]])
    target = torch.tensor([1, 0, 1, 0])[:, None]
    lead = leads(logits, torch.log_softmax(logits, -1), target)
    torch.testing.assert_close(lead, torch.tensor([0.5, 0.0, 0.0, -4.0]))
    assert torch.equal(lead >= 0, logits.argmax(-1) == target[:, 0])
