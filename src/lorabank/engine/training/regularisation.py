"""Regularisation examples: ordinary prompts with the bare model's own replies.

Trained beside the data, they teach an adapter to predict what the base predicts on prompts that
have nothing to do with the data (`protect_share` of the settings). They avoid the topics by which
engine/evaluation measures drift, so that this measurement is not trained on.
"""

from lorabank.engine.backbone.base import Base
from lorabank.engine.inference.generate import generate
from lorabank.tasks.examples import Example, Message, from_pair

_QUESTIONS = (
    "What is {} used for?",
    "Who first thought of {}, and why?",
    "Describe {} in one sentence.",
    "What should a child know about {}?",
)
_TOPICS = (
    *("a chair", "tea", "a bridge", "music", "snow", "a clock", "paper", "glass", "a school"),
    *("salt", "the moon", "a horse"),
)
_REPLY_TOKENS = 32


def regularisation_examples(base: Base, n: int = len(_QUESTIONS) * len(_TOPICS)) -> list[Example]:
    """Return up to 48 prompts with the bare model's reply to each, without empty replies.

    No fleet may be around the base. The result is deterministic for a base and its precision.
    """
    questions = [question.format(topic) for question in _QUESTIONS for topic in _TOPICS][:n]
    prompts = [base.chat.direct_prompt_ids([Message("user", question)]) for question in questions]
    replies = generate(base, prompts, max_new_tokens=_REPLY_TOKENS)
    pairs = zip(questions, replies, strict=True)
    return [from_pair(question, reply.strip()) for question, reply in pairs if reply.strip()]
