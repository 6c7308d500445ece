"""Documents into examples to train on: plan, ask, check, and say what was refused.

Passages first, then variants of the questions made of them, if asked for. Each goes in rounds: all
requests of a round may run at once, and the next asks for what is missing still. Replies are kept
under what was asked, so a run that was killed or ran out of its budget goes on where it was when
started again.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from lorabank.errors import UsageError
from lorabank.synthesis import assembly
from lorabank.synthesis.budget import Budget, Meter
from lorabank.synthesis.cache import ReplyCache
from lorabank.synthesis.facts import from_facts
from lorabank.synthesis.formats import SIZES, Format, Kind, split
from lorabank.synthesis.generators import (
    Generator,
    estimate_prompt,
    estimate_tokens,
)
from lorabank.synthesis.pieces import Piece
from lorabank.synthesis.quality import HeldOut
from lorabank.synthesis.results import SynthesisOutcome
from lorabank.synthesis.rounds import OnReply, Rounds
from lorabank.synthesis.tasks import SamplingOptions, Task
from lorabank.tasks.examples import from_pair


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the first round asks for; later rounds ask for what is missing after it."""

    calls: int
    kept: int
    """Requests that are in the cache already, and cost nothing."""
    prompt_tokens: int
    completion_tokens: int


def estimate(
    pieces: Sequence[Piece],
    formats: Sequence[Format],
    generator: Generator,
    cache: ReplyCache | None,
    *,
    way: SamplingOptions,
) -> Estimate:
    """What it would take, by the length of texts; nothing is asked."""
    of_passages, of_facts = split(formats)
    tasks = _tasks(pieces, of_passages, of_facts)
    if of_facts and not pieces[0].fact:
        # One question stands for all: they are not written yet.
        n = next(one.count for one in of_passages if one.kind is Kind.QA)
        stand_in = from_pair("What is the name of the thing that this is about?", "A short answer.")
        tasks += _tasks(from_facts("", [stand_in] * n) * len(pieces), (), of_facts)
    calls = kept = prompts = completions = 0
    for task in tasks:
        for request in task.requests(generator, way, 0):
            if cache is not None and cache.get(generator, request):
                kept += 1
                continue
            calls += 1
            prompts += estimate_prompt(request)
        n = task.format.count - len(task.items)
        completions += n * SIZES[task.format.kind].item_tokens(estimate_tokens(task.piece.text))
    if calls + kept:
        completions = round(completions * calls / (calls + kept))
    return Estimate(calls, kept, prompts, completions)


def synthesise(
    pieces: Sequence[Piece],
    formats: Sequence[Format],
    generator: Generator,
    cache: ReplyCache | None,
    *,
    way: SamplingOptions,
    budget: Budget | None = None,
    held_out: Sequence[str] = (),
    skip_failed: bool = False,
    on_reply: OnReply | None = None,
) -> SynthesisOutcome:
    """Examples of the pieces, as far as the generator writes what is fit and the budget goes.

    Args:
        cache: None for a generator that costs nothing to ask again.
        held_out: questions that will be used for measuring, which must not be trained on.
        skip_failed: only name the documents of which nothing is fit.

    Raises:
        UsageError: formats that do not go with the pieces, or a document of which the generator
            gave nothing fit at all. UnavailableError: the generator cannot be reached any more.
            What was answered until then is in the cache.
    """
    of_passages, of_facts = split(formats)
    started = time.perf_counter()
    tasks = _tasks(pieces, of_passages, of_facts)
    run = Rounds(generator, cache, way, Meter(budget or Budget()), HeldOut(held_out), on_reply)
    run.go(tasks)
    if of_facts and not pieces[0].fact:
        more = [
            piece
            for task in tasks
            if task.format.kind is Kind.QA
            for piece in assembly.facts_of(task)
        ]
        variants = _tasks(more, (), of_facts) if more else []
        run.go(variants)
        tasks += variants
    failure = run.failure()
    if failure is not None and not skip_failed:
        raise failure
    outcome = SynthesisOutcome(
        generator.name,
        ",".join(map(str, formats)),
        documents=len({piece.document for piece in pieces}),
        passages=len(pieces),
        refused=run.refused,
        calls=run.meter.calls,
        cached_replies=run.kept,
        prompt_tokens=run.meter.prompt_tokens,
        completion_tokens=run.meter.completion_tokens,
        not_asked=run.not_asked,
    )
    assembly.assemble(outcome, pieces, formats, tasks)
    outcome.seconds = time.perf_counter() - started
    return outcome


def _tasks(
    pieces: Sequence[Piece], of_passages: Sequence[Format], of_facts: Sequence[Format]
) -> list[Task]:
    """Format by format, so that neighbouring requests are alike."""
    are_facts = any(piece.fact for piece in pieces)
    if not are_facts and of_facts and Kind.QA not in [one.kind for one in of_passages]:
        raise UsageError(
            f"--formats: {of_facts[0]} is made of questions; add qa:N, or give a facts file"
        )
    asked = [one for one in of_passages if one.kind is not Kind.ORIGINAL]
    if are_facts and asked:
        raise UsageError(
            f"--formats: {asked[0]} is made of documents, and facts are given; allowed for facts "
            "are paraphrase:N, reverse and original"
        )
    return [Task(piece, one) for one in (of_facts if are_facts else asked) for piece in pieces]
