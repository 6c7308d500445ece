"""The frozen limit: the speed that no training through this base can exceed.

A step of LoRA training has to run the base forward and carry the gradient back through all its
layers to the lowest adapter. Doing only that, with no adapter, optimiser or bookkeeping, on the
very batches that are trained on, is the limit; a trainer's share of it says how much it adds.
"""

from dataclasses import replace
from statistics import median
from typing import Any

import torch.nn.functional as F

from lorabank.bench.pairs import StepClock
from lorabank.bench.peer import Peer
from lorabank.bench.setup import ALWAYS_ON, book, start_weights
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.batches import Batch, training_batch
from lorabank.engine.learn import plan_job
from lorabank.engine.training.job_progress import Progress
from lorabank.engine.training.jobs import Job
from lorabank.engine.training.train import train


def measure_shares(
    base: Base, *, batch_size: int, steps: int, rounds: int, peer: Peer
) -> dict[str, Any]:
    """Measure our and the peer's always-on training as shares of the frozen limit.

    All three run the same batches. Tokens are those of the rows; `run_per_step` counts padding
    too.
    """
    # The first step of each run is left out: it has the start-up in it.
    job = plan_job(
        base,
        book(batch_size * (steps + 1)),
        replace(ALWAYS_ON, batch_size=batch_size, steps=steps + 1, until_recall=None),
    )
    start, batches = start_weights(base, job), _batches(base, job)
    limit_s, ours_s, peer_s = [], [], []
    for _ in range(rounds):
        clock = StepClock()
        for batch in batches:
            run_bare(base, batch)
            clock(None)
        limit_s.append(sum(clock.steps[1:]))
        clock = StepClock()
        train(base, [job], on_step=clock)
        ours_s.append(sum(clock.steps[1:]))
        clock = StepClock()
        peer.train(job, start, on_step=clock)
        peer_s.append(sum(clock.steps[1:]))
    tokens = sum(len(row) for batch in batches[1:] for row in batch.token_ids)
    return {
        "batch": batch_size,
        "share": median(limit / ours for limit, ours in zip(limit_s, ours_s, strict=True)),
        "peer_share": median(limit / theirs for limit, theirs in zip(limit_s, peer_s, strict=True)),
        "tokens_per_step": tokens / steps,
        "run_per_step": sum(batch.input_ids.numel() for batch in batches[1:]) / steps,
        "limit_tokens_per_s": tokens / median(limit_s),
        "ours_tokens_per_s": tokens / median(ours_s),
        "peer_tokens_per_s": tokens / median(peer_s),
    }


def run_bare(base: Base, batch: Batch) -> None:
    """Run the bare base forward, and backward to the input of every linear layer."""
    embedded = base.model.get_input_embeddings()(batch.input_ids).requires_grad_()  # (R, T, d)
    logits = base.logits_at(batch.rows, batch.columns, inputs_embeds=embedded, use_cache=False)
    F.cross_entropy(logits.float(), batch.targets).backward()  # type: ignore[no-untyped-call]


def _batches(base: Base, job: Job) -> list[Batch]:
    """Return the batches that training will use, in order."""
    progress = Progress(job)
    return [
        training_batch([job.dataset.examples[i] for i in progress.next_batch()], device=base.device)
        for _ in range(job.total_steps)
    ]
