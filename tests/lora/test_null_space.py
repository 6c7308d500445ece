"""The directions in which inputs are largest, and matrices that do not see them."""

import torch

from lorabank.lora.null_space import principal_directions, remove_directions_


def low_rank_inputs(n: int, width: int, rank: int) -> torch.Tensor:
    drawn = torch.Generator().manual_seed(1)
    sizes = torch.logspace(1, -1, rank)
    return (torch.randn(n, rank, generator=drawn) * sizes) @ torch.randn(
        rank, width, generator=drawn
    )


def test_directions_are_those_of_the_exact_decomposition():
    inputs = low_rank_inputs(200, 96, 40)
    found = principal_directions(inputs, 12)
    exact = torch.linalg.svd(inputs, full_matrices=False).Vh[:12].T
    assert found.shape == (96, 12)
    torch.testing.assert_close(found.T @ found, torch.eye(12), atol=1e-4, rtol=0)
    overlap = torch.linalg.svdvals(found.T @ exact)
    assert overlap.min() > 0.99
    assert torch.equal(found, principal_directions(inputs, 12))


def test_no_more_directions_than_inputs_or_features():
    assert principal_directions(torch.randn(3, 16), 8).shape == (16, 3)
    assert principal_directions(torch.randn(40, 4), 8).shape == (4, 4)


def test_a_matrix_without_them_does_not_see_such_inputs():
    inputs = low_rank_inputs(200, 96, 10)
    a = torch.randn(8, 96, generator=torch.Generator().manual_seed(2))
    other = torch.randn(96, generator=torch.Generator().manual_seed(3))
    remove_directions_(a, principal_directions(inputs, 10))
    assert (a @ inputs.T).abs().max() < 1e-3
    assert (a @ other).norm() > 1
    again = a.clone()
    remove_directions_(again, principal_directions(inputs, 10))
    torch.testing.assert_close(again, a, atol=1e-5, rtol=0)
