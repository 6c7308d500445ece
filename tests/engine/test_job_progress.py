"""The progress of a job: its batches, its learning rates and its end."""

import json
import math
from dataclasses import replace

import pytest

from lorabank.engine.backbone.base import Base
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import PAPER, PLAIN, settings_for
from lorabank.engine.training.job_progress import Progress
from lorabank.engine.training.jobs import Job
from lorabank.tasks.examples import from_pair

EXAMPLES = [from_pair(f"Item {i}?", f"{i * 7}") for i in range(10)]
QUICK = replace(PLAIN, lr=5e-3, exposures=4, until_recall=None, batch_size=4)


def test_every_example_is_trained_on_equally_often(tiny: Base):
    progress = Progress(plan_job(tiny, EXAMPLES, QUICK))
    for _ in range(progress.job.total_steps):
        progress.record(examples=len(progress.next_batch()), tokens=0, hits=0, loss=0.0)
    assert progress.exposures == 4
    assert progress.is_spent
    assert len(progress.curve) == 4


def test_batches_are_even_under_sound_and_end_short_under_paper(tiny: Base):
    def sizes(job: Job) -> list[int]:
        progress = Progress(job)
        return [len(progress.next_batch()) for _ in range(3)]

    assert sorted(sizes(plan_job(tiny, EXAMPLES, QUICK))) == [3, 3, 4]
    assert sizes(plan_job(tiny, EXAMPLES, replace(PAPER, batch_size=4))) == [4, 4, 2]


def test_cosine_falls_to_nothing_as_the_reference_scheduler_does(tiny: Base):
    progress = Progress(plan_job(tiny, EXAMPLES, replace(PAPER, steps=100)))
    rates = []
    for _ in range(100):
        rates.append(progress.lr())
        progress.record(examples=1, tokens=0, hits=0, loss=0.0)
    assert rates[0] == PAPER.lr
    assert rates[50] == pytest.approx(PAPER.lr / 2)
    assert rates[99] == pytest.approx(PAPER.lr * 0.5 * (1 + math.cos(math.pi * 0.99)))


def test_the_adaptive_rate_falls_with_what_is_left_to_learn(tiny: Base):
    progress = Progress(plan_job(tiny, EXAMPLES, replace(QUICK, batch_size=10, warmup_steps=2)))
    rates = []
    for hits in (0, 5, 10):
        rates.append(progress.lr())
        progress.next_batch()
        progress.record(examples=10, tokens=0, hits=hits, loss=0.0)
    rates.append(progress.lr())
    assert rates == pytest.approx([QUICK.lr / 2, QUICK.lr, QUICK.lr / 2, QUICK.lr / 10])


def test_a_plateau_halves_the_rate_and_then_ends_the_job(tiny: Base):
    settings = settings_for("sound", schedule="plateau", exposures=500, lr=1e-3)
    job = plan_job(tiny, EXAMPLES[:4], settings)
    progress = Progress(job, steps=10)
    rates, epochs = [], 0
    while not progress.is_converged:
        rates.append(progress.lr())
        progress.next_batch()
        progress.record(examples=4, tokens=40, hits=0, loss=1.0 if epochs else 2.0)
        epochs += 1
    assert epochs == 2 + 5 * 10  # two that were better, then five plateaus of ten epochs
    assert sorted(set(rates), reverse=True) == [1e-3 / 2**n for n in range(5)]
    restored = Progress.from_json(job, json.loads(json.dumps(progress.as_json())))
    assert restored.is_converged
    assert restored.lr() == progress.lr()


def test_a_plateau_ends_where_nothing_is_left_to_learn(tiny: Base):
    settings = settings_for("sound", schedule="plateau", exposures=500)
    job = plan_job(tiny, EXAMPLES[:4], settings)
    progress = Progress(job)
    progress.next_batch()
    progress.record(examples=4, tokens=40, hits=4, loss=0.009)
    assert progress.is_converged


def test_the_share_done_is_that_of_the_recall_wanted_or_of_the_budget(tiny: Base):
    settings = replace(QUICK, until_recall=0.8, batch_size=10, exposures=10)
    progress = Progress(plan_job(tiny, EXAMPLES, settings))
    shares = [progress.share_done]
    for hits in (1, 4, 9):
        progress.next_batch()
        progress.record(examples=10, tokens=0, hits=hits, loss=0.5)
        shares.append(progress.share_done)
    assert shares == pytest.approx([0, 0.125, 0.5, 1])
    without_goal = Progress(plan_job(tiny, EXAMPLES, QUICK), steps=6)
    assert without_goal.share_done == 0.5
