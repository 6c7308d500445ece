"""The bench of decoding: one row or many, against llama.cpp with weights in half precision.

A request is timed whole, its prompt included, and writes a fixed number of tokens. Each adapter has
learnt a long answer first. Whether both write the same is counted apart, untimed and up to the end
of the turn: the peer's weights and its keys and values are in half precision, so where two tokens
are nearly as likely the replies may part.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lorabank.bench.llama_peer import LlamaPeer
from lorabank.bench.pairs import Pairs, report, run_pairs, timed
from lorabank.bench.reading import long_answers
from lorabank.bench.setup import empty_caches
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.running_batch import STOP, RowRequest, RunningBatch
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import PLAIN, TrainSettings
from lorabank.engine.training.train import train
from lorabank.tasks.examples import Message
from lorabank.tasks.ordinary_texts import QUESTIONS

ONE_FACT = replace(PLAIN, batch_size=1, exposures=24, until_recall=None)
_log = logging.getLogger(__name__)
_WARM_TOKENS = 160  # after which the weights' copies in half precision are made


@dataclass(frozen=True, slots=True)
class DecodeSizes:
    """The sizes of the bench of decoding."""

    modules: int = 16
    new_tokens: int = 32
    settings: TrainSettings = ONE_FACT


def bench_decode(base: Base, *, pairs: int = 3, sizes: DecodeSizes | None = None) -> dict[str, Any]:
    """Time replies of one row and of a row for each module, against llama.cpp's server."""
    sizes = sizes or DecodeSizes()
    n, n_modules = sizes.new_tokens, sizes.modules
    examples = long_answers(n_modules)
    jobs = [
        plan_job(base, [example], replace(sizes.settings, seed=i), name=f"module-{i}")
        for i, example in enumerate(examples)
    ]
    _log.info("teaching %d modules an answer each", n_modules)
    adapters = [outcome.adapter for outcome in train(base, jobs)]
    prompts = [tuple(base.chat.prompt_ids(example.prompt)) for example in examples]
    ordinary = [
        tuple(base.chat.prompt_ids([Message("user", question)]))
        for question in list(QUESTIONS)[:n_modules]
    ]
    with (
        TemporaryDirectory() as folder,
        closing(LlamaPeer(base, adapters, Path(folder))) as peer,  # written without a fleet around
        loaded_fleet(base, adapters) as fleet,
    ):
        _write(base, fleet, prompts[:1], [0], _WARM_TOKENS)

        def compare(
            rows: Sequence[tuple[int, ...]],
            slots: Sequence[int | None],
            theirs: Callable[[], object],
        ) -> Pairs[Any, Any]:
            def write_cold() -> list[list[int]]:
                empty_caches(base)
                return _write(base, fleet, rows, slots, n)

            return run_pairs(timed(write_cold), timed(theirs), n=pairs, warm=True)

        alone = compare(prompts[:1], [0], lambda: peer.write(prompts[0], 0, n, to_end=False))
        bare = compare(ordinary[:1], [None], lambda: peer.write(ordinary[0], None, n, to_end=False))
        slots = list(range(n_modules))
        many = compare(prompts, slots, lambda: peer.write_together(prompts, slots, n))
        same = _n_same(base, fleet, peer, prompts, slots, n)
        same_bare = _n_same(base, fleet, peer, ordinary, [None] * len(ordinary), n)
    return report(
        "decode",
        base,
        alone,
        equal=same == n_modules,
        equal_note="same text to the end of the turn, by each module alone on its own question",
        ratio_bare=bare.ratio,
        ratio_16_modules=many.ratio,
        modules=n_modules,
        new_tokens=n,
        same_texts=f"{same} of {n_modules}",
        same_texts_bare=f"{same_bare} of {len(ordinary)}",
        pairs_bare=bare.as_json(),
        pairs_16_modules=many.as_json(),
        ours_tokens_per_s=n / alone.ours_s,
        peer_tokens_per_s=n / alone.theirs_s,
        ours_tokens_per_s_16_modules=n * n_modules / many.ours_s,
        peer_tokens_per_s_16_modules=n * n_modules / many.theirs_s,
        settings=sizes.settings.as_json(),
    )


def _write(
    base: Base,
    fleet: Fleet,
    prompts: Sequence[tuple[int, ...]],
    slots: Sequence[int | None],
    n: int,
    stops: frozenset[int] | None = frozenset(),
) -> list[list[int]]:
    """Return the tokens of each row's reply; without `stops`, `n` of them."""
    running = RunningBatch(base, fleet)
    replies: list[list[int]] = [[] for _ in prompts]
    for prompt, slot in zip(prompts, slots, strict=True):
        running.add(RowRequest(prompt, slot, max_new_tokens=n, stops=stops))
    while running:
        for token in running.step():
            if token.finish != STOP:
                replies[token.row].append(token.token)
    return replies


def _n_same(
    base: Base,
    fleet: Fleet,
    peer: LlamaPeer,
    prompts: Sequence[tuple[int, ...]],
    slots: Sequence[int | None],
    n: int,
) -> int:
    """Return how many replies, each written alone up to the end of the turn, are the peer's."""
    same = 0
    for prompt, slot in zip(prompts, slots, strict=True):
        (reply,) = _write(base, fleet, [prompt], [slot], n, None)
        same += base.chat.decode(reply) == peer.write(prompt, slot, n, to_end=True)
    return same
