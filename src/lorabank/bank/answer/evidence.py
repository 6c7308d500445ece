"""Evidence: does the text that was found answer the question, or is it only on the same topic?

A few sentences are read: those that share most words with the question and those most similar to
it. The one that leaves least of the question unexplained is the evidence, by three features:

    unexplained   log-likelihood, after reading it, of the question's words that are not in it
                  (query likelihood as in UPR, arXiv:2204.07496, without what can be copied)
    support       share of the question in it, plus how much likelier reading it makes the question
    similarity    cosine of the words that only one of the two has

A logistic regression (gate.py) makes a probability of these. It is fitted on the bank's own
examples, each with the text found for it, and once more with the text found when every passage that
contains its answer is held out. No labels are needed.
"""

import logging
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lorabank.bank.answer.excerpts import N_EXCERPTS, Excerpt, Excerpts
from lorabank.bank.answer.gate import (
    CalibrationCase,
    FeatureRow,
    Gate,
    decode_gate,
    encode_gate,
    fit_gate,
)
from lorabank.bank.drafts import EXAMPLES
from lorabank.bank.module_reader import ExamplesError, ModuleReader
from lorabank.bank.route.word_coverage import stems
from lorabank.bank.stored_text import DOCUMENTS
from lorabank.engine.backbone.base import Base
from lorabank.engine.inference.embedder import Embedder
from lorabank.engine.inference.reranker import question_token_log_likelihoods
from lorabank.retrieval.sentences import sentence_spans
from lorabank.retrieval.terms import stem, stop_word_stems
from lorabank.tasks.examples import Example

N_SENTENCES = 3
"""Sentences read that share most words with a question, and as many that are most similar."""
N_QUESTIONS = 32
"""Most questions to calibrate on."""
_SAMPLED = 4 * N_QUESTIONS  # more are drawn, because not every answer occurs in the text
FEWEST_CASES = 8
"""Fewest questions to calibrate on; with fewer there is no gate."""
_SEARCHED = 8 * N_EXCERPTS  # passages searched, so that some without the answer are found
_log = logging.getLogger(__name__)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Evidence:
    """The sentence that leaves least of a question unexplained, by its features."""

    unexplained: float
    """Log-likelihood in nats, at most 0, of the question's words that are not in the sentence."""
    support: float
    """Share of the question in the sentence, plus the nats per token that reading it gains."""
    similarity: float
    """Cosine of the words that only one of the two has; 0 without an embedder."""
    coverage: float
    """Share of the question in the sentence that covers most of it, maybe another one."""
    n_tokens: int
    """Number of tokens read to measure this."""

    @property
    def features(self) -> FeatureRow:
        """Return the features that the gate judges."""
        return (self.unexplained, self.support, self.similarity)


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A sentence that is read for a question."""

    text: str
    coverage: float
    """Share of the question in it."""


@dataclass(frozen=True, slots=True)
class _CalibrationQuestion:
    """An example whose answer occurs in the text that was found for it."""

    question: str
    best: list[Excerpt]
    """Excerpts that fit the question best."""
    without_answer: list[Excerpt]
    """Excerpts that fit it best, of those that do not contain the answer."""


def weigh_evidence(
    reader: ModuleReader,
    excerpts: Excerpts,
    questions: Sequence[str],
    found_excerpts: Sequence[Sequence[Excerpt]],
) -> list[Evidence | None]:
    """Weigh the text that was found for each question; None where nothing was found.

    Args:
        found_excerpts: excerpts that were found for each question.
    """
    embedder = excerpts.texts.embedder()
    candidates = [_split_sentences(own) for own in found_excerpts]
    vectors: dict[str, np.ndarray] = {}
    if embedder:
        texts = list(dict.fromkeys([*questions, *(t for texts in candidates for t in texts)]))
        vectors = dict(zip(texts, embedder.embed(texts), strict=True))
    chosen = [
        _choose_sentences(excerpts, question, texts, vectors)
        for question, texts in zip(questions, candidates, strict=True)
    ]
    pairs = dict.fromkeys(
        (text, question)
        for question, sentences in zip(questions, chosen, strict=True)
        if sentences
        for text in ("", *(sentence.text for sentence in sentences))
    )
    nats = dict(zip(pairs, question_token_log_likelihoods(reader.base, list(pairs)), strict=True))
    weighed: list[Evidence | None] = []
    for question, sentences in zip(questions, chosen, strict=True):
        if not sentences:
            weighed.append(None)
            continue
        alone = nats["", question]
        after = [nats[sentence.text, question] for sentence in sentences]
        unexplained = [
            _sum_unexplained(reader.base, question, sentence.text, token_nats)
            for sentence, token_nats in zip(sentences, after, strict=True)
        ]
        best = max(range(len(sentences)), key=unexplained.__getitem__)
        gain = (sum(after[best]) - sum(alone)) / len(alone)
        n_read = sum(excerpts.count_tokens(s.text) + len(alone) for s in sentences) + len(alone)
        weighed.append(
            Evidence(
                unexplained[best],
                sentences[best].coverage + gain,
                _compare_differences(embedder, question, sentences[best].text),
                max(sentence.coverage for sentence in sentences),
                n_read,
            )
        )
    return weighed


def calibrate_text_gate(reader: ModuleReader, excerpts: Excerpts) -> Gate | None:
    """Return the judge of evidence for the bank as it is.

    None where too few examples have their answer in the bank's documents.
    """
    name = "evidence" if excerpts.texts.embedder() else "evidence-by-words"
    return excerpts.texts.derive(
        name, lambda: _fit(reader, excerpts), encode=encode_gate, decode=decode_gate
    )


def _fit(reader: ModuleReader, excerpts: Excerpts) -> Gate | None:
    started = time.perf_counter()
    questions = _find_calibration_questions(excerpts, _sample_examples(reader))
    n = len(questions)
    if questions:
        _log.info("calibrating texts on %d questions, once for the bank as it is", n)
    # Weighed in one call, since most sentences are read in both cases.
    evidence = weigh_evidence(
        reader,
        excerpts,
        [question.question for question in questions] * 2,
        [q.best for q in questions] + [q.without_answer for q in questions],
    )
    cases = [
        CalibrationCase(with_answer.features, (without.features,))
        for with_answer, without in zip(evidence[:n], evidence[n:], strict=True)
        if with_answer and without
    ]
    if len(cases) < FEWEST_CASES:
        return None
    return replace(fit_gate(cases), seconds=time.perf_counter() - started)


def _find_calibration_questions(
    excerpts: Excerpts, examples: Sequence[Example]
) -> list[_CalibrationQuestion]:
    """Search for each example, and keep those whose answer is in the best excerpts."""
    texts = [example.question for example in examples]
    searched = excerpts.search(texts, k=_SEARCHED) if examples else []
    return [
        _CalibrationQuestion(
            example.question,
            own[:N_EXCERPTS],
            [e for e in own if not _contains_answer(e, example)][:N_EXCERPTS],
        )
        for example, own in zip(examples, searched, strict=True)
        if any(_contains_answer(excerpt, example) for excerpt in own[:N_EXCERPTS])
    ][:N_QUESTIONS]


def _sample_examples(reader: ModuleReader) -> list[Example]:
    """Draw examples of modules with documents, as many of each, depending on the bank alone."""
    versions = [v for v in reader.store.current_versions() if {DOCUMENTS, EXAMPLES} <= set(v.files)]
    rng = random.Random(f"evidence/{len(versions)}")
    sampled: list[Example] = []
    for version in versions:
        try:
            examples = reader.read_draft(version).examples
        except ExamplesError as error:
            _log.warning("calibrated without a module: %s", error)
            continue
        n = max(1, _SAMPLED // len(versions))
        sampled += rng.sample(examples, min(n, len(examples)))
    rng.shuffle(sampled)
    return sampled[:_SAMPLED]


def _split_sentences(excerpts: Sequence[Excerpt]) -> list[str]:
    """Return the sentences of all excerpts, each once."""
    texts = (excerpt.chunk.text for excerpt in excerpts)
    return list(dict.fromkeys(text[a:b] for text in texts for a, b in sentence_spans(text)))


def _choose_sentences(
    excerpts: Excerpts, question: str, sentences: Sequence[str], vectors: Mapping[str, np.ndarray]
) -> list[_Sentence]:
    """Return the sentences to read, each once; without vectors those that share most words."""
    coverages = [excerpts.measure_coverage(question, sentence)[0] for sentence in sentences]
    order = sorted(range(len(sentences)), key=lambda i: -coverages[i])[:N_SENTENCES]
    if vectors:
        cosines = [float(vectors[question] @ vectors[sentence]) for sentence in sentences]
        order += sorted(range(len(sentences)), key=lambda i: -cosines[i])[:N_SENTENCES]
    return [_Sentence(sentences[i], coverages[i]) for i in dict.fromkeys(order)]


def _sum_unexplained(base: Base, question: str, sentence: str, nats: Sequence[float]) -> float:
    """Sum the log-likelihoods of those question tokens that belong to no word of the sentence.

    Args:
        nats: log-likelihood of each token of the question.
    """
    sentence_stems = stems(sentence)
    pieces = [base.chat.tokenizer.decode([token]) for token in base.chat.answer_text_ids(question)]
    text, starts = "", []
    for piece in pieces:
        starts.append(len(text))
        text += piece
    copied = [m.span() for m in _WORD.finditer(text) if stem(m.group().lower()) in sentence_stems]
    return sum(
        nat
        for nat, start, piece in zip(nats, starts, pieces, strict=True)
        if not any(a < start + len(piece) and start < b for a, b in copied)
    )


def _compare_differences(embedder: Embedder | None, question: str, sentence: str) -> float:
    """Return the cosine of the words that only the question has and only the sentence has."""
    if embedder is None:
        return 0.0
    of_question, of_sentence = embedder.embed(
        [_drop_shared_words(question, sentence), _drop_shared_words(sentence, question)]
    )
    return float(of_question @ of_sentence)


def _drop_shared_words(text: str, other: str) -> str:
    """Return the words of a text that another text lacks; the whole text if it lacks none."""
    other_stems = stems(other)
    words = [word for word in _WORD.findall(text) if stem(word.lower()) not in other_stems]
    return " ".join(words) or text


def _contains_answer(excerpt: Excerpt, example: Example) -> bool:
    """Return whether a sentence has the answer and a content word of the question."""
    text = excerpt.chunk.text
    answer = re.compile(rf"(?<!\w){re.escape(example.answer.strip())}(?!\w)", re.IGNORECASE)
    content_stems = stems(example.question) - stop_word_stems()
    return any(
        answer.search(text, a, b) and content_stems & stems(text[a:b])
        for a, b in sentence_spans(text)
    )
