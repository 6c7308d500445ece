"""Ordinary prompts and the bare model's own replies, to train beside what is taught.

On them an adapter learns to stay as the base is (a `protect_share` of the settings). What they
are about is nothing that engine/harm.py measures by, so that staying put there is not trained.
"""

from lorabank.engine.backbone.base import Base
from lorabank.engine.inference.generate import generate
from lorabank.tasks.examples import Example, Message, from_pair

_ASKED = (
    "What is {} used for?",
    "Who first thought of {}, and why?",
    "Describe {} in one sentence.",
    "What should a child know about {}?",
)
_THINGS = (
    *("a chair", "tea", "a bridge", "music", "snow", "a clock", "paper", "glass", "a school"),
    *("salt", "the moon", "a horse"),
)
_REPLY_TOKENS = 32


def regularisation_examples(base: Base, n: int = len(_ASKED) * len(_THINGS)) -> list[Example]:
    """Up to 48 prompts with what the bare model, in no fleet, says to each; empty replies left out.

    Deterministic for a base and its precision.
    """
    questions = [form.format(thing) for form in _ASKED for thing in _THINGS][:n]
    prompts = [base.chat.prompt_ids([Message("user", question)]) for question in questions]
    replies = generate(base, prompts, max_new_tokens=_REPLY_TOKENS)
    pairs = zip(questions, replies, strict=True)
    return [from_pair(question, reply.strip()) for question, reply in pairs if reply.strip()]
