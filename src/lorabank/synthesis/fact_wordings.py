"""Wordings of facts that a generator writes, checked as all examples that it writes are."""

from collections.abc import Sequence
from dataclasses import dataclass

from lorabank.synthesis.cache import ReplyCache
from lorabank.synthesis.example_synthesis import SynthesisOptions, synthesise
from lorabank.synthesis.facts import sources_from_facts
from lorabank.synthesis.formats import parse_formats
from lorabank.synthesis.generators import Generator, SamplingOptions
from lorabank.synthesis.results import RefusedExample
from lorabank.synthesis.synthesis_run import OnReply
from lorabank.tasks.examples import Example


@dataclass(frozen=True, slots=True)
class WrittenWordings:
    """Wordings by fact, in the order of the facts, and those that were not fit to teach."""

    by_fact: list[list[str]]
    refused: list[RefusedExample]


def write_wordings(
    facts: Sequence[Example],
    n: int,
    generator: Generator,
    cache: ReplyCache | None,
    *,
    seed: int,
    on_reply: OnReply | None = None,
) -> WrittenWordings:
    """Have a generator put questions in other words, without losing their names and numbers.

    Facts that have `n` wordings already, and conversations, are not given to it.

    Args:
        n: wordings a fact shall have, its own and the given ones included.

    Raises:
        UnavailableError: the generator cannot be reached any more; its replies are cached.
    """
    numbers = {
        f"fact {i}": i
        for i, fact in enumerate(facts)
        if len(fact.prompt) == 1 and len(fact.questions) < n
    }
    sources = [
        source for name, i in numbers.items() for source in sources_from_facts(name, [facts[i]])
    ]
    by_fact: list[list[str]] = [[] for _ in facts]
    if not sources:
        return WrittenWordings(by_fact, [])
    synthesis = synthesise(
        sources,
        parse_formats(f"paraphrase:{n - 1}"),
        generator,
        cache,
        SynthesisOptions(SamplingOptions(seed=seed), skip_failed=True),
        on_reply=on_reply,
    )
    for made in synthesis.made:
        by_fact[numbers[made.document]].append(made.prompt)
    return WrittenWordings(by_fact, synthesis.refused)
