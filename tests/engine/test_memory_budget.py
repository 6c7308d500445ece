"""The number of adapters that train at once follows from the free memory."""

from dataclasses import replace

import pytest
import torch

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.caches import REUSE_ALL, Reuse
from lorabank.engine.backbone.memory import free_bytes
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import PLAIN
from lorabank.engine.training.jobs import Job
from lorabank.engine.training.memory_budget import MemoryNeed, choose_width, measure_memory
from lorabank.engine.training.train import train
from lorabank.errors import UsageError
from lorabank.tasks.examples import from_pair

GIB = 1 << 30
NEED = MemoryNeed(slot_bytes=GIB, done_bytes=GIB)


def make_job(base: Base, *, n: int = 4, question: str = "What?", **changes: object) -> Job:
    settings = replace(PLAIN, exposures=1, until_recall=None, **changes)  # type: ignore[arg-type]
    return plan_job(base, [from_pair(f"{question} {i}", f"{i}") for i in range(n)], settings)


@pytest.mark.parametrize(
    ("free", "n_jobs", "requested", "width"),
    [
        (100, 12, None, 12),  # all fit
        (10, 12, None, 6),  # 70 % of 10, less the finished adapters
        (100, 12, 5, 5),
        (10, 3, 9, 3),  # more requested than there are jobs
    ],
)
def test_width_is_the_requested_one_or_what_fits(
    free: int, n_jobs: int, requested: int | None, width: int
):
    assert choose_width(NEED, free_bytes=free * GIB, n_jobs=n_jobs, requested=requested) == width


@pytest.mark.parametrize(
    ("free", "requested", "message"),
    [
        (10, 8, r"--width 8 takes 9\.0 GiB, 10\.0 GiB is free.*--width 6 would fit"),
        (2, None, r"no adapter fits: one takes 2\.0 GiB"),
        (10, 0, "--width must be at least 1, got 0"),
    ],
)
def test_a_width_that_does_not_fit_is_refused(free: int, requested: int | None, message: str):
    with pytest.raises(UsageError, match=message):
        choose_width(NEED, free_bytes=free * GIB, n_jobs=12, requested=requested)


def test_more_rows_longer_rows_and_higher_ranks_need_more(tiny: Base):
    def slot_bytes(job: Job, *, reuse: Reuse = REUSE_ALL, recompute: bool = False) -> int:
        return measure_memory(tiny, [job], reuse=reuse, recompute=recompute).slot_bytes

    small = slot_bytes(make_job(tiny))
    assert slot_bytes(make_job(tiny, n=8)) > 1.5 * small
    assert slot_bytes(make_job(tiny, r=16)) > 1.1 * small
    assert slot_bytes(make_job(tiny, dropout=0.1)) > small
    long = make_job(tiny, question="Well, " * 20)
    assert slot_bytes(long, reuse=Reuse(prompts=False)) > 2 * slot_bytes(long)
    assert slot_bytes(make_job(tiny, layers=(1,))) < small
    assert slot_bytes(make_job(tiny), recompute=True) < small


def test_the_measured_need_is_about_what_a_step_takes(tiny: Base):
    """The backward pass needs about ten vectors of d and of 2 d for each block and token."""
    job = make_job(tiny, n=1, activated=False)
    tokens = len(job.dataset.examples[0].token_ids)
    with Fleet(tiny, paths=job.paths, r=8) as fleet:
        adapter_bytes = fleet.theta.nbytes
    need = measure_memory(tiny, [job], reuse=REUSE_ALL, recompute=False)
    assert need.done_bytes == adapter_bytes
    row_bytes = need.slot_bytes - 5 * adapter_bytes
    block_bytes = 4 * tokens * 64
    assert 2 * 8 * block_bytes < row_bytes < 2 * 40 * block_bytes


def test_measuring_leaves_nothing_behind(tiny: Base):
    job = make_job(tiny, layers=(1,))
    before = {name: p.clone() for name, p in tiny.model.named_parameters()}
    measure_memory(tiny, [job], reuse=REUSE_ALL, recompute=True)
    assert (tiny.prompt_cache.n_computed, tiny.layer_input_cache.n_computed) == (0, 0)
    after = dict(tiny.model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], p) for name, p in before.items())
    assert "forward" not in vars(tiny.model.model.layers[1])


def test_free_memory_is_measured_and_suffices_for_a_tiny_job(tiny: Base):
    assert free_bytes(tiny.device) > 1 << 20
    assert len(train(tiny, [make_job(tiny)])) == 1
