"""Adapters that do not see what ordinary text varies in leave the base as it is there."""

from dataclasses import replace

import pytest
import torch

from lorabank.engine.backbone.base import Base
from lorabank.engine.learn import learn, plan_job
from lorabank.engine.settings import SOUND, TrainSettings, settings_for
from lorabank.engine.training.protection import directions_for
from lorabank.engine.training.train import FleetSettings, train
from lorabank.errors import UsageError
from lorabank.tasks.drift_questions import KNOWN, REPLIES
from lorabank.tasks.ordinary_texts import QUESTIONS, SHORT, TEXTS
from lorabank.tasks.synthetic import phonebook

BOOK = phonebook.to_examples(phonebook.build(4, seed=3))
QUICK = replace(
    SOUND,
    lr=2e-2,
    exposures=8,
    until_recall=None,
    renderings="template",
    wordings=0,
    layers=None,
    protect_share=0.0,
    protect_directions=0.25,
)
UNPROTECTED = replace(QUICK, protect_directions=0.0)


@pytest.mark.parametrize("activated", [True, False])
def test_a_trained_adapter_is_blind_to_the_directions_of_ordinary_text(tiny: Base, activated: bool):
    job = plan_job(tiny, BOOK, replace(QUICK, activated=activated))
    (outcome,) = train(tiny, [job])
    directions = directions_for(tiny, [job])[activated]
    for path in job.paths:
        a, b = outcome.weights[path]
        n = round(QUICK.protect_directions * a.shape[1])
        assert (a @ directions[path][:, :n]).abs().max() < 1e-4, path
        assert b.abs().max() > 0


def test_drift_is_a_small_part_of_what_it_is_without(tiny: Base, tmp_path):
    half = replace(QUICK, protect_directions=0.5, exposures=40)
    protected = learn(tiny, BOOK, out=tmp_path / "protected", settings=half)
    free = learn(tiny, BOOK, out=tmp_path / "free", settings=replace(half, protect_directions=0.0))
    assert protected.kl_to_base_nats < 0.7 * free.kl_to_base_nats


def test_protected_and_other_jobs_get_in_company_what_they_get_alone(tiny: Base):
    jobs = [
        plan_job(tiny, BOOK, QUICK, name="protected"),
        plan_job(tiny, BOOK, UNPROTECTED, name="free"),
        plan_job(tiny, BOOK[:3], replace(QUICK, activated=False, seed=1), name="always-on"),
    ]
    together = train(tiny, jobs, fleet_settings=FleetSettings(width=2))
    for job, outcome in zip(jobs, together, strict=True):
        (alone,) = train(tiny, [job])
        for path, pair in outcome.weights.items():
            for tensor, expected in zip(pair, alone.weights[path], strict=True):
                torch.testing.assert_close(tensor, expected, atol=1e-4, rtol=0)


def test_only_what_can_be_protected_is_by_default():
    with pytest.raises(UsageError, match=r"--variant pissa .* leave --protect-directions out"):
        replace(QUICK, variant="pissa")
    assert settings_for("sound").protect_share == 0.1
    assert settings_for("sound", variant="dora", activated=False).protect_share == 0
    assert settings_for("paper").protect_share == 0


def test_records_from_before_are_read_as_blind_to_nothing():
    older = SOUND.as_json()
    del older["protect_directions"]
    assert TrainSettings.from_json(older) == SOUND


def test_what_drift_is_measured_on_is_not_what_protects():
    measured = {question for question, _ in (*REPLIES, *KNOWN)}
    assert len(QUESTIONS) == len(set(QUESTIONS)) == len(TEXTS) + len(SHORT)
    assert not measured & set(QUESTIONS)
    assert len(REPLIES) == 64
    answers = [answer for _, answer in KNOWN]
    assert len(answers) == len(set(answers)) >= 40
