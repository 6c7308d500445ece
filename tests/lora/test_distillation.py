"""Divergences from a teacher equal their definitions, and their gradients those of autograd."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lorabank.lora import distillation as distil

V = 40


def log_probabilities(seed: int, *, n: int = 6, sharpness: float = 1.0) -> Tensor:
    """Return (n, V) log probabilities."""
    rng = torch.Generator().manual_seed(seed)
    return (torch.randn(n, V, generator=rng) * sharpness).log_softmax(-1)


def kl_by_definition(log_p: Tensor, log_q: Tensor, k: int) -> list[float]:
    """Return KL by its definition, a position and a token at a time.

    All but the k likeliest tokens count as a single one.
    """
    divergences = []
    for p, q in zip(log_p.double().exp().tolist(), log_q.double().exp().tolist(), strict=True):
        best = sorted(range(V), key=lambda j: -p[j])[:k]
        pairs = [(p[j], q[j]) for j in best]
        if k < V:
            pairs.append((sum(p) - sum(p[j] for j in best), sum(q) - sum(q[j] for j in best)))
        divergences.append(sum(a * math.log(a / b) for a, b in pairs))
    return divergences


@pytest.mark.parametrize("k", [1, 5, V - 1, V])
def test_divergence_is_the_definition(k: int):
    teacher, student = log_probabilities(0), log_probabilities(1)
    divergence = distil.kl_divergence(student, distil.top_k_targets(teacher, k))
    torch.testing.assert_close(
        divergence, torch.tensor(kl_by_definition(teacher, student, k)), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("k", [V, V + 1, 10**6])
def test_all_tokens_kept_give_the_whole_divergence(k: int):
    teacher, student = log_probabilities(0), log_probabilities(1)
    whole = F.kl_div(student, teacher, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(
        distil.kl_divergence(student, distil.top_k_targets(teacher, k)), whole
    )


def test_counting_unlikely_tokens_as_one_never_adds_divergence():
    teacher, student = log_probabilities(2), log_probabilities(3)
    divergences = [
        distil.kl_divergence(student, distil.top_k_targets(teacher, k)) for k in (1, 2, 8, 32, V)
    ]
    for less, more in pairwise(divergences):
        assert (less <= more + 1e-6).all()
    assert (divergences[0] < divergences[-1] - 0.1).any()


@pytest.mark.parametrize("k", [1, 5, V - 1, V])
@pytest.mark.parametrize("sharpness", [1.0, 30.0, 200.0])
def test_the_gradient_is_that_of_autograd(k: int, sharpness: float):
    # At 200 all but the k likeliest tokens have as little as e^-400: nothing may overflow.
    targets = distil.top_k_targets(log_probabilities(4), k)
    logits = log_probabilities(5, sharpness=sharpness).requires_grad_()
    value = distil.kl_divergence(logits.log_softmax(-1), targets)
    (expected,) = torch.autograd.grad(value.sum(), logits)
    gradient = distil.kl_gradient(logits.detach().log_softmax(-1), targets)
    assert gradient.isfinite().all()
    assert value.isfinite().all()
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("k", [3, V])
def test_a_student_equal_to_its_teacher_has_no_divergence(k: int):
    teacher = log_probabilities(6)
    targets = distil.top_k_targets(teacher, k)
    assert distil.kl_divergence(teacher, targets).abs().max() < 1e-6
    assert distil.kl_gradient(teacher, targets).abs().max() < 1e-6


def test_a_certain_teacher_gives_cross_entropy():
    student, target = log_probabilities(7), torch.arange(6)
    certain = torch.full((6, V), -1e4).scatter(-1, target[:, None], 0.0)
    expected = F.nll_loss(student, target, reduction="none")
    torch.testing.assert_close(
        distil.kl_divergence(student, distil.top_k_targets(certain, 1)), expected
    )


def test_the_hidden_distance_equals_one_computed_by_hand():
    teacher = torch.tensor([[[1.0, -3.0], [2.0, 2.0]]])  # one token, two layers
    student = torch.tensor([[[2.0, -3.0], [0.0, 3.0]]])
    torch.testing.assert_close(
        distil.relative_l1(student, teacher), torch.tensor([(1 / 4 + 3 / 4) / 2])
    )


def test_concatenated_targets_are_the_whole():
    teacher, student = log_probabilities(8), log_probabilities(9)
    hidden = torch.randn(6, 2, 3)
    whole = distil.top_k_targets(teacher, 5, hidden=hidden)
    concatenated = distil.concatenate_targets([whole[:2], whole[2:5], whole[5:]])
    assert concatenated.n_bytes == whole.n_bytes == 6 * (5 * 4 + 5 * 4 + 4 + 6 * 4)
    assert concatenated.hidden is not None
    assert torch.equal(concatenated.hidden, hidden)
    assert torch.equal(
        distil.kl_divergence(student, concatenated), distil.kl_divergence(student, whole)
    )
