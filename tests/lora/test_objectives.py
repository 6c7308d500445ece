"""Token weights of the objectives equal their formulas, alone and in a batch of many jobs."""

import math
import random

import pytest
import torch
from torch import Tensor

from lorabank.errors import UsageError
from lorabank.lora import memft, objectives
from lorabank.lora.objectives import Objective

LN2 = math.log(2)


def ragged(seed: int, lengths: tuple[int, ...] = (7, 1, 90, 12)) -> tuple[Tensor, Tensor, Tensor]:
    """Return nats, whether it is wrong, and the row of each token of rows of these lengths.

    Few tokens are wrong, as late in training.
    """
    rng = torch.Generator().manual_seed(seed)
    n = sum(lengths)
    nats = torch.rand(n, generator=rng) * 2
    wrong = torch.rand(n, generator=rng) < 0.1
    return nats, wrong, torch.repeat_interleave(torch.tensor(lengths))


def loop_weights(
    objective: Objective, nats: list[float], wrong: list[bool], row: list[int]
) -> list[float]:
    """Compute the formulas of arXiv:2605.30260, a token at a time."""
    weights = []
    for i, loss in enumerate(nats):
        if objective.name == "ce":
            weights.append(1.0)
            continue
        if objective.name == "memft-threshold":
            weights.append(float(loss > objective.threshold_nats))
            continue
        own_tokens = [j for j in range(len(row)) if row[j] == row[i]]
        mistakes = [k for k, j in enumerate(own_tokens) if wrong[j]]
        t = own_tokens.index(i)
        if not mistakes or t < mistakes[0]:
            phi = 1.0
        elif t - mistakes[0] < objective.window:
            phi = math.exp(-(t - mistakes[0]) / objective.tau)
        else:
            phi = objective.floor
        weights.append(phi / (1 + math.exp(-objective.kappa * (loss - objective.threshold_nats))))
    return weights


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "objective",
    [
        Objective(),
        Objective("memft-threshold"),
        Objective("memft-threshold", threshold_nats=-math.log(0.9)),
        Objective("memft-window"),
        Objective("memft-window", kappa=1.0, tau=3.0, window=4, floor=0.2),
    ],
    ids=str,
)
def test_weights_equal_the_formula(objective: Objective, seed: int):
    nats, wrong, row = ragged(seed)
    expected = loop_weights(objective, nats.tolist(), wrong.tolist(), row.tolist())
    weights = memft.token_weights(objective, nats, wrong, row)
    torch.testing.assert_close(weights, torch.tensor(expected), rtol=1e-5, atol=1e-7)


def test_the_defaults_are_those_of_the_published_code():
    # hparams/context2vec_long/long_context_memft_lora.yaml of ParametricMemoryLaw 9340b1d
    objective = objectives.parse("memft-window")
    assert (
        objective.kappa,
        objective.tau,
        objective.window,
        objective.floor,
        objective.threshold_nats,
    ) == (10, 20, 50, 0.01, LN2)


def test_window_weights_equal_those_computed_by_hand():
    objective = Objective("memft-window", kappa=1e6, tau=2.0, window=3, floor=0.01)
    hard = torch.full((9,), 5.0)  # nats, so high that the sigmoid is 1 and phi alone shows
    wrong = torch.tensor([False, True, False, True, False, False, False, False, False])
    row = torch.tensor([4, 4, 4, 4, 4, 4, 9, 9, 9])  # any numbers, the last row without mistakes
    expected = [1, 1, math.exp(-0.5), math.exp(-1), 0.01, 0.01, 1, 1, 1]
    weights = memft.token_weights(objective, hard, wrong, row)
    torch.testing.assert_close(weights, torch.tensor(expected))


def test_threshold_itself_counts_as_learned():
    nats = torch.tensor([LN2 - 1e-4, LN2 + 1e-4])
    row, wrong = torch.zeros(2, dtype=torch.long), torch.zeros(2, dtype=torch.bool)
    weights = memft.token_weights(Objective("memft-threshold"), nats, wrong, row)
    assert weights.tolist() == [0, 1]


@pytest.mark.parametrize("name", objectives.NAMES)
def test_weights_carry_no_gradient_and_may_be_of_no_tokens(name: str):
    nats, wrong, row = ragged(0)
    objective = objectives.parse(name)
    assert not memft.token_weights(objective, nats.requires_grad_(), wrong, row).requires_grad
    assert memft.token_weights(objective, nats[:0], wrong[:0], row[:0]).shape == (0,)


def test_each_job_of_a_batch_has_its_own_objective():
    jobs = [
        Objective("memft-window"),
        Objective(),
        Objective("memft-threshold"),
        Objective("memft-window"),
    ]
    nats, wrong, row = ragged(1)
    owner = row  # one row for each job
    weights = memft.fleet_weights(jobs, nats, wrong, row, owner)
    for i, job in enumerate(jobs):
        own_tokens = owner == i
        alone = memft.token_weights(job, nats[own_tokens], wrong[own_tokens], row[own_tokens])
        torch.testing.assert_close(weights[own_tokens], alone, rtol=0, atol=0)


def test_mean_by_adapter_equals_the_formula():
    nats, wrong, row = ragged(3)
    owner = (row + 1) % 3  # jobs of several rows, not in order
    weights = memft.token_weights(Objective("memft-window"), nats, wrong, row)
    means = objectives.mean_by_adapter(nats, weights, owner, 3)
    for job in range(3):
        own_tokens = [i for i in range(len(row)) if owner[i] == job]
        over = sum(float(weights[i]) * float(nats[i]) for i in own_tokens)
        under = sum(float(weights[i]) for i in own_tokens) + 1e-8
        assert means[job].item() == pytest.approx(over / under, rel=1e-5)


def test_cross_entropy_is_the_plain_mean():
    nats, wrong, row = ragged(4)
    weights = memft.fleet_weights([Objective()] * 4, nats, wrong, row, row)
    means = objectives.mean_by_adapter(nats, weights, row, 4)
    expected = torch.stack([nats[row == i].mean() for i in range(4)])
    torch.testing.assert_close(means, expected)


def test_a_job_that_learned_all_gets_no_gradient():
    logits = torch.zeros(4, 2)
    logits[:2, 0] = 3.0  # the first job is sure of both tokens, the second of none
    logits.requires_grad_()
    nats = torch.nn.functional.cross_entropy(
        logits, torch.zeros(4, dtype=torch.long), reduction="none"
    )
    owner = torch.tensor([0, 0, 1, 1])
    wrong = torch.zeros(4, dtype=torch.bool)
    jobs = [Objective("memft-threshold")] * 2
    weights = memft.fleet_weights(jobs, nats + 1e-3, wrong, owner, owner)
    losses = objectives.mean_by_adapter(nats, weights, owner, 2)
    losses.sum().backward()
    assert losses[0] == 0
    assert logits.grad is not None
    assert not logits.grad[:2].any()
    assert logits.grad[2:].abs().min() > 0.1


def test_a_job_that_diverged_leaves_the_losses_of_others_finite():
    nats = torch.tensor([1.0, math.nan, 3.0, math.inf])
    owner = torch.tensor([0, 1, 0, 2])
    jobs = [Objective("memft-window"), Objective("memft-threshold"), Objective()]
    wrong = torch.zeros(4, dtype=torch.bool)
    weights = memft.fleet_weights(jobs, nats, wrong, torch.arange(4), owner)
    assert objectives.mean_by_adapter(nats, weights, owner, 3).isfinite().tolist() == [
        True,
        False,
        False,
    ]


def test_a_gradient_among_other_jobs_is_the_gradient_alone():
    nats, wrong, row = ragged(5)
    jobs = [Objective("memft-window"), Objective("memft-threshold")]
    owner = row // 2
    order = list(range(4))
    random.Random(0).shuffle(order)  # rows of the two jobs are mixed

    def gradient(keep: Tensor, fleet: list[Objective], number: Tensor) -> Tensor:
        leaf = nats[keep].clone().requires_grad_()
        weights = memft.fleet_weights(fleet, leaf, wrong[keep], row[keep], number)
        objectives.mean_by_adapter(leaf, weights, number, len(fleet)).sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    mixed = torch.cat([torch.nonzero(row == i)[:, 0] for i in order])
    together = gradient(mixed, jobs, owner[mixed])
    for i, job in enumerate(jobs):
        own_tokens = mixed[owner[mixed] == i]
        alone = gradient(own_tokens, [job], torch.zeros(len(own_tokens), dtype=torch.long))
        torch.testing.assert_close(together[owner[mixed] == i], alone)


def test_unknown_name_raises_with_the_nearest():
    with pytest.raises(UsageError, match=r"--objective must be ce, .*did you mean memft-window\?"):
        objectives.parse("memft-windw")
    with pytest.raises(UsageError, match=r"got nothing-like-it$"):
        objectives.parse("nothing-like-it")


@pytest.mark.parametrize(
    ("field", "value", "limit"),
    [
        ("kappa", 0.0, "kappa must be above 0"),
        ("kappa", math.nan, "kappa must be above 0"),
        ("tau", -1.0, "tau must be above 0"),
        ("tau", math.inf, "tau must be above 0"),
        ("window", 0, "window must be at least 1"),
        ("floor", 1.5, r"floor must be 0\.\.1"),
        ("threshold_nats", -0.1, "threshold_nats must be at least 0"),
    ],
)
def test_numbers_out_of_range_raise(field: str, value: float, limit: str):
    with pytest.raises(UsageError, match=f"--objective memft-window: {limit}, got"):
        Objective("memft-window", **{field: value})
