"""Bench of text routing: how often the right module comes first, and how long finding it takes.

SQuAD: every passage is a module known by its text alone, asked the questions that people wrote,
with twenty passages of one article side by side. PaperQA: every paper is a module known by its
introduction and its training questions, asked the evaluation questions without the number of the
paper. Speed: ten thousand modules cut from the passages. Keys, index and reranker are those of a
bank (bank/route/text_index.py).
"""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from lorabank.engine.backbone.base import Base
from lorabank.engine.inference.embedder import Embedder, load_embedder
from lorabank.engine.inference.reranker import Reranker
from lorabank.errors import UsageError
from lorabank.retrieval.index import SearchHit, TextIndex
from lorabank.retrieval.indexed_texts import split_into_passages
from lorabank.retrieval.rerank import N_CANDIDATES
from lorabank.retrieval.sentences import sentence_spans
from lorabank.study.data_folder import DATA
from lorabank.tasks.datasets.paperqa import read_papers
from lorabank.tasks.datasets.squad import Passage, read_passages

_log = logging.getLogger(__name__)
_WINDOW = range(2, 7)  # sentences in a module of the timed index
Key = tuple[str, str, str]
RoutedQuestions = list[tuple[str, str]]
"""Pairs of the right module and a question."""


@dataclass(frozen=True, slots=True)
class RoutingSizes:
    """The sizes of the bench of routing."""

    data: Path | None = None
    """Folder with `squad` and `paperqa`; None for the one that LORABANK_DATA names."""
    reread: int = 500
    """Number of SQuAD questions that the base reranks, evenly drawn; the embedder reranks all."""
    modules: int = 10_000
    """Number of modules in the timed index."""
    timed: int = 100
    """Number of questions that are timed."""


def bench_routing(
    base: Base,
    *,
    pairs: int = 3,
    sizes: RoutingSizes | None = None,
) -> dict[str, Any]:
    """Measure the accuracy on both data sets by each method, and the time of one question.

    Args:
        pairs: number of times that each timed question is asked.

    Raises:
        UsageError: no data folder.
    """
    sizes = sizes or RoutingSizes()
    folder = sizes.data or data_folder()
    passages = read_passages(folder / "squad" / "passages.jsonl")
    embedder = load_embedder()
    squad = _squad(base, embedder, passages, reread=sizes.reread)
    paperqa = _paperqa(embedder, folder / "paperqa")
    questions = [example.question for passage in passages for example in passage.questions]
    timed_questions = [questions[i * len(questions) // sizes.timed] for i in range(sizes.timed)]
    return {
        "bench": "routing",
        **squad,
        **paperqa,
        **_speed(embedder, passages, timed_questions, modules=sizes.modules, rounds=pairs),
        "embedder": embedder.name,
        "base": {"name": base.info.name, "sha256": base.info.sha256},
    }


def data_folder() -> Path:
    """Return the folder that LORABANK_DATA names.

    Raises:
        UsageError: it is not set, or its folder does not hold both data sets.
    """
    named = os.environ.get(DATA)
    if not named:
        raise UsageError(
            f"this bench needs real data: set {DATA} to a folder with squad/passages.jsonl and "
            "paperqa/paperQA.json in it"
        )
    folder = Path(named)
    for part in ("squad/passages.jsonl", "paperqa/paperQA.json"):
        if not (folder / part).is_file():
            raise UsageError(f"{DATA} is {folder}, which has no {part}; name the folder that has")
    return folder


def make_index(keys: Sequence[Key], embedder: Embedder) -> TextIndex:
    """Make an index of modules' keys, as a bank does."""
    pieces = split_into_passages(keys)
    parts = [(sentence.context, sentence.start, sentence.end) for sentence in pieces.sentences]
    return TextIndex(pieces, vectors=embedder.embed_parts(parts))


def hit_rate(
    hits_of: Sequence[Sequence[SearchHit]], questions: RoutedQuestions, *, k: int = 1
) -> float:
    """Return the share of questions whose module is among the first `k` hits."""
    hits = [
        right in [hit.name for hit in ranked[:k]]
        for ranked, (right, _) in zip(hits_of, questions, strict=True)
    ]
    return sum(hits) / len(hits)


def _squad(
    base: Base, embedder: Embedder, passages: Sequence[Passage], *, reread: int
) -> dict[str, Any]:
    index = make_index([(f"{p.id:05}", "text", p.text) for p in passages], embedder)
    pairs = [(f"{p.id:05}", example.question) for p in passages for example in p.questions]
    ranked = {m: _route(index, embedder, pairs, m) for m in ("bm25", "dense", "hybrid")}
    first = ranked["hybrid"]
    _log.info("squad: top-1 %.3f; reranking candidates", hit_rate(first, pairs))
    questions = [question for _, question in pairs]
    by_tokens = Reranker(embedder).rerank(questions, first)
    n = min(reread, len(pairs))
    places = [i * len(pairs) // n for i in range(n)]
    sampled = [pairs[i] for i in places]
    sampled_questions = [question for _, question in sampled]
    by_both = Reranker(embedder, base).rerank(sampled_questions, [first[i] for i in places])
    return {
        "squad_top1": hit_rate(first, pairs),
        "squad_top5": hit_rate(first, pairs, k=5),
        "squad_top20": hit_rate(first, pairs, k=N_CANDIDATES),
        "squad_reranked_top1": hit_rate(by_both, sampled),
        "squad_reranked_questions": n,
        "squad_reranked_same_questions": {
            "hybrid": hit_rate([first[i] for i in places], sampled),
            "tokens": hit_rate([by_tokens[i] for i in places], sampled),
        },
        "squad_tokens_top1": hit_rate(by_tokens, pairs),
        "squad_tokens_top5": hit_rate(by_tokens, pairs, k=5),
        "squad_bm25_top1": hit_rate(ranked["bm25"], pairs),
        "squad_dense_top1": hit_rate(ranked["dense"], pairs),
        "squad_modules": len(passages),
        "squad_questions": len(pairs),
    }


def _paperqa(embedder: Embedder, folder: Path) -> dict[str, Any]:
    papers = read_papers(folder)
    keys = [(str(paper.id), "text", paper.introduction) for paper in papers]
    keys += [(str(p.id), "question", example.question) for p in papers for example in p.train]
    pairs = [(str(paper.id), example.question) for paper in papers for example in paper.test]
    index = make_index(keys, embedder)
    ranked = {m: _route(index, embedder, pairs, m) for m in ("bm25", "dense", "hybrid")}
    return {
        "paperqa_top1": hit_rate(ranked["hybrid"], pairs),
        "paperqa_bm25_top1": hit_rate(ranked["bm25"], pairs),
        "paperqa_dense_top1": hit_rate(ranked["dense"], pairs),
        "paperqa_modules": len(papers),
        "paperqa_questions": len(pairs),
    }


def _route(
    index: TextIndex, embedder: Embedder, pairs: RoutedQuestions, method: str
) -> list[list[SearchHit]]:
    questions = [question for _, question in pairs]
    return [
        index.search(question, vector, k=N_CANDIDATES, method=method)
        for question, vector in zip(questions, embedder.embed(questions), strict=True)
    ]


def _speed(
    embedder: Embedder,
    passages: Sequence[Passage],
    questions: Sequence[str],
    *,
    modules: int,
    rounds: int,
) -> dict[str, Any]:
    keys = [(f"{i:06}", "text", text) for i, text in enumerate(islice(_windows(passages), modules))]
    _log.info("speed: making an index of %d modules", len(keys))
    started = time.perf_counter()
    index = make_index(keys, embedder)
    made_s = time.perf_counter() - started
    ms: list[float] = []
    for question in list(questions) * (rounds + 1):
        began = time.perf_counter()
        index.search(question, embedder.embed([question])[0], k=N_CANDIDATES)
        ms.append(1e3 * (time.perf_counter() - began))
    ms = ms[len(questions) :]  # the first round warms up
    return {
        "route_p50_ms": median(ms),
        "route_p95_ms": quantiles(ms, n=20)[-1],
        "route_modules": len(keys),
        "route_sentences": 0 if index.vectors is None else len(index.vectors),
        "route_questions": len(ms),
        "route_index_s": made_s,
    }


def _windows(passages: Sequence[Passage]) -> Iterator[str]:
    """Yield runs of a few sentences of a passage; they overlap, so that there are enough."""
    for passage in passages:
        spans = sentence_spans(passage.text)
        for n in _WINDOW:
            for first, last in zip(spans, spans[n - 1 :], strict=False):
                yield passage.text[first[0] : last[1]]
