"""Readings of gold answers agree with replies that are generated in full."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base, load_base
from lorabank.engine.encoding.dataset import EvaluationPrompt
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import read_answers, recall_share, score_replies
from lorabank.engine.inference.generate import generate
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import PLAIN
from lorabank.engine.training.train import train
from lorabank.tasks.examples import from_pair
from lorabank.tasks.scoring.exact_match import is_same_text
from lorabank.tasks.synthetic import phonebook

HalfLearnt = tuple[Base, Fleet, tuple[EvaluationPrompt, ...]]


@pytest.fixture
def half_learnt(tiny: Base) -> Iterator[HalfLearnt]:
    """Yield a tiny model, a fleet whose adapter has learnt half of its facts, and their prompts."""
    examples = [from_pair(f"Code of item {i}?", f"{i * 37 % 100:02d}") for i in range(24)]
    settings = replace(PLAIN, lr=5e-3, until_recall=0.4, exposures=200)
    outcome = train(tiny, [plan_job(tiny, examples, settings)])[0]
    with loaded_fleet(tiny, [outcome.adapter]) as fleet:
        yield tiny, fleet, outcome.job.dataset.prompts


def generate_replies(
    base: Base, fleet: Fleet, prompts: tuple[EvaluationPrompt, ...], *, max_new_tokens: int = 12
) -> list[str]:
    return generate(
        base,
        [prompt.prompt_ids for prompt in prompts],
        fleet=fleet,
        slots=[0] * len(prompts),
        max_new_tokens=max_new_tokens,
    )


def test_verdicts_are_those_of_generating_everything(half_learnt: HalfLearnt):
    base, fleet, prompts = half_learnt
    readings = read_answers(base, prompts, fleet=fleet, slots=[0] * len(prompts))
    replies = generate_replies(base, fleet, prompts)
    is_right = [reply == prompt.answer for reply, prompt in zip(replies, prompts, strict=True)]
    assert [reading.recalled for reading in readings] == is_right
    assert 0.2 < recall_share(readings) < 0.9, (
        "the adapter must be half-learnt for this to show anything"
    )


def test_text_verdicts_are_those_of_scoring_every_reply(half_learnt: HalfLearnt):
    base, fleet, prompts = half_learnt
    replies = generate_replies(base, fleet, prompts)
    verdicts = [
        is_same_text(prompt.answer, reply) for reply, prompt in zip(replies, prompts, strict=True)
    ]
    slots = [0] * len(prompts)
    assert score_replies(base, prompts, is_same_text, fleet=fleet, slots=slots) == verdicts
    assert 0 < sum(verdicts) < len(verdicts)


def test_bits_and_probabilities_are_those_of_the_full_logits(half_learnt: HalfLearnt):
    base, fleet, prompts = half_learnt
    prompt = prompts[0]
    reading = read_answers(base, [prompt], fleet=fleet, slots=[0])[0]
    ids = torch.tensor([[*prompt.prompt_ids, *prompt.answer_ids]])
    adapter_mask = torch.arange(ids.shape[1])[None, :, None] >= prompt.adapter_start
    with fleet.assigned([0], adapter_mask=adapter_mask), torch.inference_mode():
        log_p = base.model(input_ids=ids).logits[0].log_softmax(-1)
    start = len(prompt.prompt_ids)
    answer_log_p = torch.stack([log_p[start + i - 1, t] for i, t in enumerate(prompt.answer_ids)])
    assert reading.bits == pytest.approx(float(-answer_log_p.sum()) / 0.6931472, rel=1e-4)
    assert reading.lowest_p == pytest.approx(float(answer_log_p.min().exp()), rel=1e-4)


def test_other_rows_of_a_batch_change_nothing(half_learnt: HalfLearnt):
    base, fleet, prompts = half_learnt
    longer = replace(prompts[0], prompt_ids=prompts[0].prompt_ids * 3)
    alone = read_answers(base, [prompts[0]], fleet=fleet, slots=[0])[0]
    padded = read_answers(base, [prompts[0], longer], fleet=fleet, slots=[0, 0])[0]
    assert padded.bits == pytest.approx(alone.bits, abs=1e-4)


@pytest.mark.real
def test_half_learnt_phonebook_on_the_real_model():
    # In bfloat16 two logits are often equal, and which wins depends on the batch's shape.
    real = load_base("smollm2-135m", dtype="float32", device="cpu")
    examples = phonebook.to_examples(phonebook.build(4, seed=3))
    settings = replace(PLAIN, until_recall=0.3, exposures=30, batch_size=4)
    outcome = train(real, [plan_job(real, examples, settings)])[0]
    prompts = outcome.job.dataset.prompts
    with loaded_fleet(real, [outcome.adapter]) as fleet:
        readings = read_answers(real, prompts, fleet=fleet, slots=[0] * len(prompts))
        replies = generate_replies(real, fleet, prompts, max_new_tokens=20)
    assert [reading.recalled for reading in readings] == [
        reply == example.answer for reply, example in zip(replies, examples, strict=True)
    ]
    assert any(reading.recalled for reading in readings)
