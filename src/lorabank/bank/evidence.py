"""Evidence: does the text that was found answer the question, or only speak of the same things?

What was never told of someone who is in the text is told apart by the sentence that supports the
question best: the share of the question it has, plus the nats per token by which reading it raises
the likelihood of the very question (query likelihood, as in UPR, arXiv:2204.07496). What that is
worth as a probability, a logistic regression says (gate.py), fitted on the bank's own examples:
each with what is found for it, and once more with what is found where every passage that has its
answer is held out. Nobody labels anything.
"""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lorabank.bank.coverage import words
from lorabank.bank.excerpts import N_EXCERPTS, Excerpt, Excerpts
from lorabank.bank.forgetting import parcel_of
from lorabank.bank.gate import Case, Gate, Row, fit
from lorabank.bank.kept import DOCUMENTS
from lorabank.bank.reading import Reader
from lorabank.bank.writing import EXAMPLES
from lorabank.engine.reranker import likelihoods
from lorabank.retrieval.keys import sentence_spans
from lorabank.retrieval.terms import stems_of_empty
from lorabank.tasks.examples import Example

SENTENCES = 3
"""Read for a question, those that share most with it."""
QUESTIONS = 32
"""To calibrate on."""
_SAMPLED = 4 * QUESTIONS  # as not every answer is a piece of the text
FEWEST = 8
"""Below, there is no calibration."""
_SEARCHED = 8 * N_EXCERPTS  # to find passages without the answer in
_KEPT = "evidence.json"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for the text."""

    support: float
    """Of the sentence that supports the question best, coverage plus gain in nats per token."""
    coverage: float
    """Share of the question in the sentence that has most of it."""
    n_tokens: int
    """Read to find out."""

    @property
    def row(self) -> Row:
        """As the judge takes it."""
        return (self.support,)


def weigh(
    reader: Reader,
    excerpts: Excerpts,
    questions: Sequence[str],
    found: Sequence[Sequence[Excerpt]],
) -> list[Evidence | None]:
    """Of what was found for each question; None where that is nothing."""
    best = [_best(excerpts, q, some) for q, some in zip(questions, found, strict=True)]
    pairs = [
        (sentence, question)
        for question, some in zip(questions, best, strict=True)
        if some
        for sentence in ("", *(sentence for _, sentence in some))
    ]
    count = excerpts.count
    nats = iter(likelihoods(reader.base, pairs))
    weighed: list[Evidence | None] = []
    for question, some in zip(questions, best, strict=True):
        if not some:
            weighed.append(None)
            continue
        n = count(question)
        alone = next(nats)
        support = max(covered + (next(nats) - alone) / n for covered, _ in some)
        n_tokens = sum(count(sentence) + n for _, sentence in some) + n
        weighed.append(Evidence(support, some[0][0], n_tokens))
    return weighed


def calibrate(reader: Reader, excerpts: Excerpts) -> Gate | None:
    """The judge of evidence for the bank as it is; None where too few examples have their answer
    in the bank's documents.
    """
    if kept := excerpts.texts.derived(_KEPT):
        content = json.loads(kept)
        return Gate.from_json(content) if content else None
    examples = _sample(reader)
    found = excerpts.search([e.question for e in examples], k=_SEARCHED) if examples else []
    told = [
        (example, [excerpt for excerpt in some if not _tells(excerpt, example)], some)
        for example, some in zip(examples, found, strict=True)
        if any(_tells(excerpt, example) for excerpt in some[:N_EXCERPTS])
    ][:QUESTIONS]
    questions = [example.question for example, *_ in told]
    as_is = weigh(reader, excerpts, questions, [some[:N_EXCERPTS] for *_, some in told])
    without = weigh(reader, excerpts, questions, [rest[:N_EXCERPTS] for _, rest, _ in told])
    cases = [
        Case(has.row, (lacks.row,))
        for has, lacks in zip(as_is, without, strict=True)
        if has and lacks
    ]
    gate = fit(cases) if len(cases) >= FEWEST else None
    excerpts.texts.keep(_KEPT, json.dumps(gate.as_json() if gate else None).encode())
    return gate


def _sample(reader: Reader) -> list[Example]:
    """Examples of modules with documents, the same of each, in an order that only the bank sets."""
    versions = [v for v in reader.store.currents() if {DOCUMENTS, EXAMPLES} <= set(v.files)]
    rng = random.Random(f"evidence/{len(versions)}")
    sampled: list[Example] = []
    for version in versions:
        examples = parcel_of(reader, version).examples
        n = max(1, _SAMPLED // len(versions))
        sampled += rng.sample(examples, min(n, len(examples)))
    rng.shuffle(sampled)
    return sampled[:_SAMPLED]


def _best(excerpts: Excerpts, question: str, found: Sequence[Excerpt]) -> list[tuple[float, str]]:
    """(coverage, sentence), the best first."""
    texts = (excerpt.chunk.text for excerpt in found)
    sentences = dict.fromkeys(text[a:b] for text in texts for a, b in sentence_spans(text))
    scored = [(excerpts.covered(question, sentence)[0], sentence) for sentence in sentences]
    return sorted(scored, key=lambda one: -one[0])[:SENTENCES]


def _tells(excerpt: Excerpt, example: Example) -> bool:
    """Whether a sentence has the answer and something of what is asked."""
    text = excerpt.chunk.text
    answer = re.compile(rf"(?<!\w){re.escape(example.answer.strip())}(?!\w)", re.IGNORECASE)
    asked = words(example.question) - stems_of_empty()
    return any(
        answer.search(text, a, b) and asked & words(text[a:b]) for a, b in sentence_spans(text)
    )
