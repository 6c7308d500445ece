"""Distillation: learn to speak as a teacher does who has the document before it.

The teacher is the frozen model with the document in its context, the student the adapted one
without it. On every answer token t, at temperature 1 (deep context distillation, arXiv:2503.08727):

    L_t = KL(teacher_t || student_t) + w * mean over layers l of |h_tl - s_tl|_1 / |h_tl|_1

h and s are what block l of teacher and student put out. The paper's release divides, per layer,
sums over all tokens of a batch; here each token is divided by its own norm, so that the loss of an
example does not depend on those it is drawn with. Layers are those an adapter can move.

Of the teacher the k likeliest words are kept and the rest as one lump of probability: what is
minimised is then the divergence between the two distributions with all other words taken for one,
never more than the whole divergence, and that divergence itself where k is the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TeacherTargets:
    """What a teacher says at n positions."""

    ids: Tensor
    """(n, k) int32, its likeliest words; the first is the likeliest."""
    log_p: Tensor
    """(n, k) float32, their log probabilities."""
    log_rest: Tensor
    """(n,) float32, that of all other words together; -inf where there are none."""
    hidden: Tensor | None = None
    """(n, L, d) what its blocks put out, from the lowest asked for up; None if none was."""

    def __getitem__(self, some: slice) -> "TeacherTargets":
        hidden = None if self.hidden is None else self.hidden[some]
        return TeacherTargets(self.ids[some], self.log_p[some], self.log_rest[some], hidden)

    @property
    def n_bytes(self) -> int:
        parts = (self.ids, self.log_p, self.log_rest, self.hidden)
        return sum(part.nbytes for part in parts if part is not None)


def top_k_targets(log_p: Tensor, k: int, *, hidden: Tensor | None = None) -> TeacherTargets:
    """The k likeliest words of each distribution and the lump of the others.

    Args:
        log_p: (n, V) float32 log probabilities.
        k: at least 1; V or more keeps all.
    """
    top, ids = log_p.topk(min(k, log_p.shape[-1]), dim=-1)  # (n, k)
    return TeacherTargets(ids.int(), top, _others(log_p, ids), hidden)


def concatenate_targets(parts: Sequence[TeacherTargets]) -> TeacherTargets:
    """Positions of several one after the other; all of one k and with hidden states, or none."""
    hidden = [part.hidden for part in parts if part.hidden is not None]
    return TeacherTargets(
        torch.cat([part.ids for part in parts]),
        torch.cat([part.log_p for part in parts]),
        torch.cat([part.log_rest for part in parts]),
        torch.cat(hidden) if hidden else None,
    )


def kl_divergence(log_q: Tensor, said: TeacherTargets) -> Tensor:
    """(n,) KL(teacher || student) in nats, all words that were not kept taken for one.

    Args:
        log_q: (n, V) float32 log probabilities of the student.
    """
    ids = said.ids.long()
    of_kept = (said.log_p.exp() * (said.log_p - log_q.gather(-1, ids))).sum(-1)  # (n,)
    if ids.shape[-1] == log_q.shape[-1]:
        return of_kept
    return of_kept + said.log_rest.exp() * (said.log_rest - _others(log_q, ids))


def kl_gradient(log_q: Tensor, said: TeacherTargets) -> Tensor:
    """(n, V) derivative of `divergence` in the student's logits.

    A word kept: q - p, as for any cross-entropy. One in the lump gets its part of the lump's
    p_rest - q_rest, in the proportions the student has it: q - q p_rest / q_rest.
    """
    ids = said.ids.long()
    q = log_q.exp()
    of_kept = q.gather(-1, ids) - said.log_p.exp()
    if ids.shape[-1] < log_q.shape[-1]:
        # what overflows here is at kept words, which are put in last
        q -= (log_q + (said.log_rest - _others(log_q, ids))[:, None]).exp_()
    return q.scatter_(-1, ids, of_kept)


def relative_l1(student: Tensor, teacher: Tensor) -> Tensor:
    """(n,) mean over layers of |student - teacher|_1 / |teacher|_1, both (n, L, d)."""
    gap = (student.float() - teacher.float()).abs().sum(-1)  # (n, L)
    return (gap / teacher.float().abs().sum(-1)).mean(-1)


def _others(log_p: Tensor, ids: Tensor) -> Tensor:
    """(n,) log probability of all words but `ids`; summed, for 1 less a near 1 loses its digits."""
    return log_p.scatter(-1, ids, float("-inf")).logsumexp(-1)
