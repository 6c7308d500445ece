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

from lorabank.bank.answer.answers import Answer
from lorabank.bank.answer.compare import LabelledQuestion, score
from lorabank.bank.answer.modes import AUTO, MODES, RAG
from lorabank.bank.bank import Bank
from lorabank.bank.write.document_drafts import token_counter
from lorabank.bank.write.drafts import ModuleDraft, draft_from_examples
from lorabank.bench.bank import new_bank
from lorabank.bench.setup import book
from lorabank.engine.backbone.base import Base
from lorabank.engine.training.settings import SOUND, TrainSettings
from lorabank.retrieval.documents import Document, document_from_text
from lorabank.tasks.examples import Example
from lorabank.tasks.synthetic import chronicle, chronicle_questions
from lorabank.tasks.synthetic.chronicle import Chronicle
from lorabank.tasks.synthetic.chronicle_questions import SINGLE, UNANSWERABLE

_log = logging.getLogger(__name__)
MODULE, TEXT, NEITHER = "module", "text", "neither"
_TAUGHT = 24  # questions about a chronicle that its module has seen
_NEW_TOKENS = 24
_BY_DRAW = ("auto_score", "prompt_token_ratio", "abstained_unanswerable", "abstained_answerable")


@dataclass(frozen=True, slots=True)
class Mixed:
    """What is asked, and where its answer is."""

    where: str
    item: LabelledQuestion


@dataclass(frozen=True, slots=True)
class Draw:
    """What one bank of the bench holds."""

    number: int
    books: int
    facts: int
    """In each book."""
    told: Sequence[Chronicle]

    @property
    def every(self) -> list[Example]:
        """Facts of all books."""
        return book(self.books * self.facts, seed=2 * self.number)


def bench_policy(
    base: Base,
    *,
    pairs: int = 1,
    draws: int = 4,
    facts: int = 12,
    books: int = 3,
    chronicles: int = 3,
    chronicle_tokens: int = 1500,
    each: int = 6,
    seed: int = 400,
    settings: TrainSettings = SOUND,
    embeds: bool = True,
) -> dict[str, Any]:
    """Scores of all ways, what `auto` reads beside always reading passages, when it abstains.

    Args:
        pairs: not used, nothing is timed in pairs.
        draws: banks with books and chronicles of their own; answers of all count together. One
            bank's share of what it abstains from is its luck by .04 either way.
        facts: in each phone book.
        each: questions asked of each book and chronicle, and as many to what none of them has.
        seed: of the chronicles; the policy was made with those of seeds 0, 100, 200 and 300.
        embeds: False finds by words alone.
    """
    asked: list[Mixed] = []
    answers: dict[str, list[Answer]] = {way: [] for way in (*MODES, AUTO)}
    by_draw = []
    for number in range(draws):
        seeds = range(seed + number * chronicles, seed + (number + 1) * chronicles)
        told = [chronicle.build(chronicle_tokens, seed=s, count=token_counter(base)) for s in seeds]
        draw = Draw(number, books, facts, told)
        some = mixed(draw, each)
        _log.info("bank %d of %d", number + 1, draws)
        said = _said(base, draw, some, settings, embeds=embeds)
        auto = {AUTO: said[AUTO], RAG: said[RAG]}
        by_draw.append({key: summary(some, auto)[key] for key in _BY_DRAW})
        asked += some
        for way, found in said.items():
            answers[way] += found
    return {
        "bench": "policy",
        **summary(asked, answers),
        "draws": by_draw,
        "facts_each": facts,
        "chronicle_tokens": chronicle_tokens,
        "settings": settings.as_json(),
        "base": {"name": base.info.name, "sha256": base.info.sha256},
    }


def _said(
    base: Base, draw: Draw, asked: Sequence[Mixed], settings: TrainSettings, *, embeds: bool
) -> dict[str, list[Answer]]:
    """Answers of one bank to its questions, by way."""
    questions = [one.item.question for one in asked]
    with (
        TemporaryDirectory(prefix="lorabank-bench-") as folder,
        new_bank(Path(folder) / "bank", base, embeds=embeds) as bank,
    ):
        _write(bank, draw, settings)
        bank.gate()
        bank.text_gate()
        answers = {}
        for way in (*MODES, AUTO):
            _log.info("asking %d questions with %s", len(asked), way)
            answers[way] = bank.ask_all(questions, mode=way, max_new_tokens=_NEW_TOKENS)
        return answers


def mixed(draw: Draw, each: int) -> list[Mixed]:
    """Questions of all three sorts; those a chronicle's module was taught are not among them."""
    every, facts, number = draw.every, draw.facts, draw.number
    asked = []
    for i in range(draw.books):
        for example in every[i * facts : i * facts + each]:
            item = LabelledQuestion(example.question, example.answer, f"book-{number}-{i}")
            asked.append(Mixed(MODULE, item))
    known = {example.question for example in every}
    strangers = [e.question for e in book(draw.books * (facts + each), seed=2 * number + 1)]
    unknown = [question for question in strangers if question not in known]
    for i, question in enumerate(unknown[: draw.books * each]):
        asked.append(
            Mixed(NEITHER, LabelledQuestion(question, None, f"unknown-{number}-{i // each}"))
        )
    for i, one in enumerate(draw.told):
        name = f"chronicle-{number}-{i}"
        for told_of in chronicle_questions.ask(one, SINGLE, _TAUGHT + each, seed=0)[_TAUGHT:]:
            asked.append(Mixed(TEXT, LabelledQuestion(told_of.text, told_of.answer, name)))
        for untold in chronicle_questions.ask(one, UNANSWERABLE, each, seed=0):
            asked.append(Mixed(NEITHER, LabelledQuestion(untold.text, None, name)))
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


def _write(bank: Bank, draw: Draw, settings: TrainSettings) -> None:
    every, facts = draw.every, draw.facts
    bank.write_all(
        [
            draft_from_examples(f"book-{i}", every[i * facts : (i + 1) * facts], source=f"book-{i}")
            for i in range(draw.books)
        ],
        settings=settings,
    )
    seen_twice = replace(settings, exposures=2, until_recall=None)
    bank.write_all(
        [_parcel(f"chronicle-{i}", one) for i, one in enumerate(draw.told)], settings=seen_twice
    )


def _parcel(name: str, told: Chronicle) -> ModuleDraft:
    taught = chronicle_questions.ask(told, SINGLE, _TAUGHT, seed=0)
    document = _document(f"{name}.md", told)
    parcel = draft_from_examples(
        name, chronicle_questions.to_examples(taught), source=document.name
    )
    return replace(parcel, documents=(document,), texts=(document.text,))


def _document(name: str, told: Chronicle) -> Document:
    """With a heading for each chapter."""
    chapters = [f"# {text}" for text in chronicle.to_documents(told)]
    return document_from_text(name, "\n\n".join(chapters), is_markdown=True)


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
