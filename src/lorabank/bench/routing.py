"""Bench of text routing: how often the right module comes first, and how long finding it takes.

SQuAD: every passage a module known by its text alone, its questions as people wrote them, twenty
passages of an article side by side. PaperQA: every paper a module known by its introduction and
its training questions, the evaluation questions without the number of their paper. Speed: ten
thousand modules cut from the passages. What is measured is what a bank does (bank/texts.py): the
same keys, index and reranker.
"""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from lorabank.engine.backbone.base import Base
from lorabank.engine.inference.embedder import Embedder, load_embedder
from lorabank.engine.inference.reranker import Reranker
from lorabank.errors import UsageError
from lorabank.retrieval.index import SearchHit, TextIndex
from lorabank.retrieval.indexed_texts import sentence_spans, split_into_passages
from lorabank.retrieval.rerank import N_CANDIDATES
from lorabank.study.modules.library import DATA
from lorabank.tasks.datasets.paperqa import read_papers
from lorabank.tasks.datasets.squad import Passage, read_passages

_log = logging.getLogger(__name__)
_WINDOW = range(2, 7)  # sentences in a module of the timed index
Key = tuple[str, str, str]
Asked = list[tuple[str, str]]
"""(the right module, question)."""


def bench_routing(
    base: Base,
    *,
    pairs: int = 3,
    data: Path | None = None,
    reread: int = 500,
    modules: int = 10_000,
    timed: int = 100,
) -> dict[str, Any]:
    """Accuracy on both data sets, by each method, and the time of one question.

    Args:
        pairs: how often each timed question is asked.
        data: with `squad` and `paperqa` in it; by default what LORABANK_DATA names.
        reread: SQuAD questions that the base rereads, evenly drawn; the embedder rereads all.
        modules: in the timed index.
        timed: questions to time.

    Raises:
        UsageError: no data folder.
    """
    folder = data or data_folder()
    passages = read_passages(folder / "squad" / "passages.jsonl")
    embedder = load_embedder()
    squad = _squad(base, embedder, passages, reread=reread)
    paperqa = _paperqa(embedder, folder / "paperqa")
    questions = [example.question for passage in passages for example in passage.questions]
    some = [questions[i * len(questions) // timed] for i in range(timed)]
    return {
        "bench": "routing",
        **squad,
        **paperqa,
        **_speed(embedder, passages, some, modules=modules, rounds=pairs),
        "embedder": embedder.name,
        "base": {"name": base.info.name, "sha256": base.info.sha256},
    }


def data_folder() -> Path:
    """Where LORABANK_DATA says the data lies.

    Raises:
        UsageError: it says nothing, or what it names does not hold both sets.
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
    """As a bank makes it of its modules' keys."""
    pieces = split_into_passages(keys)
    parts = [(sentence.context, sentence.start, sentence.end) for sentence in pieces.sentences]
    return TextIndex(pieces, vectors=embedder.embed_parts(parts))


def hit_rate(found: Sequence[Sequence[SearchHit]], asked: Asked, *, k: int = 1) -> float:
    """Share of questions whose module is among the first `k`."""
    hits = [
        right in [each.name for each in few[:k]]
        for few, (right, _) in zip(found, asked, strict=True)
    ]
    return sum(hits) / len(hits)


def _squad(
    base: Base, embedder: Embedder, passages: Sequence[Passage], *, reread: int
) -> dict[str, Any]:
    index = make_index([(f"{p.id:05}", "text", p.text) for p in passages], embedder)
    asked = [(f"{p.id:05}", example.question) for p in passages for example in p.questions]
    found = {m: _route(index, embedder, asked, m) for m in ("bm25", "dense", "hybrid")}
    first = found["hybrid"]
    _log.info("squad: top-1 %.3f; reading candidates again", hit_rate(first, asked))
    questions = [question for _, question in asked]
    by_tokens = Reranker(embedder).rerank(questions, first)
    n = min(reread, len(asked))
    places = [i * len(asked) // n for i in range(n)]
    some = [asked[i] for i in places]
    by_both = Reranker(embedder, base).rerank([q for _, q in some], [first[i] for i in places])
    return {
        "squad_top1": hit_rate(first, asked),
        "squad_top5": hit_rate(first, asked, k=5),
        "squad_top20": hit_rate(first, asked, k=N_CANDIDATES),
        "squad_reranked_top1": hit_rate(by_both, some),
        "squad_reranked_questions": n,
        "squad_reranked_same_questions": {
            "hybrid": hit_rate([first[i] for i in places], some),
            "tokens": hit_rate([by_tokens[i] for i in places], some),
        },
        "squad_tokens_top1": hit_rate(by_tokens, asked),
        "squad_tokens_top5": hit_rate(by_tokens, asked, k=5),
        "squad_bm25_top1": hit_rate(found["bm25"], asked),
        "squad_dense_top1": hit_rate(found["dense"], asked),
        "squad_modules": len(passages),
        "squad_questions": len(asked),
    }


def _paperqa(embedder: Embedder, folder: Path) -> dict[str, Any]:
    papers = read_papers(folder)
    keys = [(str(paper.id), "text", paper.introduction) for paper in papers]
    keys += [(str(p.id), "question", example.question) for p in papers for example in p.train]
    asked = [(str(paper.id), example.question) for paper in papers for example in paper.test]
    index = make_index(keys, embedder)
    found = {m: _route(index, embedder, asked, m) for m in ("bm25", "dense", "hybrid")}
    return {
        "paperqa_top1": hit_rate(found["hybrid"], asked),
        "paperqa_bm25_top1": hit_rate(found["bm25"], asked),
        "paperqa_dense_top1": hit_rate(found["dense"], asked),
        "paperqa_modules": len(papers),
        "paperqa_questions": len(asked),
    }


def _route(
    index: TextIndex, embedder: Embedder, asked: Asked, method: str
) -> list[list[SearchHit]]:
    questions = [question for _, question in asked]
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
    """Runs of a few sentences in a passage; they overlap, so that there are enough."""
    for passage in passages:
        spans = sentence_spans(passage.text)
        for n in _WINDOW:
            for first, last in zip(spans, spans[n - 1 :], strict=False):
                yield passage.text[first[0] : last[1]]
