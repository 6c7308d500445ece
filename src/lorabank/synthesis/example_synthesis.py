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
    RULES,
    Generator,
    SamplingOptions,
    estimate_prompt_tokens,
    estimate_tokens,
)
from lorabank.synthesis.item_checks import HeldOutQuestions
from lorabank.synthesis.results import SynthesisOutcome
from lorabank.synthesis.rule_questions import MOST_BY_RULE, fill_by_rule
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
    fills_by_rule: bool = False
    """Whether rules make the questions that the generator did not; always without a generator."""
    most_by_rule: int = MOST_BY_RULE
    """Most examples that rules make of one document."""

    def __post_init__(self) -> None:
        """Check the number of examples."""
        if self.most_by_rule < 1:
            raise UsageError(f"--by-rule must be at least 1, got {self.most_by_rule}")


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
    generator: Generator | None,
    cache: ReplyCache | None,
    options: SynthesisOptions | None = None,
    *,
    on_reply: OnReply | None = None,
) -> SynthesisOutcome:
    """Make examples of the source texts, as far as replies are usable and the budget allows.

    Args:
        generator: None for questions made by rule alone.
        cache: None for a generator that costs nothing to ask again.

    Raises:
        UsageError: the formats do not fit the sources or need a generator, or a document got no
            usable item at all.
        UnavailableError: the generator cannot be reached any more; its replies are cached.
    """
    options = options or SynthesisOptions()
    of_passages, of_facts = split_formats(formats)
    started = time.perf_counter()
    tasks = _tasks(sources, of_passages, of_facts)
    outcome = SynthesisOutcome(
        generator.name if generator else RULES,
        ",".join(map(str, formats)),
        documents=len({source.document for source in sources}),
        passages=len(sources),
    )
    held_out = HeldOutQuestions(options.held_out)
    if generator is None:
        _refuse_formats(formats, sources)
    else:
        run = SynthesisRun(
            generator, cache, options.sampling, BudgetMeter(options.budget), held_out, on_reply
        )
        run.run(tasks)
        if of_facts and not sources[0].fact:
            questions = [task for task in tasks if task.format.kind is FormatKind.QA]
            more = [fact for task in questions for fact in assembly.facts_of(task)]
            variants = _tasks(more, (), of_facts) if more else []
            run.run(variants)
            tasks += variants
        failure = run.failure()
        if failure is not None and not (options.skip_failed or options.fills_by_rule):
            raise failure
        _count(outcome, run)
    if generator is None or options.fills_by_rule:
        by_rule = fill_by_rule(tasks, held_out, most=options.most_by_rule)
        outcome.refused += by_rule.refused
        outcome.left_by_rule = by_rule.n_left
    assembly.assemble(outcome, sources, formats, tasks)
    outcome.seconds = time.perf_counter() - started
    return outcome


def _count(outcome: SynthesisOutcome, run: SynthesisRun) -> None:
    """Set what a generator's replies were and cost."""
    outcome.refused = run.refused
    outcome.calls, outcome.cached_replies = run.meter.calls, run.cached_replies
    outcome.prompt_tokens = run.meter.prompt_tokens
    outcome.completion_tokens = run.meter.completion_tokens
    outcome.over_budget = run.over_budget


def _refuse_formats(formats: Sequence[Format], sources: Sequence[SourceText]) -> None:
    """Refuse the formats that rules cannot make of documents."""
    allowed = (FormatKind.QA, FormatKind.ORIGINAL)
    if sources[0].fact:
        raise UsageError("rules make questions of documents, and facts are given")
    if others := [format_ for format_ in formats if format_.kind not in allowed]:
        raise UsageError(
            f"--formats: rules make qa:N and original, not {others[0]}; name a --generator for "
            "it, local or openai:MODEL"
        )


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
