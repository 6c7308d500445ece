"""Settings of training: ranges, defaults that follow from others, and former names."""

import json
import math

import pytest

from lorabank.engine.settings import SOUND, TrainSettings, settings_for
from lorabank.errors import UsageError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": "best"}, "--recipe must be sound or paper, got 'best'"),
        ({"r": 0}, "--r must be at least 1, got 0"),
        ({"lr": 3.0}, "--lr must be between 0 and 1, got 3.0"),
        ({"exposures": 0}, "--exposures must be at least 1"),
        ({"until_recall": 1.5}, "--until-recall must be above 0 and at most 1"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
        ({"alpha": -1.0}, "--alpha must be above 0"),
        ({"schedule": "linear"}, "schedule must be adaptive, constant, cosine"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object], message: str):
    with pytest.raises(UsageError, match=message):
        settings_for(**{"recipe": "sound", **changes})  # type: ignore[arg-type]


def test_the_former_name_of_a_schedule_is_read_as_the_present_one():
    assert SOUND.schedule == "adaptive"
    assert settings_for("sound", schedule="settle") == SOUND
    assert TrainSettings(**{**SOUND.as_json(), "schedule": "settle"}).schedule == "adaptive"


def test_alpha_follows_rank_and_a_stated_budget_is_spent():
    assert settings_for("sound", r=4).alpha == 8
    assert settings_for("sound", r=8).lr == SOUND.lr
    assert settings_for("sound", r=32).lr == pytest.approx(SOUND.lr / 2)
    assert settings_for("sound", r=32, lr=1e-3).lr == 1e-3
    assert settings_for("paper", r=32).lr == 5e-5
    assert settings_for("paper", r=64).alpha == 64
    assert settings_for("sound", exposures=5).until_recall is None
    assert settings_for("sound", exposures=5, until_recall=0.9).until_recall == 0.9
    assert settings_for("paper", exposures=5).steps is None


@pytest.mark.parametrize(
    "values",
    [{"variant": ["lora"]}, {"r": "8"}, {"lr": True}, {"rank": 8}, {"alpha": math.nan}, ["r"]],
)
def test_settings_of_strangers_are_refused_in_one_line(values):
    with pytest.raises(UsageError, match=r"\A.+\Z"):
        TrainSettings.from_json(values)


def test_settings_are_read_as_they_were_written():
    written = json.loads(json.dumps(TrainSettings(layers=(1, 2)).as_json()))
    assert TrainSettings.from_json(written) == TrainSettings(layers=(1, 2))
