"""Distillation: the loss of a student against a teacher that has the document.

The teacher is the frozen model with the document in its context, the student the adapted model
without it. On every answer token t, at temperature 1 (deep context distillation, arXiv:2503.08727):

    L_t = KL(teacher_t || student_t) + w * mean over layers l of |h_tl - s_tl|_1 / |h_tl|_1

h and s are the outputs of layer l of teacher and student. The paper's release divides, per layer,
sums over all tokens of a batch; here each token is divided by its own norm, so that the loss of an
example does not depend on the batch. Layers are those that the adapter can change.

The teacher's k likeliest tokens are stored one by one, all others as a single outcome with their
total probability. The divergence between the two distributions reduced in this way is at most the
whole divergence, and equal to it where k is the size of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TeacherTargets:
    """A teacher's predictions at n positions."""

    ids: Tensor
    """(n, k) int32, its likeliest tokens; the first is the likeliest."""
    log_p: Tensor
    """(n, k) float32, their log probabilities."""
    log_rest: Tensor
    """(n,) float32, log probability of all other tokens together; -inf if there are none."""
    hidden: Tensor | None = None
    """(n, L, d) outputs of its layers, from the lowest requested one up; None if not requested."""

    def __getitem__(self, positions: slice) -> "TeacherTargets":
        hidden = None if self.hidden is None else self.hidden[positions]
        return TeacherTargets(
            self.ids[positions], self.log_p[positions], self.log_rest[positions], hidden
        )

    @property
    def n_bytes(self) -> int:
        """Size in memory."""
        parts = (self.ids, self.log_p, self.log_rest, self.hidden)
        return sum(part.nbytes for part in parts if part is not None)


def top_k_targets(log_p: Tensor, k: int, *, hidden: Tensor | None = None) -> TeacherTargets:
    """Return the k likeliest tokens of each distribution, and the others as a single outcome.

    Args:
        log_p: (n, V) float32 log probabilities.
        k: at least 1; V or more for all tokens.
    """
    top, ids = log_p.topk(min(k, log_p.shape[-1]), dim=-1)  # (n, k)
    return TeacherTargets(ids.int(), top, _others(log_p, ids), hidden)


def concatenate_targets(parts: Sequence[TeacherTargets]) -> TeacherTargets:
    """Concatenate targets of the same k, all with hidden states or all without."""
    hidden = [part.hidden for part in parts if part.hidden is not None]
    return TeacherTargets(
        torch.cat([part.ids for part in parts]),
        torch.cat([part.log_p for part in parts]),
        torch.cat([part.log_rest for part in parts]),
        torch.cat(hidden) if hidden else None,
    )


def kl_divergence(log_q: Tensor, teacher: TeacherTargets) -> Tensor:
    """Return (n,) KL(teacher || student) in nats over the stored tokens and the rest as one.

    Args:
        log_q: (n, V) float32 log probabilities of the student.
    """
    ids = teacher.ids.long()
    of_stored = (teacher.log_p.exp() * (teacher.log_p - log_q.gather(-1, ids))).sum(-1)  # (n,)
    if ids.shape[-1] == log_q.shape[-1]:
        return of_stored
    return of_stored + teacher.log_rest.exp() * (teacher.log_rest - _others(log_q, ids))


def kl_gradient(log_q: Tensor, teacher: TeacherTargets) -> Tensor:
    """Return the (n, V) derivative of `kl_divergence` in the student's logits.

    For a stored token it is q - p, as for any cross-entropy. The others share q_rest - p_rest in
    the student's proportions: q - q p_rest / q_rest.
    """
    ids = teacher.ids.long()
    q = log_q.exp()
    of_stored = q.gather(-1, ids) - teacher.log_p.exp()
    if ids.shape[-1] < log_q.shape[-1]:
        # what overflows here is at stored tokens, which are overwritten below
        q -= (log_q + (teacher.log_rest - _others(log_q, ids))[:, None]).exp_()
    return q.scatter_(-1, ids, of_stored)


def relative_l1(student: Tensor, teacher: Tensor) -> Tensor:
    """Return (n,) the mean over layers of |student - teacher|_1 / |teacher|_1, both (n, L, d)."""
    gap = (student.float() - teacher.float()).abs().sum(-1)  # (n, L)
    return (gap / teacher.float().abs().sum(-1)).mean(-1)


def _others(log_p: Tensor, ids: Tensor) -> Tensor:
    """Return (n,) the log probability of all tokens but `ids`.

    It is summed, because 1 minus a number near 1 loses its digits.
    """
    return log_p.scatter(-1, ids, float("-inf")).logsumexp(-1)
