"""The term that keeps the odds of words that are not the answer."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.head import losses_of_hidden
from lorabank.engine.learn import learn, plan_job
from lorabank.engine.settings import PLAIN
from lorabank.engine.training.other_words import answer_loss, losses_of_logits
from lorabank.engine.training.teacher_targets import LEFT_OUT
from lorabank.engine.training.train import train
from lorabank.errors import UsageError
from lorabank.lora.distillation import top_k_targets
from lorabank.tasks.synthetic import phonebook

BOOK = phonebook.to_examples(phonebook.build(4, seed=3))
QUICK = replace(PLAIN, lr=1e-2, exposures=40, until_recall=None, batch_size=4, warmup_steps=0)
KEEPING = replace(QUICK, protect_others=1.0)


def plain_loss(
    logits: torch.Tensor, bare: torch.Tensor, target: int, weight: float
) -> torch.Tensor:
    """The loss of one token as its formula says it, the other words picked out one by one."""
    others = [v for v in range(len(logits)) if v != target]
    log_p, log_q = bare[others].log_softmax(-1), logits[others].log_softmax(-1)
    divergence = (log_p.exp() * (log_p - log_q)).sum()
    return -logits.log_softmax(-1)[target] + weight * divergence


@pytest.mark.parametrize("is_whole", [True, False])
def test_loss_and_gradient_are_those_of_the_formula(tiny: Base, is_whole: bool):
    rng = torch.Generator().manual_seed(0)
    n, d = 5, tiny.model.get_output_embeddings().weight.shape[1]
    hidden = torch.randn(n, d, generator=rng, requires_grad=True)
    head = tiny.head_weights(hidden)
    weight, _, bias = head
    targets = torch.randint(len(weight), (n,), generator=rng)
    bare = torch.randn(n, len(weight), generator=rng)
    left_out = bare.scatter(-1, targets[:, None], LEFT_OUT).log_softmax(-1)
    stored = top_k_targets(left_out, len(weight))
    logits = F.linear(hidden, weight, bias)
    expected = torch.stack([plain_loss(logits[i], bare[i], int(targets[i]), 0.7) for i in range(n)])
    if is_whole:
        losses = losses_of_logits(logits, targets, stored, 0.7)
    else:
        losses, _ = losses_of_hidden(hidden, head, targets, answer_loss(targets, stored, 0.7))
    torch.testing.assert_close(losses, expected)
    (gradient,) = torch.autograd.grad(losses.sum(), hidden, retain_graph=True)
    (of_formula,) = torch.autograd.grad(expected.sum(), hidden)
    torch.testing.assert_close(gradient, of_formula, atol=1e-5, rtol=1e-4)


def test_the_base_drifts_less_for_the_same_exposures(tiny: Base, tmp_path):
    free = learn(tiny, BOOK, out=tmp_path / "free", settings=QUICK)
    keeping = learn(tiny, BOOK, out=tmp_path / "keeping", settings=KEEPING)
    assert keeping.kl_to_base_nats < 0.8 * free.kl_to_base_nats
    assert keeping.recall == free.recall == 1


def test_a_job_gets_in_company_what_it_gets_alone(tiny: Base):
    jobs = [
        plan_job(tiny, BOOK, KEEPING, name="keeping"),
        plan_job(tiny, BOOK, QUICK, name="free"),
        plan_job(tiny, BOOK[:3], replace(KEEPING, protect_share=0.5, activated=False), name="both"),
    ]
    for job, outcome in zip(jobs, train(tiny, jobs), strict=True):
        (alone,) = train(tiny, [job])
        for path in job.paths:
            for got, expected in zip(outcome.weights[path], alone.weights[path], strict=True):
                torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-3)


def test_what_it_does_not_go_with_is_refused():
    with pytest.raises(UsageError, match="protect_others goes with objective ce, got memft-window"):
        replace(KEEPING, objective="memft-window")
    with pytest.raises(UsageError, match="need --recipe sound"):
        replace(KEEPING, recipe="paper")
    with pytest.raises(UsageError, match="protect_others must be 0 to 100, got -1"):
        replace(QUICK, protect_others=-1)
