"""Bench of the policy: questions to what is in a module, only in text, or in neither.

Phone books are written into modules until they are known. Chronicles are kept as text, with a
module each that has seen a few questions about them twice and knows next to nothing. In neither are
names of no book and what the chronicles do not say. `auto` is held against each way taken for every
question; one that nothing answers scores 1 for abstaining and 0 for any reply, others token F1.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from lorabank.bank.answers import Answer
from lorabank.bank.bank import Bank
from lorabank.bank.comparing import Item, score
from lorabank.bank.documents import counter
from lorabank.bank.parcels import Parcel, from_examples
from lorabank.bank.ways import AUTO, RAG, WAYS
from lorabank.bench.bank import new_bank
from lorabank.bench.setup import book
from lorabank.engine.base import Base
from lorabank.engine.settings import SOUND, TrainSettings
from lorabank.retrieval.documents import Document, from_text
from lorabank.tasks import chronicle, chronicle_questions
from lorabank.tasks.chronicle import Chronicle
from lorabank.tasks.chronicle_questions import SINGLE, UNANSWERABLE

_log = logging.getLogger(__name__)
MODULE, TEXT, NEITHER = "module", "text", "neither"
_TAUGHT = 24  # questions about a chronicle that its module has seen
_NEW_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Mixed:
    """What is asked, and where its answer is."""

    where: str
    item: Item


def bench_policy(
    base: Base,
    *,
    pairs: int = 1,
    facts: int = 12,
    books: int = 3,
    chronicles: int = 3,
    chronicle_tokens: int = 1500,
    each: int = 12,
    seed: int = 100,
    settings: TrainSettings = SOUND,
    embeds: bool = True,
) -> dict[str, Any]:
    """Scores of all ways, what `auto` reads beside always reading passages, when it abstains.

    Args:
        pairs: not used, nothing is timed in pairs.
        facts: in each phone book.
        each: questions asked of each book and chronicle, and as many to what none of them has.
        seed: of the chronicles; the policy was made with those of seeds 0 to 2 at hand.
        embeds: False finds by words alone.
    """
    with (
        TemporaryDirectory(prefix="lorabank-bench-") as folder,
        new_bank(Path(folder) / "bank", base, embeds=embeds) as bank,
    ):
        told = [
            chronicle.build(chronicle_tokens, seed=seed + i, count=counter(base))
            for i in range(chronicles)
        ]
        _log.info("writing %d books and %d chronicles", books, chronicles)
        _write(bank, books, facts, told, settings)
        asked = mixed(books, facts, told, each)
        _log.info("calibrating")
        bank.gate()
        bank.evidence()
        questions = [one.item.question for one in asked]
        answers: dict[str, list[Answer]] = {}
        for way in (*WAYS, AUTO):
            _log.info("asking %d questions with %s", len(asked), way)
            answers[way] = bank.ask_all(questions, way=way, max_new_tokens=_NEW_TOKENS)
        return {
            "bench": "policy",
            **summary(asked, answers),
            "facts_each": facts,
            "chronicle_tokens": chronicle_tokens,
            "excerpts": len(bank.excerpts),
            "recall": {v.module: v.record["recall"] for v in bank.modules()},
            "settings": settings.as_json(),
            "base": {"name": base.info.name, "sha256": base.info.sha256},
        }


def mixed(books: int, facts: int, told: Sequence[Chronicle], each: int) -> list[Mixed]:
    """Questions of all three sorts; those a chronicle's module was taught are not among them."""
    every = book(books * facts)
    asked = []
    for i in range(books):
        for example in every[i * facts : i * facts + each]:
            asked.append(Mixed(MODULE, Item(example.question, example.answer, f"book-{i}")))
    known = {example.question for example in every}
    strangers = [e.question for e in book(books * (facts + each), seed=1)]
    unknown = [question for question in strangers if question not in known]
    for i, question in enumerate(unknown[: books * each]):
        asked.append(Mixed(NEITHER, Item(question, None, f"unknown-{i // each}")))
    for i, one in enumerate(told):
        name = f"chronicle-{i}"
        for told_of in chronicle_questions.ask(one, SINGLE, _TAUGHT + each, seed=0)[_TAUGHT:]:
            asked.append(Mixed(TEXT, Item(told_of.text, told_of.answer, name)))
        for untold in chronicle_questions.ask(one, UNANSWERABLE, each, seed=0):
            asked.append(Mixed(NEITHER, Item(untold.text, None, name)))
    return asked


def summary(asked: Sequence[Mixed], answers: dict[str, list[Answer]]) -> dict[str, Any]:
    """The bench's numbers out of the answers to all questions, by way."""
    items = [one.item for one in asked]
    scores = {way: score(items, some) for way, some in answers.items()}
    best = max((way for way in answers if way != AUTO), key=lambda way: scores[way].mean)
    auto = answers[AUTO]
    tokens = {way: fmean(a.prompt_tokens for a in some) for way, some in answers.items()}
    return {
        "auto_score": scores[AUTO].mean,
        "best_fixed_score": scores[best].mean,
        "best_fixed": best,
        "best_fixed_interval": [scores[best].low, scores[best].high],
        "prompt_token_ratio": tokens[AUTO] / tokens[RAG],
        "abstained_unanswerable": _abstained(asked, auto, is_answerable=False),
        "abstained_answerable": _abstained(asked, auto, is_answerable=True),
        "scores": [
            {"way": way, **asdict(scores[way]), "tokens": tokens[way], **_by_sort(asked, some)}
            for way, some in answers.items()
        ],
        "auto_used": [
            {"in": where, **Counter(_did(a) for m, a in _pairs(asked, auto) if m.where == where)}
            for where in (MODULE, TEXT, NEITHER)
        ],
        "questions": dict(Counter(one.where for one in asked)),
    }


def _write(
    bank: Bank, books: int, facts: int, told: Sequence[Chronicle], settings: TrainSettings
) -> None:
    every = book(books * facts)
    bank.write_all(
        [
            from_examples(f"book-{i}", every[i * facts : (i + 1) * facts], source=f"book-{i}")
            for i in range(books)
        ],
        settings=settings,
    )
    seen_twice = replace(settings, exposures=2, until_recall=None)
    bank.write_all(
        [_parcel(f"chronicle-{i}", one) for i, one in enumerate(told)], settings=seen_twice
    )


def _parcel(name: str, told: Chronicle) -> Parcel:
    taught = chronicle_questions.ask(told, SINGLE, _TAUGHT, seed=0)
    document = _document(f"{name}.md", told)
    parcel = from_examples(name, chronicle_questions.to_examples(taught), source=document.name)
    return replace(parcel, documents=(document,), texts=(document.text,))


def _document(name: str, told: Chronicle) -> Document:
    """With a heading for each chapter."""
    chapters = [f"# {text}" for text in chronicle.to_documents(told)]
    return from_text(name, "\n\n".join(chapters), is_markdown=True)


def _pairs(asked: Sequence[Mixed], answers: Sequence[Answer]) -> list[tuple[Mixed, Answer]]:
    return list(zip(asked, answers, strict=True))


def _abstained(asked: Sequence[Mixed], answers: Sequence[Answer], *, is_answerable: bool) -> float:
    return fmean(
        answer.kind == "abstained"
        for one, answer in _pairs(asked, answers)
        if (one.item.answer is not None) == is_answerable
    )


def _by_sort(asked: Sequence[Mixed], answers: Sequence[Answer]) -> dict[str, float]:
    found = {}
    for where in (MODULE, TEXT, NEITHER):
        some = [(one.item, answer) for one, answer in _pairs(asked, answers) if one.where == where]
        found[where] = score([item for item, _ in some], [answer for _, answer in some]).mean
    return found


def _did(answer: Answer) -> str:
    return answer.kind if answer.kind == "abstained" else answer.used
