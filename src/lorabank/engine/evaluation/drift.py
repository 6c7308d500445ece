"""Drift: how far an adapter moves the base on text that has nothing to do with what was taught.

Two measures compare it with the bare base: the mean KL divergence of the next-token distributions
over a fixed set of ordinary replies, and the simple questions that the base answers before and
still answers after.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.batches import evaluation_batch
from lorabank.engine.encoding.dataset import EvaluationPrompt, encode_prompt
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.generate import generate
from lorabank.tasks.examples import Message

ORDINARY = (
    ("What is bread made of?", "Bread is made from flour, water, salt and a little yeast."),
    ("Why do leaves fall?", "In autumn many trees drop their leaves to save water and energy."),
    ("How do I boil an egg?", "Put the egg in boiling water and wait about eight minutes."),
    ("What does a baker do?", "A baker gets up early, mixes the dough and bakes it for the shop."),
    ("Where do fish live?", "Fish live in rivers, lakes and seas, and they breathe through gills."),
    ("Why is sleep good?", "Sleep gives the body time to rest and helps us remember the day."),
    ("What is a library?", "A library is a place where people can read and borrow books."),
    ("How does a bicycle work?", "You push the pedals, and the chain turns the back wheel."),
    ("What is rain?", "Rain is water that falls from clouds when the drops grow heavy."),
    ("Why do people travel?", "They travel to see new places, visit friends and learn something."),
    ("What is a garden for?", "A garden can give you flowers to look at and vegetables to eat."),
    ("How do birds fly?", "Birds beat their wings, which pushes the air down and lifts them up."),
)
KNOWN = (
    ("What is the capital of France?", "Paris"),
    ("What is the capital of Japan?", "Tokyo"),
    ("What is the capital of Italy?", "Rome"),
    ("How many days are in a week?", "7|seven"),
    ("What is the opposite of hot?", "cold"),
    ("What is frozen water called?", "ice"),
    ("Which planet do we live on?", "Earth"),
    ("What do bees make?", "honey"),
)
_MAX_REPLY_TOKENS = 24  # the bare model gives what it knows at once or not at all


@dataclass(frozen=True, slots=True)
class Drift:
    """Distance by which an adapter moves the base on text it was not taught."""

    kl_to_base_nats: float
    """Mean over the tokens of ORDINARY of KL(bare || adapted), in nats."""
    known_before: tuple[str, ...] | None = None
    """Answers of KNOWN that the bare base gives; None where they were not asked for."""
    known_after: tuple[str, ...] | None = None
    """Answers among `known_before` that the adapted base still gives."""


@dataclass(frozen=True, slots=True)
class BaseBehaviour:
    """Behaviour of a model, bare or adapted, on ordinary text and on simple questions."""

    log_p: Tensor
    """(N, V) log-probabilities at the tokens of ORDINARY."""
    known: tuple[str, ...] | None
    """Answers of KNOWN that it gives; None where they were not asked for."""


def measure_drift(fleet: Fleet, slots: Sequence[int], *, known: bool = False) -> list[Drift]:
    """Measure what the adapters in some slots of an entered fleet do to its base.

    Args:
        slots: of adapters that are all activated or all always on.
        known: also ask for the answers of KNOWN. They are generated, which takes a second or more
            for each adapter; a study of hundreds goes by the divergence.
    """
    base = fleet.base
    bare = BaseBehaviour(
        _log_p(base, fleet, slots[0], adapter_scale=0.0),
        _known(base, fleet, None) if known else None,
    )
    return [
        drift_between(
            bare,
            BaseBehaviour(
                _log_p(base, fleet, slot, adapter_scale=1.0),
                _known(base, fleet, slot) if known else None,
            ),
        )
        for slot in slots
    ]


@torch.no_grad()
def observe_behaviour(base: Base) -> BaseBehaviour:
    """Return the behaviour of the base, outside of any fleet: bare, or with layers of PEFT."""
    batch = evaluation_batch(_ordinary(base, activated=False), device=base.device)
    logits = base.logits_at(batch.rows, batch.columns, input_ids=batch.input_ids, use_cache=False)
    return BaseBehaviour(F.log_softmax(logits.float(), dim=-1), _known(base, None, None))


def drift_between(bare: BaseBehaviour, adapted: BaseBehaviour) -> Drift:
    """Return the drift of an adapted base from the bare one."""
    kl = F.kl_div(adapted.log_p, bare.log_p, log_target=True, reduction="batchmean")
    if bare.known is None or adapted.known is None:
        return Drift(float(kl))
    still_known = tuple(answer for answer in bare.known if answer in adapted.known)
    return Drift(float(kl), bare.known, still_known)


@torch.no_grad()
def _log_p(base: Base, fleet: Fleet, slot: int, *, adapter_scale: float) -> Tensor:
    """Return (N, V) log-probabilities; at scale 0 those of the bare base, read in the same way."""
    prompts = _ordinary(base, activated=fleet.activated[slot])
    batch = evaluation_batch(prompts, device=base.device, omit_prefixes=fleet.reuse.prompts)
    logits = fleet.logits_at(batch, [slot], adapter_scales=[adapter_scale])
    return F.log_softmax(logits.float(), dim=-1)


def _ordinary(base: Base, *, activated: bool) -> list[EvaluationPrompt]:
    return [
        encode_prompt(base.chat, [Message("user", question)], reply, activated=activated)
        for question, reply in ORDINARY
    ]


def _known(base: Base, fleet: Fleet | None, slot: int | None) -> tuple[str, ...]:
    prompts = [base.chat.direct_prompt_ids([Message("user", question)]) for question, _ in KNOWN]
    slots = None if slot is None else [slot] * len(prompts)
    replies = generate(base, prompts, fleet=fleet, slots=slots, max_new_tokens=_MAX_REPLY_TOKENS)
    return tuple(
        answers.split("|")[0]
        for (_, answers), reply in zip(KNOWN, replies, strict=True)
        if any(answer.lower() in reply.lower() for answer in answers.split("|"))
    )
