"""Drift: how far an adapter moves the base on text that has nothing to do with what was taught.

Two measures compare it with the bare base: the mean KL divergence of the next-token distributions
over a fixed set of ordinary replies, and the simple questions that the base answers before and
still answers after.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.batches import Batch, evaluation_batch
from lorabank.engine.encoding.dataset import EvaluationPrompt, encode_prompt
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.generate import GenerationOptions, generate
from lorabank.tasks.drift_questions import KNOWN, REPLIES
from lorabank.tasks.examples import Message

_REPLIES_AT_ONCE = 16
_MAX_REPLY_TOKENS = 16  # the bare model gives what it knows at once or not at all


@dataclass(frozen=True, slots=True)
class Drift:
    """Distance by which an adapter moves the base on text it was not taught."""

    kl_to_base_nats: float
    """Mean over the tokens of REPLIES of KL(bare || adapted), in nats."""
    known_before: tuple[str, ...] | None = None
    """Answers of KNOWN that the bare base gives; None where they were not asked for."""
    known_after: tuple[str, ...] | None = None
    """Answers among `known_before` that the adapted base still gives."""


@dataclass(frozen=True, slots=True)
class BaseBehaviour:
    """Behaviour of a model, bare or adapted, on ordinary text and on simple questions."""

    log_p: Tensor
    """(N, V) log-probabilities at the tokens of REPLIES."""
    known: tuple[str, ...] | None
    """Answers of KNOWN that it gives; None where they were not asked for."""


def measure_drift(fleet: Fleet, slots: Sequence[int], *, known: bool = False) -> list[Drift]:
    """Measure what the adapters in some slots of an entered fleet do to its base.

    Args:
        slots: of adapters that are all activated or all always on.
        known: also ask for the answers of KNOWN. They are generated, which takes a second or more
            for each adapter; a study of hundreds goes by the divergence.
    """
    if known and fleet.base.known_answers is None:
        fleet.base.known_answers = _known_under(fleet, slots[0], scale=0.0)
    before = fleet.base.known_answers if known else None
    drifts = []
    for slot, kl in zip(slots, _divergences(fleet, slots), strict=True):
        after = _known_under(fleet, slot, scale=1.0) if known else None
        drifts.append(Drift(kl, before, _still_known(before, after)))
    return drifts


@torch.no_grad()
def observe_behaviour(base: Base) -> BaseBehaviour:
    """Return the behaviour of the base, outside of any fleet: bare, or with layers of PEFT."""
    batch = evaluation_batch(_replies(base, activated=False), device=base.device)
    logits = base.logits_at(batch.rows, batch.columns, input_ids=batch.input_ids, use_cache=False)
    return BaseBehaviour(F.log_softmax(logits.float(), dim=-1), _known_to(base))


def drift_between(bare: BaseBehaviour, adapted: BaseBehaviour) -> Drift:
    """Return the drift of an adapted base from the bare one."""
    kl = F.kl_div(adapted.log_p, bare.log_p, log_target=True, reduction="batchmean")
    return Drift(float(kl), bare.known, _still_known(bare.known, adapted.known))


@torch.no_grad()
def _divergences(fleet: Fleet, slots: Sequence[int]) -> list[float]:
    """Return KL(bare || adapted) of each slot; the bare base is read in the same way, at scale 0.

    A few replies are read at once, as their distributions over the vocabulary are large. Those of
    the bare base are kept, up to a limit: it is the same at every measurement.
    """
    activated = fleet.activated[slots[0]]
    prompts = _replies(fleet.base, activated=activated)
    sums, n_tokens = [0.0] * len(slots), 0
    for start in range(0, len(prompts), _REPLIES_AT_ONCE):
        part = prompts[start : start + _REPLIES_AT_ONCE]
        batch = evaluation_batch(part, device=fleet.base.device, omit_prefixes=fleet.reuse.prompts)
        n_tokens += len(batch.rows)

        def log_p(slot: int, scale: float, batch: Batch = batch) -> Tensor:
            fleet.base.let_others_in()
            logits = fleet.logits_at(batch, [slot], adapter_scales=[scale])
            return F.log_softmax(logits.float(), dim=-1)

        key = (activated, fleet.reuse.prompts, start)
        (bare,) = fleet.base.ordinary_cache.get([key], lambda _: [log_p(slots[0], 0.0)])
        for i, slot in enumerate(slots):
            kl = F.kl_div(log_p(slot, 1.0), bare, log_target=True, reduction="sum")
            sums[i] += float(kl)
    return [total / n_tokens for total in sums]


def _still_known(
    before: tuple[str, ...] | None, after: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    """Return which answers are still given; None where they were not asked for."""
    if before is None or after is None:
        return None
    return tuple(answer for answer in before if answer in after)


def _replies(base: Base, *, activated: bool) -> list[EvaluationPrompt]:
    return [
        encode_prompt(base.chat, [Message("user", question)], reply, activated=activated)
        for question, reply in REPLIES
    ]


def _known_to(base: Base) -> tuple[str, ...]:
    """Return the answers of KNOWN that a base gives as it is."""
    options = GenerationOptions(is_enough=_ends_when_right(base))
    replies = generate(base, _questions(base), max_new_tokens=_MAX_REPLY_TOKENS, options=options)
    return _right_answers(replies)


def _known_under(fleet: Fleet, slot: int, *, scale: float) -> tuple[str, ...]:
    """Return the answers of KNOWN that the adapter in a slot gives at a scale; 0 is the bare base.

    What the bare base reads of the questions is read once for all slots and scales.
    """
    prompts = _questions(fleet.base)
    if fleet.activated[slot] and fleet.reuse.prompts:
        fleet.prompt_key_values([p[: fleet.base.chat.header_start(p)] for p in prompts])
    replies = generate(
        fleet.base,
        prompts,
        fleet=fleet,
        slots=[slot] * len(prompts),
        max_new_tokens=_MAX_REPLY_TOKENS,
        options=GenerationOptions(
            adapter_scales=[scale] * len(prompts), is_enough=_ends_when_right(fleet.base)
        ),
    )
    return _right_answers(replies)


def _questions(base: Base) -> list[tuple[int, ...]]:
    return [tuple(base.chat.direct_prompt_ids([Message("user", q)])) for q, _ in KNOWN]


def _ends_when_right(base: Base) -> Callable[[int, Sequence[int]], bool]:
    """Return what ends the reply to a question of KNOWN: an answer is in it, whatever follows."""
    return lambda i, tokens: _is_right(KNOWN[i][1], base.chat.decode(list(tokens)))


def _is_right(answers: str, reply: str) -> bool:
    return any(answer.lower() in reply.lower() for answer in answers.split("|"))


def _right_answers(replies: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        answers.split("|")[0]
        for (_, answers), reply in zip(KNOWN, replies, strict=True)
        if _is_right(answers, reply)
    )
