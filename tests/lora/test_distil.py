import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lorabank.lora import distillation as distil

V = 40


def speech(seed: int, *, n: int = 6, sharpness: float = 1.0) -> Tensor:
    """(n, V) log probabilities."""
    rng = torch.Generator().manual_seed(seed)
    return (torch.randn(n, V, generator=rng) * sharpness).log_softmax(-1)


def lumped(log_p: Tensor, log_q: Tensor, k: int) -> list[float]:
    """KL by its definition, one position and one word at a time, all but the k best as one word."""
    found = []
    for p, q in zip(log_p.double().exp().tolist(), log_q.double().exp().tolist(), strict=True):
        best = sorted(range(V), key=lambda j: -p[j])[:k]
        pairs = [(p[j], q[j]) for j in best]
        if k < V:
            pairs.append((sum(p) - sum(p[j] for j in best), sum(q) - sum(q[j] for j in best)))
        found.append(sum(a * math.log(a / b) for a, b in pairs))
    return found


@pytest.mark.parametrize("k", [1, 5, V - 1, V])
def test_divergence_is_the_definition(k: int):
    teacher, student = speech(0), speech(1)
    got = distil.kl_divergence(student, distil.top_k_targets(teacher, k))
    torch.testing.assert_close(got, torch.tensor(lumped(teacher, student, k)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("k", [V, V + 1, 10**6])
def test_all_words_kept_give_the_whole_divergence(k: int):
    teacher, student = speech(0), speech(1)
    whole = F.kl_div(student, teacher, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(
        distil.kl_divergence(student, distil.top_k_targets(teacher, k)), whole
    )


def test_a_lump_hides_divergence_and_never_adds_any():
    teacher, student = speech(2), speech(3)
    grows = [
        distil.kl_divergence(student, distil.top_k_targets(teacher, k)) for k in (1, 2, 8, 32, V)
    ]
    for less, more in pairwise(grows):
        assert (less <= more + 1e-6).all()
    assert (grows[0] < grows[-1] - 0.1).any()


@pytest.mark.parametrize("k", [1, 5, V - 1, V])
@pytest.mark.parametrize("sharpness", [1.0, 30.0, 200.0])
def test_slope_is_that_of_autograd(k: int, sharpness: float):
    # At 200 the student's lump holds as little as e^-400: nothing may overflow on the way.
    said = distil.top_k_targets(speech(4), k)
    logits = speech(5, sharpness=sharpness).requires_grad_()
    value = distil.kl_divergence(logits.log_softmax(-1), said)
    (wanted,) = torch.autograd.grad(value.sum(), logits)
    got = distil.kl_gradient(logits.detach().log_softmax(-1), said)
    assert got.isfinite().all()
    assert value.isfinite().all()
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("k", [3, V])
def test_nothing_is_left_where_student_is_teacher(k: int):
    teacher = speech(6)
    said = distil.top_k_targets(teacher, k)
    assert distil.kl_divergence(teacher, said).abs().max() < 1e-6
    assert distil.kl_gradient(teacher, said).abs().max() < 1e-6


def test_one_word_kept_for_certain_is_cross_entropy():
    student, target = speech(7), torch.arange(6)
    certain = torch.full((6, V), -1e4).scatter(-1, target[:, None], 0.0)
    wanted = F.nll_loss(student, target, reduction="none")
    torch.testing.assert_close(
        distil.kl_divergence(student, distil.top_k_targets(certain, 1)), wanted
    )


def test_hidden_distance_by_hand():
    teacher = torch.tensor([[[1.0, -3.0], [2.0, 2.0]]])  # one token, two layers
    student = torch.tensor([[[2.0, -3.0], [0.0, 3.0]]])
    torch.testing.assert_close(
        distil.relative_l1(student, teacher), torch.tensor([(1 / 4 + 3 / 4) / 2])
    )


def test_parts_joined_are_the_whole():
    teacher, student = speech(8), speech(9)
    hidden = torch.randn(6, 2, 3)
    whole = distil.top_k_targets(teacher, 5, hidden=hidden)
    again = distil.concatenate_targets([whole[:2], whole[2:5], whole[5:]])
    assert again.n_bytes == whole.n_bytes == 6 * (5 * 4 + 5 * 4 + 4 + 6 * 4)
    assert again.hidden is not None
    assert torch.equal(again.hidden, hidden)
    assert torch.equal(distil.kl_divergence(student, again), distil.kl_divergence(student, whole))
