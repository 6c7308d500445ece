"""Making training examples of documents: plan, request, check, and report what was refused.

Passages first, then variants of the questions made of them, if asked for. Each goes in rounds: all
requests of a round may run at once, and the next asks for what is missing still. Replies are kept
under what was asked, so a run that was killed or ran out of its budget goes on where it was when
started again.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from lorabank.errors import UsageError
from lorabank.synthesis import assembly
from lorabank.synthesis.budget import Budget, BudgetMeter
from lorabank.synthesis.cache import ReplyCache
from lorabank.synthesis.facts import sources_from_facts
from lorabank.synthesis.format_tasks import FormatTask
from lorabank.synthesis.formats import FORMAT_SIZES, Format, FormatKind, split_formats
from lorabank.synthesis.generators import (
    Generator,
    SamplingOptions,
    estimate_prompt_tokens,
    estimate_tokens,
)
from lorabank.synthesis.item_checks import HeldOutQuestions
from lorabank.synthesis.results import SynthesisOutcome
from lorabank.synthesis.sources import SourceText
from lorabank.synthesis.synthesis_run import OnReply, SynthesisRun
from lorabank.tasks.examples import from_pair


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """Estimated cost of the first round; later rounds ask for missing items."""

    calls: int
    cached: int
    """Requests that are in the cache already and cost nothing."""
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class SynthesisOptions:
    """Settings of a synthesis, its limits included."""

    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    budget: Budget = field(default_factory=Budget)
    held_out: Sequence[str] = ()
    """Questions kept for measuring, which must not be trained on."""
    skip_failed: bool = False
    """Whether to go on without the documents that no example could be made of."""


def estimate_cost(
    sources: Sequence[SourceText],
    formats: Sequence[Format],
    generator: Generator,
    cache: ReplyCache | None,
    *,
    sampling: SamplingOptions,
) -> CostEstimate:
    """Estimate the cost from the lengths of the texts; no request is sent."""
    of_passages, of_facts = split_formats(formats)
    tasks = _tasks(sources, of_passages, of_facts)
    if of_facts and not sources[0].fact:
        # One question stands for all, because they are not written yet.
        n = next(format_.count for format_ in of_passages if format_.kind is FormatKind.QA)
        stand_in = from_pair("What is the name of the thing that this is about?", "A short answer.")
        tasks += _tasks(sources_from_facts("", [stand_in] * n) * len(sources), (), of_facts)
    calls = cached = prompts = completions = 0
    for task in tasks:
        for request in task.requests(generator, sampling, 0):
            if cache is not None and cache.get(generator, request):
                cached += 1
                continue
            calls += 1
            prompts += estimate_prompt_tokens(request)
        n = task.format.count - len(task.items)
        completions += n * FORMAT_SIZES[task.format.kind].item_tokens(
            estimate_tokens(task.source.text)
        )
    if calls + cached:
        completions = round(completions * calls / (calls + cached))
    return CostEstimate(calls, cached, prompts, completions)


def synthesise(
    sources: Sequence[SourceText],
    formats: Sequence[Format],
    generator: Generator,
    cache: ReplyCache | None,
    options: SynthesisOptions | None = None,
    *,
    on_reply: OnReply | None = None,
) -> SynthesisOutcome:
    """Make examples of the source texts, as far as replies are usable and the budget allows.

    Args:
        cache: None for a generator that costs nothing to ask again.

    Raises:
        UsageError: the formats do not fit the sources, or a document got no usable item at all.
        UnavailableError: the generator cannot be reached any more; its replies are cached.
    """
    options = options or SynthesisOptions()
    of_passages, of_facts = split_formats(formats)
    started = time.perf_counter()
    tasks = _tasks(sources, of_passages, of_facts)
    run = SynthesisRun(
        generator,
        cache,
        options.sampling,
        BudgetMeter(options.budget),
        HeldOutQuestions(options.held_out),
        on_reply,
    )
    run.run(tasks)
    if of_facts and not sources[0].fact:
        questions = [task for task in tasks if task.format.kind is FormatKind.QA]
        more = [fact for task in questions for fact in assembly.facts_of(task)]
        variants = _tasks(more, (), of_facts) if more else []
        run.run(variants)
        tasks += variants
    failure = run.failure()
    if failure is not None and not options.skip_failed:
        raise failure
    outcome = SynthesisOutcome(
        generator.name,
        ",".join(map(str, formats)),
        documents=len({source.document for source in sources}),
        passages=len(sources),
        refused=run.refused,
        calls=run.meter.calls,
        cached_replies=run.cached_replies,
        prompt_tokens=run.meter.prompt_tokens,
        completion_tokens=run.meter.completion_tokens,
        over_budget=run.over_budget,
    )
    assembly.assemble(outcome, sources, formats, tasks)
    outcome.seconds = time.perf_counter() - started
    return outcome


def _tasks(
    sources: Sequence[SourceText], of_passages: Sequence[Format], of_facts: Sequence[Format]
) -> list[FormatTask]:
    """Return the tasks format by format, so that neighbouring requests share their limits."""
    are_facts = any(source.fact for source in sources)
    if (
        not are_facts
        and of_facts
        and FormatKind.QA not in [format_.kind for format_ in of_passages]
    ):
        raise UsageError(
            f"--formats: {of_facts[0]} is made of questions; add qa:N, or give a facts file"
        )
    of_texts = [form for form in of_passages if form.kind is not FormatKind.ORIGINAL]
    if are_facts and of_texts:
        raise UsageError(
            f"--formats: {of_texts[0]} is made of documents, and facts are given; allowed for "
            "facts are paraphrase:N, reverse and original"
        )
    return [
        FormatTask(source, form)
        for form in (of_facts if are_facts else of_texts)
        for source in sources
    ]
