"""Distillation in a fleet: gradients, cached teacher targets, and regularisation of the base."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base, load_info
from lorabank.engine.backbone.caches import REUSE_ALL, Reuse, new_teacher_cache
from lorabank.engine.backbone.head import losses_of_hidden
from lorabank.engine.encoding.dataset import EncodedExample
from lorabank.engine.fleet.fleet import Fleet, Weights
from lorabank.engine.learn import learn, plan_job
from lorabank.engine.models.registry import find_model
from lorabank.engine.settings import PLAIN
from lorabank.engine.training.checkpoint import CheckpointSettings
from lorabank.engine.training.distillation_loss import divergence_from
from lorabank.engine.training.job_progress import Progress
from lorabank.engine.training.jobs import Job, Outcome
from lorabank.engine.training.progress import FleetProgress
from lorabank.engine.training.recompute import recomputing
from lorabank.engine.training.teacher_targets import prefill_targets
from lorabank.engine.training.train import FleetSettings, fleet_loss, train
from lorabank.lora import distillation as distil
from lorabank.lora.shapes import layer_of
from lorabank.tasks.examples import from_pair

ALL = 10**6  # a teacher_k above the size of any vocabulary: the whole distribution
QUICK = replace(PLAIN, lr=5e-3, exposures=6, until_recall=None, batch_size=4, warmup_steps=0)
DISTIL = replace(QUICK, objective="distil", teacher_k=ALL, teacher_hidden=0.7)
REUSES = [REUSE_ALL, Reuse(prompts=False), Reuse(teachers=False), Reuse(False, False, False)]
DOCUMENTS = [f"Report {d}: " + " ".join(f"item {i} is {i * d}," for i in range(9)) for d in (3, 5)]
ORDINARY = [from_pair(f"Why is it {i}?", f"For {i} reasons.") for i in range(3)]


def make_job(base: Base, settings=QUICK, *, n: int = 4, start: int = 0, name: str = "job") -> Job:
    """Return a job of questions about the two documents in turn.

    It has the contexts and regularisation examples that its settings ask for.
    """
    return plan_job(
        base,
        [from_pair(f"What is{' it' * (i % 3)} {i}?", f"{i * 7}") for i in range(start, start + n)],
        settings,
        name=name,
        contexts=[DOCUMENTS[i % 2] for i in range(n)] if settings.objective == "distil" else (),
        regularisation=ORDINARY if settings.protect_share else (),
    )


def mixed_jobs(base: Base) -> list[Job]:
    """Return jobs that distil or not, activated or always on, protected or not.

    They make three different requests of a teacher.
    """
    kinds = [
        replace(DISTIL, r=2),
        replace(DISTIL, r=3, activated=False, layers=(1,), protect_share=0.5),
        replace(QUICK, r=4),
        replace(QUICK, objective="memft-threshold", teacher_k=ALL, protect_share=0.3),
        replace(DISTIL, teacher_hidden=0.0, activated=False, target_modules=("q_proj",)),
    ]
    return [make_job(base, s, start=5 * i, name=f"job {i}") for i, s in enumerate(kinds)]


def initialise(fleet: Fleet, jobs: Sequence[Job]) -> list[Weights]:
    """Give every slot its job's adapter with a non-zero B; return copies of the weights."""
    for slot, job in enumerate(jobs):
        fleet.initialise(slot, job.settings, job.paths)
        rng = torch.Generator().manual_seed(slot)
        for path in job.paths:
            b = fleet.weights_at(slot, path, job.settings.r)[1]
            b.copy_(torch.randn(b.shape, generator=rng) * 0.1)
    return [fleet.extract(slot, r=job.settings.r, paths=job.paths) for slot, job in enumerate(jobs)]


def read_row(base: Base, ids: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """Return (T, V) log probabilities and each block's output, (T, d), of one whole row."""
    block_outputs: list[Tensor] = []
    hooks = [
        block.register_forward_hook(lambda _m, _a, out: block_outputs.append(out[0]))
        for block in base.model.model.layers
    ]
    log_p = base.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    for hook in hooks:
        hook.remove()
    return log_p, block_outputs


def plain_loss(base: Base, job: Job, rows: Sequence[EncodedExample], weights: Weights) -> Tensor:
    """Return the loss by its definition, row by row, with autograd and without the engine."""
    s, adapter_start = job.settings, 0

    def add_adapter(path: str):  # type: ignore[no-untyped-def]
        a, b = weights[path]

        def hook(_m, args, out):  # type: ignore[no-untyped-def]
            is_active = torch.arange(out.shape[1]) >= adapter_start
            return out + args[0] @ a.T @ b.T * (s.alpha / s.r) * is_active[:, None]

        return hook

    lowest = min(layer_of(path) or 0 for path in job.paths)
    losses, token_weights = [], []
    for row in rows:
        answer_start = row.loss_mask.index(True)
        teacher = None
        if row.teacher_prompt_ids:
            with torch.no_grad():
                teacher = read_row(base, (*row.teacher_prompt_ids, *row.token_ids[answer_start:]))
        adapter_start = row.adapter_start
        hooks = [base.model.get_submodule(p).register_forward_hook(add_adapter(p)) for p in weights]
        log_q, student_hidden = read_row(base, row.token_ids)
        for hook in hooks:
            hook.remove()
        for t in range(answer_start, len(row.token_ids)):
            if teacher is None:
                loss = -log_q[t - 1, row.token_ids[t]]
                is_memft = s.objective == "memft-threshold"
                token_weights.append(float(loss > torch.tensor(2.0).log()) if is_memft else 1.0)
            else:
                teacher_position = t - 1 - answer_start + len(row.teacher_prompt_ids)
                loss = F.kl_div(
                    log_q[t - 1], teacher[0][teacher_position], log_target=True, reduction="sum"
                )
                distances = [
                    (x[t - 1] - y[teacher_position]).abs().sum() / y[teacher_position].abs().sum()
                    for x, y in zip(student_hidden[lowest:], teacher[1][lowest:], strict=True)
                ]
                # Regularisation, whose prompts are the teacher's, has no loss on hidden states.
                if row.teacher_prompt_ids != row.token_ids[:answer_start]:
                    loss = loss + s.teacher_hidden * torch.stack(distances).mean()
                token_weights.append(1.0)
            losses.append(loss)
    weight = torch.tensor(token_weights)
    return (torch.stack(losses) * weight).sum() / weight.sum()


def assert_plain_gradients(base: Base, jobs: Sequence[Job], reuse: Reuse, recompute: bool) -> None:
    paths = list(dict.fromkeys(path for job in jobs for path in job.paths))
    rows_by_job = [list(job.dataset.training_rows) for job in jobs]
    with (
        Fleet(base, paths=paths, r=8, width=len(jobs), reuse=reuse) as fleet,
        recomputing(fleet, is_on=recompute),
    ):
        weights = initialise(fleet, jobs)
        result = fleet_loss(
            fleet,
            list(range(len(jobs))),
            rows_by_job,
            objectives=[job.objective for job in jobs],
            teacher_requests=[job.teacher_request for job in jobs],
        )
        result.losses.sum().backward()
        fleet.theta.copy_(fleet.grad)
        gradients = [
            fleet.extract(i, r=job.settings.r, paths=job.paths) for i, job in enumerate(jobs)
        ]
    for job, rows, job_gradients, loss, job_weights in zip(
        jobs, rows_by_job, gradients, result.losses, weights, strict=True
    ):
        for pair in job_weights.values():
            for leaf in pair:
                leaf.requires_grad_()
        expected = plain_loss(base, job, rows, job_weights)
        expected.backward()
        torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5, msg=job.name)
        for path, pair in job_weights.items():
            for gradient, leaf in zip(job_gradients[path], pair, strict=True):
                assert leaf.grad is not None
                torch.testing.assert_close(gradient, leaf.grad, atol=1e-5, rtol=1e-5)
        assert max(leaf.grad.abs().max() for pair in job_weights.values() for leaf in pair) > 1e-3  # type: ignore[union-attr]


@pytest.mark.parametrize("reuse", REUSES, ids=str)
def test_loss_and_gradients_are_those_of_plain_autograd(tiny: Base, reuse: Reuse):
    assert_plain_gradients(tiny, mixed_jobs(tiny), reuse, recompute=False)


def test_gradients_are_those_of_plain_autograd_under_gradient_checkpointing(tiny: Base):
    assert_plain_gradients(tiny, mixed_jobs(tiny), REUSE_ALL, recompute=True)


def test_gradients_are_those_of_plain_autograd_if_only_upper_layers_are_adapted(tiny: Base):
    jobs = [
        make_job(tiny, replace(DISTIL, layers=(1,))),
        make_job(tiny, replace(QUICK, layers=(1,))),
    ]
    jobs = [replace(job, name=f"job {i}") for i, job in enumerate(jobs)]
    assert_plain_gradients(tiny, jobs, REUSE_ALL, recompute=False)
    assert tiny.layer_input_cache.n_computed > 0  # the layer below was not run again


def test_gradients_are_those_of_plain_autograd_if_logits_are_scaled(tiny: Base):
    tiny.model.config.logit_scale = 1.0  # a model that has such a field is read by its logits
    assert not tiny.has_plain_head
    assert_plain_gradients(tiny, mixed_jobs(tiny), REUSE_ALL, recompute=False)


@pytest.mark.parametrize("k", [1, 7, 50])
def test_a_head_computed_in_pieces_has_the_gradient_of_the_whole(k: int):
    rng = torch.Generator().manual_seed(k)
    n, d, v = 300, 8, 50  # three pieces, the last one short
    hidden = torch.randn(n, d, generator=rng).requires_grad_()
    weight, bias = torch.randn(v, d, generator=rng), torch.randn(v, generator=rng)
    targets = distil.top_k_targets(torch.randn(n, v, generator=rng).log_softmax(-1), k)
    row_weights, token_ids = torch.rand(n, generator=rng), torch.randint(v, (n,), generator=rng)
    logits = F.linear(hidden, weight, bias)
    expected_nats = distil.kl_divergence(logits.log_softmax(-1), targets)
    (expected_gradient,) = torch.autograd.grad((expected_nats * row_weights).sum(), hidden)
    loss = divergence_from(targets)
    nats, lead = losses_of_hidden(hidden, (weight, None, bias), token_ids, loss)
    (gradient,) = torch.autograd.grad((nats * row_weights).sum(), hidden)
    torch.testing.assert_close(nats, expected_nats)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-5, rtol=1e-5)
    assert torch.equal(lead > 0, logits.argmax(-1) == token_ids)


def test_only_the_teacher_has_the_document_and_both_have_the_same_answer(tiny: Base):
    row = make_job(tiny, DISTIL, n=1).dataset.examples[0]
    teacher_text, student_text = (
        str(tiny.chat.tokenizer.decode(ids)) for ids in (row.teacher_prompt_ids, row.token_ids)
    )
    assert f"Passage: {DOCUMENTS[0]}\n\nQuestion: What is 0?<|im_end|>" in teacher_text
    assert teacher_text.endswith("<|im_start|>assistant\n")
    assert DOCUMENTS[0] not in student_text
    assert tuple(row.token_ids[row.answer_start :]) == tuple(tiny.chat.answer_ids("0"))
    assert not row.is_regularisation
    regularisation = make_job(tiny, replace(QUICK, protect_share=0.1)).dataset.regularisation[0]
    assert regularisation.is_regularisation
    assert (
        regularisation.teacher_prompt_ids == regularisation.token_ids[: regularisation.answer_start]
    )


def assert_same_weights(outcome: Outcome, expected_outcome: Outcome, *, atol: float) -> None:
    for path, pair in outcome.weights.items():
        for tensor, expected in zip(pair, expected_outcome.weights[path], strict=True):
            torch.testing.assert_close(tensor, expected, atol=atol, rtol=0)


def test_teacher_targets_are_computed_once_for_all_epochs_and_adapters(tiny: Base):
    jobs = [replace(make_job(tiny, replace(DISTIL, r=r), n=6), name=f"r {r}") for r in (2, 5)]
    train(tiny, jobs, fleet_settings=FleetSettings(width=1))
    assert tiny.teacher_cache.n_computed == 6
    with_other_request = replace(DISTIL, teacher_k=9)
    train(tiny, [make_job(tiny, with_other_request, n=6)])
    assert tiny.teacher_cache.n_computed == 12


def test_a_document_is_read_once_for_all_its_questions(tiny: Base):
    job = make_job(tiny, DISTIL, n=6)
    assert tiny.abilities.continues_prompts  # tried once, and not to be counted below
    n_read = 0

    def count(_m, args, _out) -> None:  # type: ignore[no-untyped-def]
        nonlocal n_read
        n_read += args[0].numel()

    with Fleet(tiny, paths=job.paths, r=8) as fleet:
        hook = tiny.model.get_input_embeddings().register_forward_hook(count)
        prefill_targets(fleet, job.dataset.training_rows, job.teacher_request)
        hook.remove()
    rows = [
        len(row.teacher_prompt_ids) + len(row.token_ids) - row.answer_start
        for row in job.dataset.training_rows
    ]
    documents = [len(tiny.chat.tokenizer(text)["input_ids"]) for text in DOCUMENTS]
    assert sum(documents) < n_read < sum(rows) / 2


@pytest.mark.parametrize("settings", [DISTIL, replace(DISTIL, activated=False, protect_share=0.4)])
def test_caching_teacher_targets_does_not_change_what_is_learnt(tiny: Base, settings):
    job = make_job(tiny, settings, n=7)
    cached = train(tiny, [job])[0]
    uncached = train(tiny, [job], fleet_settings=FleetSettings(reuse=Reuse(teachers=False)))[0]
    tiny.teacher_cache = new_teacher_cache(max_bytes=tiny.teacher_cache.n_bytes // 3)
    bounded = train(tiny, [job])[0]
    assert tiny.teacher_cache.n_computed > len(job.dataset.training_rows)
    assert tiny.teacher_cache.n_bytes <= tiny.teacher_cache.max_bytes
    assert_same_weights(cached, uncached, atol=1e-4)
    assert_same_weights(cached, bounded, atol=1e-4)


def test_a_fleet_of_all_objectives_learns_what_each_job_learns_alone(tiny: Base):
    jobs = mixed_jobs(tiny)
    for job, together in zip(jobs, train(tiny, jobs), strict=True):
        alone = train(tiny, [job])[0]
        assert (alone.steps, alone.exposures) == (together.steps, together.exposures)
        assert_same_weights(together, alone, atol=1e-4)


def test_the_student_comes_close_to_the_teacher(tiny: Base):
    settings = replace(DISTIL, exposures=60, r=16, alpha=32.0, schedule="constant", teacher_k=16)
    outcome = train(tiny, [make_job(tiny, settings, n=2)])[0]
    assert outcome.curve[-1].loss < 0.3 * outcome.curve[0].loss


def test_regularisation_is_a_share_of_the_rows_and_counts_as_no_exposure(tiny: Base):
    progress = Progress(make_job(tiny, replace(QUICK, protect_share=0.2), n=12))
    drawn: list[int] = []
    for _ in range(6):
        batch = progress.next_batch()
        drawn += progress.next_regularisation(len(batch))
        progress.record(examples=len(batch), tokens=0, hits=len(batch), loss=1.0)
    assert drawn == [0, 1, 2, 0, 1, 2]  # a fifth of all 30 rows, each in turn
    assert progress.exposures == 2
    assert progress.curve[-1].seen_recall == 1


def test_regularisation_keeps_ordinary_replies_as_they_were(tiny: Base):
    def train_and_measure(share: float) -> tuple[float, float]:
        """Return the divergence from the base on regularisation, and recall, after training."""
        settings = replace(
            QUICK, exposures=60, lr=1e-2, protect_share=share, teacher_k=ALL, teacher_hidden=0.0
        )
        outcome = train(tiny, [make_job(tiny, settings, n=6)])[0]
        protected_job = make_job(tiny, replace(settings, protect_share=0.5), n=6)
        with loaded_fleet(tiny, [outcome.adapter]) as fleet:
            loss = fleet_loss(
                fleet,
                [0],
                [protected_job.dataset.regularisation],
                teacher_requests=[protected_job.teacher_request],
            )
        # Regularisation counts as no example, however likely its tokens are.
        assert loss.hits.tolist() == [0]
        return loss.losses.item(), outcome.recall

    (drift, recall), (protected_drift, protected_recall) = (
        train_and_measure(0.0),
        train_and_measure(0.4),
    )
    assert recall >= 0.8
    assert protected_recall >= 0.8
    assert protected_drift < 0.1 * drift


def test_an_interrupted_run_resumes_to_the_same_result(tiny_folder: Path, tmp_path: Path):
    def load() -> Base:
        return load_info(find_model(str(tiny_folder)), dtype="float32", device="cpu")

    def crash(report: FleetProgress) -> None:
        if report.jobs[0].exposures > 2:
            raise RuntimeError("crash")

    settings = replace(DISTIL, protect_share=0.4, teacher_k=20)
    base = load()
    uninterrupted = train(base, [make_job(base, settings, n=6)])[0]
    base = load()
    job = make_job(base, settings, n=6)
    with pytest.raises(RuntimeError, match="crash"):
        train(base, [job], checkpoint=CheckpointSettings(tmp_path / "c", every_s=0), on_round=crash)
    resumed = train(load(), [job], checkpoint=CheckpointSettings(tmp_path / "c"))[0]
    assert_same_weights(resumed, uninterrupted, atol=0)


def test_learn_reports_on_a_distilled_adapter(tiny: Base, tmp_path: Path):
    examples = [from_pair(f"What is {i}?", f"{i}") for i in range(3)]
    settings = replace(DISTIL, protect_share=0.2, exposures=2)
    report = learn(
        tiny,
        examples,
        out=tmp_path / "a",
        settings=settings,
        contexts=DOCUMENTS[:1] * 3,
    )
    assert report.facts == 3
    assert report.exposures_per_fact == 2
    assert report.kl_to_base_nats > 0
