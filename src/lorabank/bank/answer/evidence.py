"""Evidence: does the text that was found answer the question, or only speak of the same things?

What was never told of someone who is in the text is told apart by sentences. A few are read, those
that share most with the question and those most like it, and the one that leaves the least of it
unexplained speaks for the text: by the nats that the words of the question which are not in it cost
after reading it (query likelihood, as in UPR, arXiv:2204.07496, without what can be copied), by how
far reading it makes the whole question likelier, and by how alike the rest of both is. What that is
worth as a probability, a logistic regression says (gate.py), fitted on the bank's own examples:
each with what is found for it, and once more with what is found where every passage that has its
answer is held out. Nobody labels anything.
"""

import json
import logging
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lorabank.bank.answer.excerpts import N_EXCERPTS, Excerpt, Excerpts
from lorabank.bank.answer.gate import CalibrationCase, FeatureRow, Gate, fit_gate
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.word_coverage import stems
from lorabank.bank.write.drafts import EXAMPLES
from lorabank.bank.write.stored_text import DOCUMENTS
from lorabank.engine.backbone.base import Base
from lorabank.engine.inference.embedder import Embedder
from lorabank.engine.inference.reranker import question_token_log_likelihoods
from lorabank.retrieval.indexed_texts import sentence_spans
from lorabank.retrieval.terms import stem, stop_word_stems
from lorabank.tasks.examples import Example

N_SENTENCES = 3
"""Read for a question of those that share most with it, and as many of those most like it."""
N_QUESTIONS = 32
"""To calibrate on."""
_SAMPLED = 4 * N_QUESTIONS  # as not every answer is a piece of the text
FEWEST_CASES = 8
"""Below, there is no calibration."""
_SEARCHED = 8 * N_EXCERPTS  # to find passages without the answer in
_log = logging.getLogger(__name__)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for the text: of the sentence that leaves least of the question unexplained."""

    unexplained: float
    """Nats, at most 0: the log-probability of the question's words that are not in the sentence."""
    support: float
    """Share of the question in the sentence, plus the nats per token that reading it gains."""
    similarity: float
    """Cosine of what either has and the other has not; 0 without an embedder."""
    coverage: float
    """Share of the question in the sentence that has most of it, whichever that is."""
    n_tokens: int
    """Read to find out."""

    @property
    def features(self) -> FeatureRow:
        """As the judge takes it."""
        return (self.unexplained, self.support, self.similarity)


@dataclass(frozen=True, slots=True)
class _Sentence:
    text: str
    coverage: float


def weigh_evidence(
    reader: ModuleReader,
    excerpts: Excerpts,
    questions: Sequence[str],
    found: Sequence[Sequence[Excerpt]],
) -> list[Evidence | None]:
    """Of what was found for each question; None where that is nothing."""
    embedder = excerpts.texts.embedder()
    there = [_sentences(some) for some in found]
    vectors: dict[str, np.ndarray] = {}
    if embedder:
        texts = list(dict.fromkeys([*questions, *(text for some in there for text in some)]))
        vectors = dict(zip(texts, embedder.embed(texts), strict=True))
    few = [_few(excerpts, q, some, vectors) for q, some in zip(questions, there, strict=True)]
    pairs = dict.fromkeys(
        (text, question)
        for question, some in zip(questions, few, strict=True)
        if some
        for text in ("", *(one.text for one in some))
    )
    nats = dict(zip(pairs, question_token_log_likelihoods(reader.base, list(pairs)), strict=True))
    weighed: list[Evidence | None] = []
    for question, some in zip(questions, few, strict=True):
        if not some:
            weighed.append(None)
            continue
        alone = nats["", question]
        read = [(nats[one.text, question], one) for one in some]
        left = [_unexplained(reader.base, question, one.text, after) for after, one in read]
        best = max(range(len(some)), key=left.__getitem__)
        after, sentence = read[best]
        gain = (sum(after) - sum(alone)) / len(alone)
        weighed.append(
            Evidence(
                left[best],
                sentence.coverage + gain,
                _likeness(embedder, question, sentence.text),
                max(one.coverage for one in some),
                sum(excerpts.count_tokens(one.text) + len(alone) for one in some) + len(alone),
            )
        )
    return weighed


def calibrate_text_gate(reader: ModuleReader, excerpts: Excerpts) -> Gate | None:
    """The judge of evidence for the bank as it is; None where too few examples have their answer
    in the bank's documents.
    """
    name = "evidence.json" if excerpts.texts.embedder() else "evidence-by-words.json"
    if kept := excerpts.texts.read_derived(name):
        content = json.loads(kept)
        return Gate.from_json(content) if content else None
    started = time.perf_counter()
    examples = _sample(reader)
    found = excerpts.search([e.question for e in examples], k=_SEARCHED) if examples else []
    told = [
        (example, [excerpt for excerpt in some if not _tells(excerpt, example)], some)
        for example, some in zip(examples, found, strict=True)
        if any(_tells(excerpt, example) for excerpt in some[:N_EXCERPTS])
    ][:N_QUESTIONS]
    questions = [example.question for example, *_ in told]
    if questions:
        _log.info("calibrating texts on %d questions, once for the bank as it is", len(questions))
    as_is = [some[:N_EXCERPTS] for *_, some in told]
    without = [rest[:N_EXCERPTS] for _, rest, _ in told]
    weighed = weigh_evidence(
        reader, excerpts, questions * 2, as_is + without
    )  # much is read for both
    cases = [
        CalibrationCase(has.features, (lacks.features,))
        for has, lacks in zip(weighed[: len(told)], weighed[len(told) :], strict=True)
        if has and lacks
    ]
    gate = None
    if len(cases) >= FEWEST_CASES:
        gate = replace(fit_gate(cases), seconds=time.perf_counter() - started)
    excerpts.texts.write_derived(name, json.dumps(gate.as_json() if gate else None).encode())
    return gate


def _sample(reader: ModuleReader) -> list[Example]:
    """Examples of modules with documents, the same of each, in an order that only the bank sets."""
    versions = [v for v in reader.store.current_versions() if {DOCUMENTS, EXAMPLES} <= set(v.files)]
    rng = random.Random(f"evidence/{len(versions)}")
    sampled: list[Example] = []
    for version in versions:
        examples = reader.read_draft(version).examples
        n = max(1, _SAMPLED // len(versions))
        sampled += rng.sample(examples, min(n, len(examples)))
    rng.shuffle(sampled)
    return sampled[:_SAMPLED]


def _sentences(found: Sequence[Excerpt]) -> list[str]:
    """Of all excerpts, each once."""
    texts = (excerpt.chunk.text for excerpt in found)
    return list(dict.fromkeys(text[a:b] for text in texts for a, b in sentence_spans(text)))


def _few(
    excerpts: Excerpts, question: str, sentences: Sequence[str], vectors: Mapping[str, np.ndarray]
) -> list[_Sentence]:
    """The sentences to read, each once; without vectors those that share most alone."""
    covered = [excerpts.measure_coverage(question, sentence)[0] for sentence in sentences]
    order = sorted(range(len(sentences)), key=lambda i: -covered[i])[:N_SENTENCES]
    if vectors:
        alike = [float(vectors[question] @ vectors[sentence]) for sentence in sentences]
        order += sorted(range(len(sentences)), key=lambda i: -alike[i])[:N_SENTENCES]
    return [_Sentence(sentences[i], covered[i]) for i in dict.fromkeys(order)]


def _unexplained(base: Base, question: str, sentence: str, nats: Sequence[float]) -> float:
    """The nats of those tokens of a question that belong to no word of the sentence."""
    there = stems(sentence)
    pieces = [base.chat.tokenizer.decode([token]) for token in base.chat.answer_ids(question)[:-1]]
    text, starts = "", []
    for piece in pieces:
        starts.append(len(text))
        text += piece
    copied = [m.span() for m in _WORD.finditer(text) if stem(m.group().lower()) in there]
    return sum(
        nat
        for nat, start, piece in zip(nats, starts, pieces, strict=True)
        if not any(a < start + len(piece) and start < b for a, b in copied)
    )


def _likeness(embedder: Embedder | None, question: str, sentence: str) -> float:
    if embedder is None:
        return 0.0
    one, other = embedder.embed([_less(question, sentence), _less(sentence, question)])
    return float(one @ other)


def _less(text: str, other: str) -> str:
    """The words of a text that another has not; all of it where that is none."""
    there = stems(other)
    rest = [word for word in _WORD.findall(text) if stem(word.lower()) not in there]
    return " ".join(rest) or text


def _tells(excerpt: Excerpt, example: Example) -> bool:
    """Whether a sentence has the answer and something of what is asked."""
    text = excerpt.chunk.text
    answer = re.compile(rf"(?<!\w){re.escape(example.answer.strip())}(?!\w)", re.IGNORECASE)
    asked = stems(example.question) - stop_word_stems()
    return any(
        answer.search(text, a, b) and asked & stems(text[a:b]) for a, b in sentence_spans(text)
    )
