"""Each job of a fleet gets the result it would get alone, whatever happens to the others."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.caches import Reuse
from lorabank.engine.encoding.batches import training_batch
from lorabank.engine.encoding.dataset import EncodedDataset
from lorabank.engine.fleet.dropout import Dropout, dropout_masks, layer_key
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import PAPER, PLAIN, TrainSettings
from lorabank.engine.training.jobs import Job, Outcome
from lorabank.engine.training.progress import FleetProgress, render
from lorabank.engine.training.recompute import recomputing
from lorabank.engine.training.train import FleetSettings, fleet_loss, train
from lorabank.errors import UsageError
from lorabank.tasks.examples import from_pair

QUICK = replace(PLAIN, lr=5e-3, exposures=5, until_recall=None, batch_size=4, warmup_steps=0)


def make_job(base: Base, name: str, settings: TrainSettings = QUICK, *, n: int = 6) -> Job:
    pairs = [from_pair(f"What is{' really' * (i % 3)} {i}?", f"{i * 7}") for i in range(n)]
    return plan_job(base, pairs, settings, name=name)


def with_first_example(job: Job, **changes: object) -> Job:
    first, *others = job.dataset.examples
    examples = (replace(first, **changes), *others)  # type: ignore[arg-type]
    return replace(job, dataset=replace(job.dataset, examples=examples))


def assert_same_weights(first: Outcome, second: Outcome, *, atol: float) -> None:
    for path, pair in first.weights.items():
        for tensor, expected in zip(pair, second.weights[path], strict=True):
            torch.testing.assert_close(tensor, expected, atol=atol, rtol=0, msg=path)


def test_dropout_of_a_job_does_not_depend_on_other_jobs(tiny: Base):
    jobs = [
        make_job(tiny, "half", replace(QUICK, dropout=0.5)),
        make_job(tiny, "none", n=9),
        make_job(tiny, "paper", replace(PAPER, steps=8, lr=1e-3, batch_size=2)),
    ]
    together = train(tiny, jobs, fleet_settings=FleetSettings(width=2))
    for job, outcome in zip(jobs, together, strict=True):
        assert_same_weights(outcome, train(tiny, [job])[0], atol=1e-4)
    bare = train(tiny, [replace(jobs[0], settings=replace(QUICK, dropout=0.0))])[0]
    path = jobs[0].paths[0]
    assert not torch.allclose(bare.weights[path][1], together[0].weights[path][1], atol=1e-3)


def test_dropout_of_a_row_does_not_depend_on_its_batch(tiny: Base):
    examples = list(make_job(tiny, "a").dataset.examples)
    dropout, later_dropout = Dropout(0.25, seed=1, step=3), Dropout(0.25, seed=1, step=4)

    def mask(rows: list[int], dropouts: list[Dropout | None], *, split: bool = False) -> Tensor:
        batch = training_batch([examples[i] for i in rows], omit_prefixes=split)
        masks = dropout_masks(batch, dropouts)
        assert masks is not None
        return masks(layer_key("q_proj"), torch.ones(*batch.input_ids.shape, 64))

    alone = mask([0], [dropout])[0]
    beside = mask([5, 0, 1], [None, dropout, later_dropout])
    n, start = len(examples[0].token_ids), examples[0].adapter_start
    assert torch.equal(beside[1, :n], alone)
    assert torch.equal(mask([0], [dropout], split=True)[0], alone[start:])
    assert torch.equal(beside[0], torch.ones_like(beside[0]))
    assert not torch.equal(mask([0], [later_dropout])[0], alone)
    assert alone.unique().tolist() == [0.0, pytest.approx(4 / 3)]


def test_dropout_has_its_rate_along_every_axis(tiny: Base):
    batch = training_batch(make_job(tiny, "a", n=12).dataset.examples)
    masks = dropout_masks(batch, [Dropout(0.1, seed=0, step=0)] * 12)
    assert masks is not None
    x = torch.ones(*batch.input_ids.shape, 256)
    dropped = (masks(layer_key("one"), x) == 0).double()
    dropped_elsewhere = (masks(layer_key("two"), x) == 0).double()
    n = dropped.numel()
    assert dropped.mean() == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / n))
    for axes in ((0, 1), (1, 2), (0, 2)):  # per feature, per row, per position
        count = n / dropped.mean(axes).numel()
        assert (dropped.mean(axes) - 0.1).abs().max() < 5 * math.sqrt(0.09 / count)
    neighbours = (dropped[..., 1:] * dropped[..., :-1]).mean(), (dropped * dropped_elsewhere).mean()
    assert all(share == pytest.approx(0.01, abs=2e-3) for share in neighbours)


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_a_job_that_diverges_does_not_change_the_others(tiny: Base, weight: float):
    healthy = make_job(tiny, "healthy")
    job = make_job(tiny, "ill", n=9)
    n_loss_tokens = sum(job.dataset.examples[0].loss_mask)
    diverging = with_first_example(job, loss_weights=(weight,) * n_loss_tokens)
    late = make_job(tiny, "late", replace(QUICK, seed=3), n=4)
    outcomes = train(tiny, [healthy, diverging, late], fleet_settings=FleetSettings(width=2))
    assert [outcome.stopped for outcome in outcomes] == ["budget", "diverged", "budget"]
    assert_same_weights(outcomes[0], train(tiny, [healthy])[0], atol=1e-4)
    assert_same_weights(outcomes[2], train(tiny, [late])[0], atol=1e-4)
    assert all(t.isfinite().all() for pair in outcomes[1].weights.values() for t in pair)


def test_a_job_that_diverges_late_keeps_its_last_good_state(tiny: Base):
    job, reports = make_job(tiny, "ill", replace(QUICK, exposures=30)), []

    def break_the_head(progress: FleetProgress) -> None:
        reports.append(progress)
        if len(reports) == 2 * 10:  # steps: ten epochs
            with torch.no_grad():
                tiny.model.get_output_embeddings().weight.fill_(math.nan)

    with torch.no_grad():
        head = tiny.model.get_output_embeddings().weight.clone()
    outcome = train(tiny, [job], on_round=break_the_head)[0]
    with torch.no_grad():
        tiny.model.get_output_embeddings().weight.copy_(head)
    assert (outcome.stopped, outcome.steps, len(outcome.curve)) == ("diverged", 20, 10)
    losses = [epoch.loss for epoch in outcome.curve]
    recalls = [epoch.seen_recall for epoch in outcome.curve]
    last_good = max(
        i
        for i in range(10)
        if losses[i] == min(losses[: i + 1]) or recalls[i] > max([-1, *recalls[:i]])
    )
    shorter = replace(job, settings=replace(job.settings, exposures=last_good + 1))
    assert_same_weights(outcome, train(tiny, [shorter])[0], atol=0)


@pytest.mark.parametrize("reuse", [Reuse(), Reuse(prompts=False, layers=False)], ids=str)
@pytest.mark.parametrize("layers", [None, (1,)])
def test_gradient_checkpointing_gives_the_same_gradients(
    tiny: Base, reuse: Reuse, layers: tuple[int, ...] | None
):
    jobs = [
        make_job(tiny, "a", replace(QUICK, layers=layers, r=3), n=4),
        make_job(tiny, "b", replace(QUICK, layers=layers, r=5, activated=False), n=3),
    ]
    grads = []
    for is_on in (False, True):
        with Fleet(tiny, paths=jobs[0].paths, r=5, width=2, reuse=reuse) as fleet:
            for slot, job in enumerate(jobs):
                fleet.initialise(slot, job.settings, job.paths)
            fleet.theta += torch.randn(
                fleet.theta.shape, generator=torch.Generator().manual_seed(0)
            ) * (0.1)
            dropouts = {0: Dropout(0.3, seed=0, step=0)}
            with recomputing(fleet, is_on=is_on), fleet.dropout_applied(dropouts):
                examples = [list(job.dataset.examples) for job in jobs]
                fleet_loss(fleet, [0, 1], examples).losses.sum().backward()
            grads.append(fleet.grad.clone())
    assert grads[0].abs().max() > 1e-3
    torch.testing.assert_close(grads[1], grads[0], atol=1e-5, rtol=1e-5)
    assert all("forward" not in vars(block) for block in tiny.model.model.layers)


def test_gradient_checkpointing_trains_the_same(tiny: Base):
    jobs = [make_job(tiny, "a"), make_job(tiny, "b", replace(QUICK, seed=1), n=4)]
    plain, checkpointed = (
        train(tiny, jobs, fleet_settings=FleetSettings(gradient_checkpointing=on))
        for on in (False, True)
    )
    for outcome, expected in zip(checkpointed, plain, strict=True):
        assert_same_weights(outcome, expected, atol=1e-4)


def test_progress_reports_count_and_render_the_jobs_of_a_fleet(tiny: Base):
    jobs = [make_job(tiny, name, n=n) for name, n in (("long", 8), ("b", 4), ("c", 4))]
    reports: list[FleetProgress] = []
    train(tiny, jobs, fleet_settings=FleetSettings(width=2), on_round=reports.append)
    first, last = reports[0], reports[-1]
    assert (first.done, first.running, first.waiting) == (0, 2, 1)
    assert (last.done, last.running, last.waiting) == (3, 0, 0)
    assert first.tokens_per_s > 0
    assert first.jobs[0].loss is not None
    assert first.jobs[0].seen_recall is None
    assert first.jobs[0].exposures == 0.5
    lines = render(first)
    assert lines[0].startswith("0 done, 2 training, 1 waiting, ")
    assert lines[0].endswith(" tokens/s")
    assert lines[1].startswith("long  training        0.5 exposures  loss ")
    assert lines[3] == "c     waiting"
    assert render(last)[1].startswith("long  budget          5.0 exposures  loss ")
    assert "  recall " in render(last)[1]


def without_examples(job: Job) -> Job:
    return replace(job, dataset=EncodedDataset("sound", (), ()))


def with_empty_answer(job: Job) -> Job:
    prompts = tuple(replace(prompt, answer=" ") for prompt in job.dataset.prompts)
    return replace(job, dataset=replace(job.dataset, prompts=prompts))


def with_long_example(job: Job) -> Job:
    ids = job.dataset.examples[0].token_ids * 40
    return with_first_example(job, token_ids=ids, loss_mask=(True,) * len(ids))


def without_loss(job: Job) -> Job:
    return with_first_example(job, loss_mask=(False,) * len(job.dataset.examples[0].token_ids))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda job: replace(job, name="good"), "2 jobs are named 'good'"),
        (without_examples, "job 'bad' has nothing to learn"),
        (with_empty_answer, "job 'bad': example 1 has an empty answer"),
        (without_loss, "job 'bad': example 1 has no token that carries loss"),
        (with_long_example, r"job 'bad': example 1 has [\d,]+ tokens, the model takes 512"),
        (lambda job: replace(job, paths=()), "job 'bad' adapts no layer"),
        (lambda job: replace(job, paths=("model.x",)), "job 'bad' adapts model.x, which"),
        (
            lambda job: replace(job, settings=replace(job.settings, r=40)),
            r"job 'bad': --variant lora takes r 1\.\.32",
        ),
        (
            lambda job: replace(job, settings=replace(job.settings, dropout=1.0)),
            "job 'bad': dropout must be at least 0, below 1",
        ),
    ],
)
def test_bad_jobs_are_refused_by_name_before_any_step(
    tiny: Base, damage: Callable[[Job], Job], message: str
):
    def never(_: object) -> None:
        raise AssertionError("a step was taken")

    jobs = [make_job(tiny, "good"), damage(make_job(tiny, "bad"))]
    with pytest.raises(UsageError, match=message):
        train(tiny, jobs, on_step=never)


def test_training_no_jobs_gives_no_outcomes(tiny: Base):
    assert train(tiny, []) == []
