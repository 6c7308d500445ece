"""Fit the weights that tell whether a quote answers: `python -m lorabank.bench.quote_fit`.

Reads the passages of SQuAD in LORABANK_DATA and prints the constants of retrieval/quote_weights.py.
Twelve passages of one article stand as a document. A question is answered by a quote of its own
passage that has the answer. By no quote is it answered where its passage is taken out, or where one
of its words is replaced by a word of another question. The weights come from a logistic regression
on the best quotes of each question, both classes weighing the same; bias and scale are then fitted
on the first quote alone, questions with and without an answer weighing the same, so that its
log-odds are those of being right where half of the questions have no answer.
"""

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from lorabank.engine.backbone.base import Base, load_base
from lorabank.engine.inference.embedder import Embedder, load_embedder
from lorabank.retrieval.chunks import chunk_document
from lorabank.retrieval.documents import document_from_text
from lorabank.retrieval.quotable import quotable_parts
from lorabank.retrieval.quotes import (
    EMPTY,
    FEATURES,
    N_BY_WORDS,
    Part,
    parts_in_context,
    rank_quotes,
)
from lorabank.retrieval.terms import stem, words_of
from lorabank.retrieval.trigrams import fold
from lorabank.retrieval.wordings import WordReader, token_rarity
from lorabank.study.data_folder import data_folder

_BASE = "smollm2-135m"
_PASSAGES = 12  # of an article
_QUESTIONS = 2  # to each passage
_COMPARED = 3
_PENALTY = 3e-3
_WORD = re.compile(r"\w+")
Passage = dict[str, Any]
"""A line of the file: title, context and questions."""


@dataclass(frozen=True, slots=True)
class Article:
    """Passages of one article as the parts of a document."""

    parts: list[Part]
    reader: WordReader
    passages: list[str]


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question with the parts that may be quoted."""

    text: str
    parts: list[Part]
    answers: frozenset[int]
    """Identities of the parts that answer it; none for a question that nothing answers."""


def read_articles(path: Path) -> dict[str, list[Passage]]:
    """Return passages with their questions by the title of their article."""
    articles: defaultdict[str, list[Passage]] = defaultdict(list)
    for line in path.read_text("utf-8").splitlines():
        passage = json.loads(line)
        articles[passage["title"]].append(passage)
    return articles


def make_article(title: str, passages: Sequence[str], base: Base, embedder: Embedder) -> Article:
    """Return passages as the parts of a document, read by the embedder."""
    tokenizer = base.chat.tokenizer
    rarity = token_rarity(lambda word: len(tokenizer(word, add_special_tokens=False)["input_ids"]))
    document = document_from_text(
        "article.md", f"# {title}\n\n" + "\n\n".join(passages), is_markdown=True
    )
    chunks = chunk_document(
        document,
        size_tokens=256,
        overlap_tokens=32,
        count=lambda text: len(tokenizer(text).input_ids),
    )
    read = embedder.embed_tokens([chunk.text for chunk in chunks])
    parts = []
    for part in parts_in_context(quotable_parts(document)):
        start, end = part.quotable.start, part.end
        _, i = max((min(c.end, end) - max(c.start, start), -i) for i, c in enumerate(chunks))
        offset = chunks[-i].start
        parts.append(replace(part, tokens=read[-i].part(start - offset, end - offset)))
    reader = WordReader.of_texts([fold(chunk.text) for chunk in chunks], rarity)
    return Article(parts, reader, list(passages))


def ask_article(
    article: Article, passages: Sequence[Passage], rng: random.Random
) -> Iterator[AskedQuestion]:
    """Yield questions that the article answers, and the same made unanswerable in two ways."""
    triples = []
    for passage in passages:
        pairs = list({q["question"]: q["answer"] for q in passage["questions"]}.items())
        rng.shuffle(pairs)
        own = [p for p in article.parts if p.quotable.text in passage["context"]]
        triples += [(question, answer, own) for question, answer in pairs[:_QUESTIONS]]
    others = [w for question, _, _ in triples for w in _content(question)]
    for question, answer, own in triples:
        right = frozenset(id(part) for part in own if answer in part.quoted)
        yield AskedQuestion(question, article.parts, right)
        rest = [part for part in article.parts if part not in own]
        yield AskedQuestion(question, rest, frozenset())
        passage_words = " ".join([question, *(part.quoted for part in own)])
        if swapped := _swap_word(question, others, {stem(w) for w in words_of(passage_words)}, rng):
            yield AskedQuestion(swapped, article.parts, frozenset())


def _content(question: str) -> list[str]:
    """Return the words of a question that say what is asked, without the first."""
    words = _WORD.findall(question)[1:]
    return [word for word in words if word.lower() not in EMPTY and len(word) > 2]


def _swap_word(
    question: str, others: Sequence[str], known: set[str], rng: random.Random
) -> str | None:
    """Return the question with one of its words replaced by one that its passage does not have."""
    words = _content(question)
    if not words:
        return None
    word = rng.choice(words)
    fit = [
        w for w in others if w[0].isupper() == word[0].isupper() and stem(w.lower()) not in known
    ]
    return re.sub(rf"\b{re.escape(word)}\b", rng.choice(fit), question, count=1) if fit else None


@dataclass(frozen=True, slots=True)
class RankedQuestion:
    """A question with its likeliest quotes."""

    is_answered: bool
    quotes: list[tuple[bool, tuple[float, ...]]]
    """Whether a quote is right, and its features."""


def fit(ranked: Sequence[RankedQuestion], n_features: int) -> tuple[list[float], float]:
    """Return weights of the first `n_features` features and the bias."""
    near = [quote for question in ranked for quote in question.quotes[:_COMPARED]]
    x = np.array([features[:n_features] for _, features in near])
    y = np.array([float(ok) for ok, _ in near])
    mean, spread = x.mean(0), x.std(0) + 1e-9
    share = np.where(y == 1, 0.5 / y.sum(), 0.5 / (1 - y).sum())
    w = _logistic((x - mean) / spread, y, share)
    weights = w[:-1] / spread
    answered = np.array([question.is_answered for question in ranked if question.quotes])
    firsts = [
        max((float(weights @ features[:n_features]), ok) for ok, features in question.quotes)
        for question in ranked
        if question.quotes
    ]
    best = np.array([[score] for score, _ in firsts])
    labels = np.array([float(ok) for _, ok in firsts])
    share = np.where(answered, 0.5 / answered.sum(), 0.5 / (~answered).sum())
    scale, bias = _logistic(best, labels, share)
    return [float(value) for value in scale * weights], float(bias)


def _logistic(x: np.ndarray, y: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return weights and bias, (features + 1,)."""

    def loss(w: np.ndarray) -> float:
        z = x @ w[:-1] + w[-1]
        nats = np.logaddexp(0, z) - y * z
        return float(share @ nats + _PENALTY * (w[:-1] ** 2).sum())

    solution: np.ndarray = minimize(loss, np.zeros(x.shape[1] + 1), method="L-BFGS-B").x
    return solution


def rank_all(path: Path) -> dict[str, list[RankedQuestion]]:
    """Return the quotes of all questions, by article."""
    base, embedder, rng = load_base(_BASE), load_embedder(), random.Random(0)
    ranked = {}
    for title, passages in read_articles(path).items():
        drawn = rng.sample(passages, min(_PASSAGES, len(passages)))
        contexts = [passage["context"].replace("\n", " ") for passage in drawn]
        article = make_article(title, contexts, base, embedder)
        questions = list(ask_article(article, drawn, rng))
        tokens = embedder.embed_tokens([question.text for question in questions])
        ranked[title] = [
            RankedQuestion(
                bool(question.answers),
                [
                    (id(quote.part) in question.answers, quote.features)
                    for quote in rank_quotes(question.text, question.parts, article.reader, read)
                ],
            )
            for question, read in zip(questions, tokens, strict=True)
        ]
    return ranked


def main() -> None:
    """Print the constants."""
    ranked = rank_all(data_folder("squad") / "passages.jsonl")
    questions = [question for article in ranked.values() for question in article]
    for name, n in (("BY_WORDS", N_BY_WORDS), ("WITH_MEANING", len(FEATURES))):
        weights, bias = fit(questions, n)
        print(f"{name} = Weights({bias:.3f}, ({', '.join(f'{w:.3f}' for w in weights)}))")


if __name__ == "__main__":
    main()
