"""Assembling items into examples: every prompt once, and contradictions between documents reported.

A question that two documents answer in the same way gives one example. If their answers differ,
both are used, each with its source named in the question. Within one document the first answer
counts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lorabank.retrieval.terms import words_of
from lorabank.synthesis.coverage import measure_coverage
from lorabank.synthesis.facts import sources_from_facts
from lorabank.synthesis.format_tasks import FormatTask
from lorabank.synthesis.formats import Format, FormatKind
from lorabank.synthesis.item_checks import QUESTION_WORDS, normalise, numbers_in
from lorabank.synthesis.prompts import training_question
from lorabank.synthesis.results import Contradiction, MadeExample, RefusedExample, SynthesisOutcome
from lorabank.synthesis.sources import SourceText
from lorabank.tasks.examples import from_pair
from lorabank.tasks.scoring.text_metrics import token_f1

_AGREEING = 0.5  # token F1 from which two answers say the same in other words


def facts_of(task: FormatTask) -> list[SourceText]:
    """Return the questions of a task with their answers, to make variants of."""
    pairs = [from_pair(item.question, item.answer) for item in task.chosen]
    origin = task.source
    return [
        replace(
            fact_source,
            title=origin.title,
            document_label=origin.document_label,
            section=origin.section,
            start=origin.start,
            end=origin.end,
        )
        for fact_source in sources_from_facts(origin.document, pairs)
    ]


def assemble(
    outcome: SynthesisOutcome,
    sources: Sequence[SourceText],
    formats: Sequence[Format],
    tasks: Sequence[FormatTask],
) -> None:
    """Set the examples, the coverage and the contradictions of an outcome."""
    with_original = any(format_.kind is FormatKind.ORIGINAL for format_ in formats)
    outcome.wanted = sum(task.format.count for task in tasks) + with_original * len(sources)
    first: dict[str, tuple[MadeExample, SourceText]] = {}
    disputed: set[str] = set()
    for made, source in _all_made(sources, tasks, with_original=with_original):
        earlier, origin = first.setdefault(normalise(made.prompt), (made, source))
        if earlier is made:
            continue
        if agree(earlier.answer, made.answer):
            outcome.refused.append(_refused("said before", made, source))
            continue
        outcome.contradictions.append(
            Contradiction(
                made.prompt,
                (earlier.answer, made.answer),
                (origin.document_label, source.document_label),
            )
        )
        if earlier.document == made.document:
            outcome.refused.append(_refused("contradicts its own document", made, source))
            continue
        disputed.add(normalise(made.prompt))
        for example, example_source in ((earlier, origin), (made, source)):
            named = replace(
                example, prompt=according_to(example_source.document_label, example.prompt)
            )
            first.setdefault(normalise(named.prompt), (named, example_source))
    examples = [made for key, (made, _) in first.items() if key not in disputed]
    place = {source.document: i for i, source in enumerate(sources)}
    outcome.made = sorted(examples, key=lambda made: (place[made.document], made.start))
    outcome.documents_without_examples = [
        document for document in place if document not in {made.document for made in examples}
    ]
    for task in tasks:
        if task.format.kind is FormatKind.QA:
            outcome.coverage += measure_coverage(task.source.text, task.chosen)


def agree(answer: str, other: str) -> bool:
    """Return whether two answers say the same: similar words, and the same numbers."""
    return numbers_in(answer) == numbers_in(other) and (
        normalise(answer) == normalise(other) or token_f1(answer, other) >= _AGREEING
    )


def according_to(work: str, question: str) -> str:
    """Return the question with its source named in front."""
    first, remainder = question[:1], question[1:]
    is_asking = words_of(question)[0] in QUESTION_WORDS
    return f"According to {work}, {first.lower() if is_asking else first}{remainder}"


def _all_made(
    sources: Sequence[SourceText], tasks: Sequence[FormatTask], *, with_original: bool
) -> Iterator[tuple[MadeExample, SourceText]]:
    for source in sources if with_original else ():
        prompt = (
            source.fact.question
            if source.fact
            else training_question(source, FormatKind.ORIGINAL, 1)
        )
        answer = source.fact.answer if source.fact else source.text
        yield _made(source, FormatKind.ORIGINAL, prompt, answer), source
    for task in tasks:
        kind, source = task.format.kind, task.source
        for number, item in enumerate(task.chosen, start=1):
            prompt = item.question or training_question(source, kind, number)
            made = _made(source, kind, prompt, item.answer)
            yield replace(made, rule=item.rule, sentence=item.sentence), source


def _made(source: SourceText, kind: FormatKind, prompt: str, answer: str) -> MadeExample:
    return MadeExample(
        prompt, answer, kind, source.document, source.section, source.start, source.end
    )


def _refused(reason: str, made: MadeExample, source: SourceText) -> RefusedExample:
    text = f"{made.prompt} {made.answer}"
    return RefusedExample(reason, made.format, made.document, source.label, text)
