"""Plain PEFT does the same work with the same results, and both sides are timed fairly."""

from dataclasses import replace

import pytest
import torch

from lorabank.bench import pairs as timing
from lorabank.bench.benches import BENCHES, run_bench
from lorabank.bench.limit import run_bare
from lorabank.bench.pairs import Timed, largest_gap, run_pairs
from lorabank.bench.peer import Peer, PeerAdapter
from lorabank.bench.reading import FIRM, HALF
from lorabank.bench.setup import ALWAYS_ON, book, long_book, start_weights
from lorabank.bench.writing import UNTIL_98
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.batches import training_batch
from lorabank.engine.inference.answer_readings import read_answers
from lorabank.engine.inference.generate import generate
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import PAPER, TrainSettings
from lorabank.engine.training.jobs import Job, Outcome
from lorabank.engine.training.train import train

NAMES = ("one", "two")
QUICK = replace(ALWAYS_ON, lr=1e-2, batch_size=4, exposures=6, until_recall=None)
SMALL = {
    "train": {
        "facts": 4,
        "settings": replace(UNTIL_98, lr=2e-2, batch_size=4),
        "limit_batches": (2,),
        "limit_steps": 2,
        "paper_steps": 1,
    },
    "recall": {"facts": 6, "settings": replace(HALF, lr=2e-2, batch_size=6)},
    "fleet": {"adapters": 3, "facts": 4, "exposures": 2},
    "prefix": {"facts": 4, "exposures": 3, "last": (1, 2)},
    "distill": {"facts": 3, "exposures": 2, "context_tokens": 150},
    "activated": {"batch": 4, "exposures": 3, "long_prompt": 80, "long_batch": 2},
    "generate": {
        "adapters": 2,
        "prompts": 4,
        "new_tokens": 6,
        "settings": replace(FIRM, lr=2e-2, exposures=20),
    },
    "bank": {
        "modules": 2,
        "facts": 4,
        "unknown": 4,
        "alone": 1,
        "timed_facts": 4,
        "timed_exposures": 2,
        "settings": replace(ALWAYS_ON, lr=2e-2, batch_size=4, activated=True),
        "embeds": False,
    },
    "synthesise": {"requests": 3, "new_tokens": 4, "rows": 2},
}
ELSEWHERE = {
    "decode",
    "routing",
    "context",
    "policy",
    "retention",
    "wording",
    "growth",
    "serve",
}  # these have test files of their own


def test_every_bench_has_a_test():
    assert SMALL.keys() | ELSEWHERE == BENCHES.keys()


def plan(base: Base, settings: TrainSettings = QUICK, facts: int = 12) -> Job:
    return plan_job(base, book(facts), settings)


@pytest.mark.parametrize(
    "settings",
    [QUICK, replace(PAPER, steps=4, dropout=0.0), replace(QUICK, activated=True)],
    ids=["sound", "paper", "activated"],
)
def test_peer_trains_to_our_losses(tiny: Base, settings: TrainSettings):
    job = plan(tiny, settings)
    peer = Peer(tiny, PeerAdapter(settings.r, settings.alpha, activated=settings.activated))
    peer_run = peer.train(job, start_weights(tiny, job))
    outcome = train(tiny, [job])[0]
    assert largest_gap([e.loss for e in outcome.curve], peer_run.losses) < 1e-4
    assert peer_run.steps == outcome.steps


@pytest.mark.parametrize("activated", [False, True])
def test_peer_recalls_what_we_recall(tiny: Base, activated: bool):
    settings = replace(QUICK, exposures=80, until_recall=0.4, activated=activated)
    job = plan(tiny, settings, facts=6)
    outcome = train(tiny, [job])[0]
    peer = Peer(tiny, PeerAdapter(QUICK.r, QUICK.alpha, activated=activated))
    peer.load(outcome.weights)
    verdicts = peer.recall(job.dataset.prompts)
    assert any(verdicts)
    assert verdicts == [reading.recalled for reading in read_back(tiny, outcome)]


def read_back(base: Base, outcome: Outcome) -> list:
    prompts = outcome.job.dataset.prompts
    with loaded_fleet(base, [outcome.adapter]) as fleet:
        return read_answers(base, prompts, fleet=fleet, slots=[0] * len(prompts))


def test_peer_stops_when_recall_is_verified(tiny: Base):
    settings = replace(QUICK, lr=2e-2, exposures=60, until_recall=1.0)
    job = plan(tiny, settings, facts=4)
    outcome = Peer(tiny, PeerAdapter(8, 16)).train(job, start_weights(tiny, job))
    assert outcome.recall == 1.0
    assert outcome.exposures < 60


def test_peer_leaves_the_base_alone(tiny: Base):
    before = {name: p.clone() for name, p in tiny.model.named_parameters()}
    job = plan(tiny)
    Peer(tiny, PeerAdapter(8, 16)).train(job, start_weights(tiny, job))
    after = dict(tiny.model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], p) for name, p in before.items())


def test_mixed_batch_gives_each_row_its_own_adapter(tiny: Base):
    settings = replace(QUICK, lr=2e-2)
    jobs = [plan_job(tiny, book(2, seed=i), settings, name=NAMES[i]) for i in range(2)]
    outcomes = train(tiny, jobs)
    peer = Peer(tiny, PeerAdapter(8, 16), names=NAMES)
    prompts = [prompt.prompt_ids for job in jobs for prompt in job.dataset.prompts] * 2
    owners = [0, 0, 1, 1, 1, 1, 0, 0]
    for name, outcome in zip(NAMES, outcomes, strict=True):
        peer.load(outcome.weights, name=name)
    with loaded_fleet(tiny, [outcome.adapter for outcome in outcomes]) as fleet:
        fleet_texts = generate(tiny, prompts, fleet=fleet, slots=owners, max_new_tokens=8)
    peft_texts = peer.generate(prompts, names=[NAMES[i] for i in owners], max_new_tokens=8)
    assert fleet_texts == peft_texts
    assert len(set(fleet_texts)) > 2


def test_limit_leaves_no_gradient_in_the_base(tiny: Base):
    run_bare(tiny, training_batch(plan(tiny).dataset.examples))
    assert all(p.grad is None for p in tiny.model.parameters())


def test_long_prompts_are_long_and_all_different(tiny: Base):
    prompts = [e.prompt for e in long_book(tiny, 3, prompt_tokens=200)]
    lengths = [len(tiny.chat.prompt_ids(prompt)) for prompt in prompts]
    assert all(120 < length <= 200 for length in lengths)
    assert len(set(prompts)) == 3


def test_sides_alternate_and_the_ratio_is_the_median_of_pairs():
    order: list[str] = []

    def side(name: str, seconds: list[float]):
        def run() -> Timed[str]:
            order.append(name)
            return Timed(seconds.pop(0), name)

        return run

    timings = run_pairs(side("ours", [1, 2, 4]), side("peer", [3, 4, 40]), n=3)
    assert order == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert timings.ratio == 3  # of 3, 2 and 10
    assert timings.as_json()[1] == {"ours_s": 2, "peer_s": 4}
    assert (timings.ours_s, timings.theirs_s) == (2, 4)


def test_a_warm_up_is_not_counted():
    seconds = iter([9.0, 9.0, 1.0, 5.0])
    timings = run_pairs(*[lambda: Timed(next(seconds), None)] * 2, n=1, warm=True)
    assert timings.ratio == 5


def test_the_step_clock_times_every_step():
    clock = timing.StepClock()
    clock(None)
    clock(None)
    assert sum(clock.steps) == pytest.approx(clock.seconds)
    assert len(clock.steps) == 2


def test_a_nan_loss_is_an_infinite_gap():
    assert largest_gap([1.0, float("nan")], [1.0, 2.0]) == float("inf")
    assert largest_gap([1.0, 2.0], [1.0, 2.5]) == 0.5


@pytest.mark.parametrize("name", SMALL)
def test_every_bench_finds_the_same_results_on_both_sides(tiny: Base, name: str):
    result = run_bench(tiny, name, pairs=1, **SMALL[name])
    assert result["equal"] is True
    assert result["ratio"] > 0
    assert len(result["pairs"]) == 1
    assert result["machine"]["torch"] == torch.__version__
