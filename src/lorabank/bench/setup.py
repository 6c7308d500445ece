"""Shared parts of the benches: facts to learn, equal starting weights, empty caches."""

from dataclasses import replace

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.caches import (
    new_document_cache,
    new_layer_input_cache,
    new_prompt_cache,
    new_teacher_cache,
)
from lorabank.engine.fleet.fleet import Fleet, Weights
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import PLAIN
from lorabank.engine.training.jobs import Job
from lorabank.engine.training.train import train
from lorabank.tasks.examples import Example, Message
from lorabank.tasks.synthetic import phonebook

ALWAYS_ON = replace(PLAIN, activated=False)
"""The sound recipe as plain PEFT can do it."""


def book(size: int, *, seed: int = 0) -> list[Example]:
    return phonebook.to_examples(phonebook.build(size, seed=seed))


def long_book(base: Base, size: int, *, prompt_tokens: int) -> list[Example]:
    """Return phone-book examples whose prompts are filled up with other entries, all distinct."""
    filler = book(size * prompt_tokens // 16 + 1, seed=1)
    lines = [f"{example.question} {example.answer}\n" for example in filler]
    examples = []
    for example in book(size):
        text = example.question
        while True:
            longer = lines.pop() + text
            if len(base.chat.prompt_ids([Message("user", longer)])) > prompt_tokens:
                break
            text = longer
        examples.append(Example((Message("user", text),), example.answer))
    return examples


def start_weights(base: Base, job: Job) -> Weights:
    """Return the weights a job's adapter starts from, so that the peer can start from them too."""
    s = job.settings
    fleet = Fleet(base, paths=job.paths, r=s.r)
    fleet.initialise(0, s, job.paths)
    return fleet.extract(0, r=s.r, paths=job.paths)


def empty_caches(base: Base) -> None:
    """Empty the caches of the base, so that a run pays for all that it uses."""
    base.prompt_cache, base.layer_input_cache = new_prompt_cache(), new_layer_input_cache()
    base.teacher_cache, base.document_cache = new_teacher_cache(), new_document_cache()


def warm_up(base: Base) -> None:
    """Train a little, so that no side pays for reading the weights from disk the first time."""
    train(base, [plan_job(base, book(8), replace(ALWAYS_ON, exposures=1, until_recall=None))])
