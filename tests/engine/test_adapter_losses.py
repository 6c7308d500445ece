"""Adapter losses from token losses: cross-entropy, then the optional terms of jobs."""

import torch
from torch import Tensor

from lorabank.engine.training.train import TokenLosses, adapter_losses
from lorabank.lora import memft
from lorabank.lora.objectives import Objective

LENGTHS = (7, 1, 30, 12)  # of four rows, two for each adapter
ROWS = torch.repeat_interleave(torch.tensor(LENGTHS))
ADAPTER = ROWS // 2


def token_losses(
    seed: int, *, weights: Tensor | None = None, is_taught: Tensor | None = None
) -> TokenLosses:
    rng = torch.Generator().manual_seed(seed)
    losses = torch.rand(len(ROWS), generator=rng) * 2
    leads = torch.rand(len(ROWS), generator=rng) - 0.1
    return TokenLosses(losses, leads, ROWS, weights, is_taught)


def test_cross_entropy_is_the_mean_over_an_adapters_tokens():
    tokens = token_losses(0)
    losses = adapter_losses(tokens, ADAPTER, [Objective(), Objective()])
    expected = torch.stack([tokens.losses[i == ADAPTER].mean() for i in range(2)])
    torch.testing.assert_close(losses, expected)


def test_weights_of_tokens_multiply_those_of_the_objective():
    extra = torch.rand(len(ROWS), generator=torch.Generator().manual_seed(1))
    tokens = token_losses(2, weights=extra)
    objectives = [Objective(), Objective("memft-window")]
    misses = tokens.leads < 0
    weights = extra * memft.fleet_weights(objectives, tokens.losses, misses, ROWS, ADAPTER)
    sums = torch.stack([(weights * tokens.losses)[i == ADAPTER].sum() for i in range(2)])
    expected = sums / torch.stack([weights[i == ADAPTER].sum() for i in range(2)])
    torch.testing.assert_close(adapter_losses(tokens, ADAPTER, objectives), expected)


def test_a_divergence_from_a_teacher_counts_fully_under_memft():
    is_taught = ROWS.eq(3)
    tokens = token_losses(3, is_taught=is_taught)
    objectives = [Objective(), Objective("memft-threshold")]
    misses = tokens.leads < 0
    weights = memft.fleet_weights(objectives, tokens.losses, misses, ROWS, ADAPTER)
    assert not weights[is_taught].all()
    weights[is_taught] = 1.0
    is_second = ADAPTER.bool()
    expected = (weights * tokens.losses)[is_second].sum() / weights[is_second].sum()
    torch.testing.assert_close(adapter_losses(tokens, ADAPTER, objectives)[1], expected)


def test_a_row_leads_by_as_much_as_its_weakest_token():
    leads = torch.tensor([0.5, 2.0, -1.0, 3.0])
    tokens = TokenLosses(torch.zeros(4), leads, torch.tensor([0, 0, 1, 1]))
    assert tokens.row_leads(2).tolist() == [0.5, -1.0]
