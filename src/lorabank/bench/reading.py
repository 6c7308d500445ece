"""Benches of asking: recall without decoding, and replies from many adapters in one batch."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from lorabank.bench.pairs import report, run_pairs, timed
from lorabank.bench.peer import ROWS, Peer, PeerAdapter
from lorabank.bench.setup import ALWAYS_ON, book, empty_caches
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base, load_info
from lorabank.engine.inference.answer_readings import read_answers
from lorabank.engine.inference.generate import generate
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import PLAIN, TrainSettings
from lorabank.engine.training.jobs import Outcome
from lorabank.engine.training.train import train
from lorabank.tasks.examples import Example, from_pair

HALF = replace(PLAIN, batch_size=16, until_recall=0.4)
FIRM = replace(ALWAYS_ON, r=4, alpha=8.0, batch_size=2, exposures=32, until_recall=None)
_log = logging.getLogger(__name__)
_ONE_BY_ONE = 20
_OTHER_ROWS = 16  # a second batch size for the peer, to see where it disagrees with itself


@dataclass(frozen=True, slots=True)
class RecallSizes:
    """The sizes of the bench of recall."""

    facts: int = 200
    settings: TrainSettings = HALF


def bench_recall(base: Base, *, pairs: int = 3, sizes: RecallSizes | None = None) -> dict[str, Any]:
    """Time finding which facts a half-learned adapter recalls: one reading pass against generation.

    Half-learned facts are often a coin's toss between two tokens, and bfloat16 rounds by the
    shape of the batch, so even the peer changes its mind when asked in other batches. `equal` is
    therefore about float32, where a verdict is the same in any batch; how many verdicts differ in
    the dtype that was timed stands beside it, for us and for the peer against itself.
    """
    sizes = sizes or RecallSizes()
    facts, settings = sizes.facts, sizes.settings
    _log.info("half-learning %d facts", facts)
    job = plan_job(base, book(facts), settings)
    outcome = train(base, [job])[0]
    with _both_asking(base, outcome) as (ours, theirs):

        def cold() -> list[bool]:
            empty_caches(base)
            return ours()

        other = theirs(_OTHER_ROWS)
        ran = run_pairs(timed(cold), timed(theirs), n=pairs)
        warm_s = median(timed(ours)().seconds for _ in range(pairs))  # prompts kept, as in training
        one_by_one_s = timed(lambda: theirs(1, first=_ONE_BY_ONE))().seconds / _ONE_BY_ONE
    our_verdicts, peer_verdicts = ran.ours[-1].result, ran.theirs[-1].result
    exact = load_info(base.info, dtype="float32", device=base.device.type)
    with _both_asking(exact, outcome) as (ours, theirs):
        unequal = _differing(ours(), theirs())
    return report(
        "recall",
        base,
        ran,
        equal=not unequal,
        equal_note="same verdict on every fact in float32, asked once, untimed",
        facts=facts,
        recall=sum(our_verdicts) / facts,
        peer_recall=sum(peer_verdicts) / facts,
        differing_float32=unequal,
        differing=_differing(our_verdicts, peer_verdicts),
        peer_differing_from_itself=_differing(other, peer_verdicts),
        ratio_prompts_kept=ran.theirs_s / warm_s,
        ratio_one_by_one=one_by_one_s * facts / ran.ours_s,
        one_by_one_note=f"{_ONE_BY_ONE} facts generated one at a time, the rest extrapolated",
        exposures=outcome.exposures,
        ours_facts_per_s=facts / ran.ours_s,
        peer_facts_per_s=facts / ran.theirs_s,
        settings=settings.as_json(),
    )


@contextmanager
def _both_asking(
    base: Base, outcome: Outcome
) -> Iterator[tuple[Callable[[], list[bool]], Callable[..., list[bool]]]]:
    """Yield our function and the peer's that ask one adapter for all its facts."""
    s, prompts = outcome.job.settings, outcome.job.dataset.prompts
    peer = Peer(base, PeerAdapter(s.r, s.alpha, activated=s.activated))
    peer.load(outcome.weights)
    with loaded_fleet(base, [outcome.adapter]) as fleet:

        def ours() -> list[bool]:
            readings = read_answers(base, prompts, fleet=fleet, slots=[0] * len(prompts))
            return [reading.recalled for reading in readings]

        def theirs(rows: int = ROWS, first: int | None = None) -> list[bool]:
            return peer.recall(prompts[:first], rows=rows)

        yield ours, theirs


@dataclass(frozen=True, slots=True)
class GenerateSizes:
    """The sizes of the bench of generation."""

    adapters: int = 16
    prompts: int = 32
    new_tokens: int = 16
    settings: TrainSettings = FIRM

    @property
    def owners(self) -> list[int]:
        """Return the adapter that answers each prompt."""
        return [i % self.adapters for i in range(self.prompts)]


def bench_generate(
    base: Base, *, pairs: int = 3, sizes: GenerateSizes | None = None
) -> dict[str, Any]:
    """Time replies of many adapters in one mixed batch, against PEFT's `adapter_names`.

    Each adapter has learnt the answers to its own prompts first, each a number and half of
    another, so that a reply is longer than what is asked for and sure of every token.
    """
    sizes = sizes or GenerateSizes()
    adapters, settings, owners = sizes.adapters, sizes.settings, sizes.owners
    examples = long_answers(sizes.prompts)
    jobs = [
        plan_job(base, examples[i::adapters], replace(settings, seed=i), name=f"adapter-{i}")
        for i in range(adapters)
    ]
    _log.info("learning %d answers in %d adapters", sizes.prompts, adapters)
    outcomes = train(base, jobs)
    names = [job.name for job in jobs]
    s = settings
    peer = Peer(base, PeerAdapter(s.r, s.alpha), names=names)
    prompt_ids = [base.chat.prompt_ids(example.prompt) for example in examples]
    for name, outcome in zip(names, outcomes, strict=True):
        peer.load(outcome.weights, name=name)
    with loaded_fleet(base, [outcome.adapter for outcome in outcomes]) as fleet:
        ran = run_pairs(
            timed(
                lambda: generate(
                    base, prompt_ids, fleet=fleet, slots=owners, max_new_tokens=sizes.new_tokens
                )
            ),
            timed(
                lambda: peer.generate(
                    prompt_ids, names=[names[i] for i in owners], max_new_tokens=sizes.new_tokens
                )
            ),
            n=pairs,
            warm=True,
        )
    our_texts, peer_texts = ran.ours[-1].result, ran.theirs[-1].result
    differences = _differing(our_texts, peer_texts)
    return report(
        "generate",
        base,
        ran,
        equal=not differences,
        prompts=sizes.prompts,
        adapters=adapters,
        new_tokens=sizes.new_tokens,
        different_texts=len(set(our_texts)),
        differing_prompts=differences,
        recall=[outcome.recall for outcome in outcomes],
        ours_prompts_per_s=sizes.prompts / ran.ours_s,
        peer_prompts_per_s=sizes.prompts / ran.theirs_s,
        settings=settings.as_json(),
    )


def long_answers(n: int) -> list[Example]:
    """Return facts whose answers are a number and half of another."""
    facts = book(2 * n)
    return [
        from_pair(fact.question, f"{fact.answer}-{other.answer[:7]}")
        for fact, other in zip(facts[:n], facts[n:], strict=True)
    ]


def _differing(ours: Sequence[object], theirs: Sequence[object]) -> list[int]:
    return [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
