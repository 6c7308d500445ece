"""Bench of the policy: questions to facts that a module, only a text, or neither holds.

Phone books are written into modules until they are recalled. Chronicles are stored as text, with a
module each that has seen a few questions about them twice and knows next to nothing. Questions to
neither are about names of no book and about what the chronicles do not tell. `auto` is compared
with each answer mode taken for every question. A question without an answer scores 1 for
abstaining and 0 for any reply, the others score token F1.
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
from lorabank.bank.answer.modes import AUTO, MODES, RAG
from lorabank.bank.bank import Bank
from lorabank.bank.compare import LabelledQuestion, score
from lorabank.bank.drafts import ModuleDraft, draft_from_examples
from lorabank.bank.write.document_drafts import token_counter
from lorabank.bench.bank_recall import new_bank
from lorabank.bench.setup import book
from lorabank.engine.backbone.base import Base
from lorabank.engine.settings import SOUND, TrainSettings
from lorabank.retrieval.documents import Document, document_from_text
from lorabank.tasks.examples import Example
from lorabank.tasks.synthetic import chronicle, chronicle_questions
from lorabank.tasks.synthetic.chronicle import Chronicle
from lorabank.tasks.synthetic.chronicle_questions import SINGLE, UNANSWERABLE

_log = logging.getLogger(__name__)
MODULE, TEXT, NEITHER = "module", "text", "neither"
_TAUGHT = 24  # questions about a chronicle that its module is trained on
_NEW_TOKENS = 24
_BY_DRAW = ("auto_score", "prompt_token_ratio", "abstained_unanswerable", "abstained_answerable")


@dataclass(frozen=True, slots=True)
class PlacedQuestion:
    """A question with its answer, and the place that holds the answer."""

    place: str
    """One of MODULE, TEXT and NEITHER."""
    question: LabelledQuestion


@dataclass(frozen=True, slots=True)
class BankContent:
    """The content of one bank of the bench."""

    number: int
    books: int
    facts: int
    """Number of facts in each book."""
    chronicles: Sequence[Chronicle]

    @property
    def all_facts(self) -> list[Example]:
        """Return the facts of all books."""
        return book(self.books * self.facts, seed=2 * self.number)


@dataclass(frozen=True, slots=True)
class PolicySizes:
    """The sizes of the bench of the policy."""

    draws: int = 4
    """Number of banks with books and chronicles of their own; the answers of all count together.
    The share that a single bank abstains from varies by .04 either way."""
    facts: int = 12
    """Number of facts in each phone book."""
    books: int = 3
    chronicles: int = 3
    chronicle_tokens: int = 1500
    each: int = 6
    """Number of questions to each book and chronicle, and as many that neither answers."""
    seed: int = 400
    """Seed of the chronicles; the policy was made with those of seeds 0, 100, 200 and 300."""
    settings: TrainSettings = SOUND
    embeds: bool = True
    """Whether texts are found by embeddings too, not by words alone."""


def bench_policy(base: Base, *, pairs: int = 1, sizes: PolicySizes | None = None) -> dict[str, Any]:
    """Score all answer modes, the tokens `auto` reads, and how often it abstains.

    Args:
        pairs: not used, as nothing is timed in pairs.
    """
    sizes = sizes or PolicySizes()
    questions: list[PlacedQuestion] = []
    answers: dict[str, list[Answer]] = {mode: [] for mode in (*MODES, AUTO)}
    by_draw = []
    for number in range(sizes.draws):
        content = _draw_content(base, sizes, number)
        bank_questions = draw_questions(content, sizes.each)
        _log.info("bank %d of %d", number + 1, sizes.draws)
        bank_answers = _ask_bank(base, content, bank_questions, sizes)
        auto = {AUTO: bank_answers[AUTO], RAG: bank_answers[RAG]}
        by_draw.append({key: summarise(bank_questions, auto)[key] for key in _BY_DRAW})
        questions += bank_questions
        for mode, mode_answers in bank_answers.items():
            answers[mode] += mode_answers
    return {
        "bench": "policy",
        **summarise(questions, answers),
        "draws": by_draw,
        "facts_each": sizes.facts,
        "chronicle_tokens": sizes.chronicle_tokens,
        "settings": sizes.settings.as_json(),
        "base": {"name": base.info.name, "sha256": base.info.sha256},
    }


def _draw_content(base: Base, sizes: PolicySizes, number: int) -> BankContent:
    first_seed = sizes.seed + number * sizes.chronicles
    chronicles = [
        chronicle.build(sizes.chronicle_tokens, seed=seed, count=token_counter(base))
        for seed in range(first_seed, first_seed + sizes.chronicles)
    ]
    return BankContent(number, sizes.books, sizes.facts, chronicles)


def _ask_bank(
    base: Base, content: BankContent, questions: Sequence[PlacedQuestion], sizes: PolicySizes
) -> dict[str, list[Answer]]:
    """Return the answers of one bank to its questions, by answer mode."""
    texts = [placed.question.question for placed in questions]
    with (
        TemporaryDirectory(prefix="lorabank-bench-") as folder,
        new_bank(Path(folder) / "bank", base, embeds=sizes.embeds) as bank,
    ):
        bank.quotes = False  # what is measured is the choice among modules and texts to be read
        _write(bank, content, sizes.settings)
        bank.gate()
        bank.text_gate()
        answers = {}
        for mode in (*MODES, AUTO):
            _log.info("asking %d questions with %s", len(texts), mode)
            answers[mode] = bank.ask_all(texts, mode=mode, max_new_tokens=_NEW_TOKENS)
        return answers


def draw_questions(content: BankContent, each: int) -> list[PlacedQuestion]:
    """Return questions of all three places, none of which a chronicle's module was trained on."""
    all_facts, facts, number = content.all_facts, content.facts, content.number
    questions = []
    for i in range(content.books):
        for example in all_facts[i * facts : i * facts + each]:
            labelled = LabelledQuestion(example.question, example.answer, f"book-{number}-{i}")
            questions.append(PlacedQuestion(MODULE, labelled))
    known = {example.question for example in all_facts}
    drawn = [e.question for e in book(content.books * (facts + each), seed=2 * number + 1)]
    unknown = [question for question in drawn if question not in known]
    for i, question in enumerate(unknown[: content.books * each]):
        labelled = LabelledQuestion(question, None, f"unknown-{number}-{i // each}")
        questions.append(PlacedQuestion(NEITHER, labelled))
    for i, text in enumerate(content.chronicles):
        name = f"chronicle-{number}-{i}"
        for single in chronicle_questions.draw_questions(text, SINGLE, _TAUGHT + each, seed=0)[
            _TAUGHT:
        ]:
            labelled = LabelledQuestion(single.text, single.answer, name)
            questions.append(PlacedQuestion(TEXT, labelled))
        for untold in chronicle_questions.draw_questions(text, UNANSWERABLE, each, seed=0):
            questions.append(PlacedQuestion(NEITHER, LabelledQuestion(untold.text, None, name)))
    return questions


def summarise(
    questions: Sequence[PlacedQuestion], answers: dict[str, list[Answer]]
) -> dict[str, Any]:
    """Return the numbers of the bench from the answers to all questions, by answer mode."""
    labelled = [placed.question for placed in questions]
    scores = {mode: score(labelled, mode_answers) for mode, mode_answers in answers.items()}
    best = max((mode for mode in answers if mode != AUTO), key=lambda mode: scores[mode].mean)
    auto = answers[AUTO]
    tokens = {
        mode: fmean(a.prompt_tokens for a in mode_answers) for mode, mode_answers in answers.items()
    }
    return {
        "auto_score": scores[AUTO].mean,
        "best_fixed_score": scores[best].mean,
        "best_fixed": best,
        "best_fixed_interval": [scores[best].low, scores[best].high],
        "prompt_token_ratio": tokens[AUTO] / tokens[RAG],
        "abstained_unanswerable": _abstained(questions, auto, is_answerable=False),
        "abstained_answerable": _abstained(questions, auto, is_answerable=True),
        "scores": [
            {
                "mode": mode,
                **asdict(scores[mode]),
                "tokens": tokens[mode],
                **_scores_by_place(questions, mode_answers),
            }
            for mode, mode_answers in answers.items()
        ],
        "auto_used": [
            {
                "in": place,
                **Counter(
                    _mode_used(answer)
                    for placed, answer in zip(questions, auto, strict=True)
                    if placed.place == place
                ),
            }
            for place in (MODULE, TEXT, NEITHER)
        ],
        "questions": dict(Counter(placed.place for placed in questions)),
    }


def _write(bank: Bank, content: BankContent, settings: TrainSettings) -> None:
    all_facts, facts = content.all_facts, content.facts
    books = [
        draft_from_examples(f"book-{i}", all_facts[i * facts : (i + 1) * facts], source=f"book-{i}")
        for i in range(content.books)
    ]
    bank.write_all(books, settings=settings)
    seen_twice = replace(settings, exposures=2, until_recall=None)
    chronicles = [
        _chronicle_draft(f"chronicle-{i}", text) for i, text in enumerate(content.chronicles)
    ]
    bank.write_all(chronicles, settings=seen_twice)


def _chronicle_draft(name: str, text: Chronicle) -> ModuleDraft:
    questions = chronicle_questions.draw_questions(text, SINGLE, _TAUGHT, seed=0)
    document = _document(f"{name}.md", text)
    examples = chronicle_questions.to_examples(questions)
    draft = draft_from_examples(name, examples, source=document.name)
    return replace(draft, documents=(document,), texts=(document.text,))


def _document(name: str, text: Chronicle) -> Document:
    """Return a chronicle as a document with a heading for each chapter."""
    chapters = [f"# {chapter}" for chapter in chronicle.render_chapters(text)]
    return document_from_text(name, "\n\n".join(chapters), is_markdown=True)


def _abstained(
    questions: Sequence[PlacedQuestion], answers: Sequence[Answer], *, is_answerable: bool
) -> float:
    return fmean(
        answer.kind == "abstained"
        for placed, answer in zip(questions, answers, strict=True)
        if (placed.question.answer is not None) == is_answerable
    )


def _scores_by_place(
    questions: Sequence[PlacedQuestion], answers: Sequence[Answer]
) -> dict[str, float]:
    scores = {}
    for place in (MODULE, TEXT, NEITHER):
        pairs = [
            (placed.question, answer)
            for placed, answer in zip(questions, answers, strict=True)
            if placed.place == place
        ]
        labelled, place_answers = zip(*pairs, strict=True)
        scores[place] = score(labelled, place_answers).mean
    return scores


def _mode_used(answer: Answer) -> str:
    return answer.kind if answer.kind == "abstained" else answer.used
