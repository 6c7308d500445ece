"""Distillation refuses data and settings that do not fit each other."""

from dataclasses import replace

import pytest

from lorabank.engine.backbone.base import Base
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import PAPER, PLAIN
from lorabank.errors import DataError, UsageError
from lorabank.tasks.examples import from_pair

ALL = 10**6  # a teacher_k above the size of any vocabulary: the whole distribution
QUICK = replace(PLAIN, lr=5e-3, exposures=6, until_recall=None, batch_size=4, warmup_steps=0)
DISTIL = replace(QUICK, objective="distil", teacher_k=ALL, teacher_hidden=0.7)
DOCUMENTS = [f"Report {d}: " + " ".join(f"item {i} is {i * d}," for i in range(9)) for d in (3, 5)]
ORDINARY = [from_pair(f"Why is it {i}?", f"For {i} reasons.") for i in range(3)]


@pytest.mark.parametrize(
    ("changes", "texts", "message"),
    [
        ({}, {"contexts": DOCUMENTS}, "no other objective does; got objective ce, 2 contexts"),
        ({"objective": "distil"}, {}, "takes a context for each example"),
        ({"objective": "distil"}, {"contexts": DOCUMENTS[:1]}, "each of 2 examples, got 1"),
        ({}, {"regularisation": ORDINARY}, "got 3 examples and protect_share 0"),
    ],
)
def test_data_that_does_not_fit_the_settings_is_refused(tiny: Base, changes, texts, message):
    examples = [from_pair("What is 1?", "1"), from_pair("What is 2?", "2")]
    with pytest.raises(UsageError, match=message):
        plan_job(tiny, examples, replace(QUICK, **changes), **texts)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (" \n", "example 1 has an empty context"),
        ("word " * 300, r"example 1 has [\d,]+ tokens with its context, the model takes 512"),
    ],
)
def test_a_context_no_teacher_can_read_is_refused(tiny: Base, context: str, message: str):
    with pytest.raises(DataError, match=message):
        plan_job(tiny, [from_pair("What is 1?", "1")], DISTIL, contexts=[context])


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        (PAPER, {"objective": "distil"}, "need --recipe sound"),
        (PAPER, {"protect_share": 0.1}, "got recipe paper, variant lora"),
        (QUICK, {"objective": "distil", "variant": "dora", "activated": False}, "variant dora"),
        (QUICK, {"teacher_k": 0}, "teacher_k must be at least 1, got 0"),
        (QUICK, {"teacher_hidden": -1.0}, "teacher_hidden must be at least 0, got -1"),
        (QUICK, {"protect_share": 1.0}, r"at most 0\.9, got 1\.0"),
    ],
)
def test_settings_that_do_not_fit_distillation_are_refused(settings, changes, message: str):
    with pytest.raises(UsageError, match=message):
        replace(settings, **changes)
