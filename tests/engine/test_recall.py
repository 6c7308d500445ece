from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from lorabank.engine.backbone.base import Base, load_base
from lorabank.engine.encoding.dataset import EncodedDataset
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import read_answers, recall_share, score_replies
from lorabank.engine.inference.generate import generate
from lorabank.engine.learn import plan_job
from lorabank.engine.training.settings import SOUND
from lorabank.engine.training.train import train
from lorabank.tasks.examples import from_pair
from lorabank.tasks.scoring.exact_match import is_same_text
from lorabank.tasks.synthetic import phonebook

Half = tuple[Base, Fleet, EncodedDataset]


@pytest.fixture
def half(tiny: Base) -> Iterator[Half]:
    """A tiny model that has learnt some of its facts and not others."""
    examples = [from_pair(f"Code of item {i}?", f"{i * 37 % 100:02d}") for i in range(24)]
    settings = replace(SOUND, lr=5e-3, until_recall=0.4, exposures=200)
    job = plan_job(tiny, examples, settings)
    outcome = train(tiny, [job])[0]
    with Fleet(tiny, paths=job.paths, r=settings.r) as fleet:
        fleet.load(0, outcome.weights, alpha=settings.alpha, activated=settings.activated)
        yield tiny, fleet, job.dataset


def test_verdicts_are_those_of_generating_everything(half: Half):
    base, fleet, lessons = half
    slots = [0] * len(lessons)
    readings = read_answers(base, lessons.prompts, fleet=fleet, slots=slots)
    replies = generate(
        base, [p.prompt_ids for p in lessons.prompts], fleet=fleet, slots=slots, max_new_tokens=12
    )
    generated = [r == p.answer for r, p in zip(replies, lessons.prompts, strict=True)]
    assert [reading.recalled for reading in readings] == generated
    assert 0.2 < recall_share(readings) < 0.9, (
        "the adapter must be half-learned for this to say anything"
    )


def test_text_verdicts_are_those_of_scoring_every_reply(half: Half):
    base, fleet, lessons = half
    slots = [0] * len(lessons)
    replies = generate(
        base, [p.prompt_ids for p in lessons.prompts], fleet=fleet, slots=slots, max_new_tokens=12
    )
    everything = [is_same_text(p.answer, r) for r, p in zip(replies, lessons.prompts, strict=True)]
    assert (
        score_replies(base, lessons.prompts, is_same_text, fleet=fleet, slots=slots) == everything
    )
    assert 0 < sum(everything) < len(everything)


def test_bits_and_probabilities_are_those_of_the_full_logits(half: Half):
    base, fleet, lessons = half
    probe = lessons.prompts[0]
    reading = read_answers(base, [probe], fleet=fleet, slots=[0])[0]
    ids = torch.tensor([[*probe.prompt_ids, *probe.answer_ids]])
    on = torch.arange(ids.shape[1])[None, :, None] >= probe.adapter_start
    with fleet.assigned([0], adapter_mask=on), torch.inference_mode():
        logp = base.model(input_ids=ids).logits[0].log_softmax(-1)
    start = len(probe.prompt_ids)
    picked = torch.stack([logp[start + i - 1, t] for i, t in enumerate(probe.answer_ids)])
    assert reading.bits == pytest.approx(float(-picked.sum()) / 0.6931472, rel=1e-4)
    assert reading.lowest_p == pytest.approx(float(picked.min().exp()), rel=1e-4)


def test_company_in_a_batch_changes_nothing(half: Half):
    base, fleet, lessons = half
    longer = replace(lessons.prompts[0], prompt_ids=lessons.prompts[0].prompt_ids * 3)
    alone = read_answers(base, [lessons.prompts[0]], fleet=fleet, slots=[0])[0]
    padded = read_answers(base, [lessons.prompts[0], longer], fleet=fleet, slots=[0, 0])[0]
    assert padded.bits == pytest.approx(alone.bits, abs=1e-4)


@pytest.mark.real
def test_half_learned_phonebook_on_the_real_model():
    # In bfloat16 two logits are often equal, and which wins depends on the batch's shape.
    real = load_base("smollm2-135m", dtype="float32", device="cpu")
    examples = [
        from_pair(phonebook.render_question(f), f.number) for f in phonebook.build(8, seed=3)
    ]
    settings = replace(SOUND, until_recall=0.3, exposures=30, batch_size=4)
    job = plan_job(real, examples, settings)
    outcome = train(real, [job])[0]
    with Fleet(real, paths=job.paths, r=settings.r) as fleet:
        fleet.load(0, outcome.weights, alpha=settings.alpha, activated=settings.activated)
        slots = [0] * len(examples)
        readings = read_answers(real, job.dataset.prompts, fleet=fleet, slots=slots)
        prompts = [p.prompt_ids for p in job.dataset.prompts]
        replies = generate(real, prompts, fleet=fleet, slots=slots, max_new_tokens=20)
    assert [r.recalled for r in readings] == [
        reply == e.answer for reply, e in zip(replies, examples, strict=True)
    ]
    assert any(r.recalled for r in readings)
