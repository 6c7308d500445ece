"""The bank's stored examples, and which of them a question is, in any words.

What a module was trained on is kept beside it, so a question that is plainly one of these has its
answer without any model. The comparison is text against text (retrieval/stored_questions.py). A
threshold for each bank keeps false matches rare: the log-odds that questions of the bank reach when
their own fact is taken out.
"""

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from lorabank.bank.drafts import EXAMPLES
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.text_index import ModuleTexts
from lorabank.engine.backbone.caches import LruCache
from lorabank.errors import LorabankError
from lorabank.retrieval.stored_questions import Match, StoredQuestions, probability
from lorabank.retrieval.trigrams import fold
from lorabank.retrieval.wordings import FEATURES, token_rarity
from lorabank.store.records import Version
from lorabank.store.store import Store
from lorabank.tasks.ordinary_texts import QUESTIONS as ORDINARY

_log = logging.getLogger(__name__)
_SURE = 6.0  # log-odds of a question that is a stored one letter by letter
_SIDE_BY_SIDE = 1.0  # log-odds within which two stored questions are equally near
_NEAR = 0.25  # cosine of trigrams from which a stored question is worth naming
_CUT_OFF = 24  # letters of a draft that is compared with the beginning of a long answer
_CACHED_MODULES = 1024


@dataclass(frozen=True, slots=True)
class StoredExample:
    """A stored example beside a question."""

    module: str
    version: int
    source: str | None
    question: str
    answer: str
    p: float
    """Probability that the question asks this."""
    features: dict[str, float] = field(default_factory=dict)
    """Features of the probability (retrieval/wordings.py)."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """Stored examples that come near a question."""

    nearest: tuple[StoredExample, ...] = ()
    """Stored examples that come nearest, the best first."""
    is_stored: bool = False
    """Whether the first is plainly the question."""

    @property
    def best(self) -> StoredExample | None:
        return self.nearest[0] if self.nearest else None

    @property
    def answers(self) -> tuple[StoredExample, ...]:
        """The examples that answer the question: one, or more that contradict each other."""
        if not self.is_stored:
            return ()
        first = self.nearest[0]
        rivals = {
            fold(e.answer): e
            for e in reversed(self.nearest)
            if log_odds(e.p) >= log_odds(first.p) - _SIDE_BY_SIDE
        }
        rivals.pop(fold(first.answer), None)
        return (first, *sorted(rivals.values(), key=lambda e: (-e.p, e.module)))


class StoredExamples:
    """Looks questions up among the examples of a bank, and follows the bank as it changes."""

    def __init__(self, store: Store, reader: ModuleReader, texts: ModuleTexts):
        """Prepare the lookup; nothing is read before the first question."""
        self.store, self.reader, self.texts = store, reader, texts
        self._generation: int | None = None
        self._rows: list[tuple[str, str]] = []
        """Module and text of each stored question."""
        self._index: StoredQuestions | None = None
        self._threshold: float | None = None
        self._versions: dict[str, Version] = {}
        """Current version of the modules that were looked at."""
        chat = reader.base.chat
        self._rarity = token_rarity(
            lambda w: len(chat.tokenizer(w, add_special_tokens=False)["input_ids"])
        )
        self._answers: LruCache[dict[str, list[tuple[str, str]]]] = LruCache(
            _CACHED_MODULES, lambda _: 1
        )

    def look_up(self, questions: Sequence[str]) -> list[Lookup]:
        """Return what the stored examples say about each question."""
        index = self._current()
        if index is None:
            return [Lookup() for _ in questions]
        threshold = self._threshold_of(index)  # of the same generation, though the bank may go on
        matches_of = index.match(questions, same_answer=self._same_answer)
        return [
            self._lookup(question, matches, threshold)
            for question, matches in zip(questions, matches_of, strict=True)
        ]

    def threshold(self) -> float:
        """Return the log-odds from which a stored question is plainly the one asked."""
        index = self._current()
        return math.inf if index is None else self._threshold_of(index)

    def _threshold_of(self, index: StoredQuestions) -> float:
        if self._threshold is None:
            ordinary = list(ORDINARY)
            self._threshold = self.texts.derive(
                "lookup-2" if index.vectors is not None else "lookup-2-by-words",
                lambda: index.calibrate(ordinary, same_answer=self._same_answer),
                encode=lambda threshold: json.dumps(threshold).encode(),
                decode=lambda content: float(json.loads(content)),
            )
        return self._threshold

    def describe_nearest(self, question: str, lookup: Lookup) -> str:
        """Return a sentence that says what is known instead; empty where nothing comes near."""
        index, best = self._current(), lookup.best
        if index is None or best is None or best.features["trigrams"] < _NEAR:
            return ""
        known, other = index.difference(question, best.question)
        if known and other:
            return f"I know {known}, not {other}"
        return f"the nearest stored question is {best.question!r}"

    @property
    def questions(self) -> StoredQuestions:
        """The stored questions of the bank as it is, which may be none."""
        return self._current() or StoredQuestions([], self._rarity)

    def holds_answer(self, module: str, text: str) -> bool:
        """Return whether a module has a stored example with this answer."""
        answers = self._answers_of(self._version(module)).values()
        return any(agree(text, answer) for held in answers for answer, _ in held)

    def _current(self) -> StoredQuestions | None:
        """Return the index of the bank as it is; None where no question is stored."""
        generation = self.store.generation
        if self._generation != generation:
            keys = self.store.all_keys()
            self._rows = [(name, key.text) for name, _, key in keys if key.kind == "question"]
            questions = [text for _, text in self._rows]
            embedder = self.texts.embedder() if questions else None
            self._index = (
                StoredQuestions(
                    questions,
                    self._rarity,
                    vectors=self.texts.vectors_of(questions) if embedder else None,
                    embed=self.texts.embed_questions if embedder else None,
                )
                if questions
                else None
            )
            self._threshold, self._versions, self._generation = None, {}, generation
        return self._index

    def _lookup(self, question: str, matches: Sequence[Match], threshold: float) -> Lookup:
        nearest = []
        for match in matches:
            module, stored = self._rows[match.row]
            is_equal = fold(stored) == fold(question)
            score = max(match.score, _SURE) if is_equal else match.score
            values = dict(zip(FEATURES, match.features, strict=False))
            version = self._version(module)
            for answer, source in self._answers_of(version).get(stored, []):
                nearest.append(
                    StoredExample(
                        module,
                        version.number,
                        source,
                        stored,
                        answer,
                        probability(score),
                        values,
                    )
                )
        nearest.sort(key=lambda example: -example.p)
        best = nearest[0] if nearest else None
        is_stored = best is not None and (
            fold(best.question) == fold(question) or log_odds(best.p) >= threshold - 1e-6
        )
        return Lookup(tuple(nearest), is_stored)

    def _version(self, module: str) -> Version:
        if module not in self._versions:
            self._versions[module] = self.store.current(module)
        return self._versions[module]

    def _same_answer(self, a: int, b: int) -> bool:
        """Return whether two stored questions have an answer in common."""
        answers = []
        for row in (a, b):
            module, text = self._rows[row]
            held = self._answers_of(self._version(module)).get(text, [])
            answers.append({fold(answer) for answer, _ in held})
        return bool(answers[0] & answers[1])

    def _answers_of(self, version: Version) -> dict[str, list[tuple[str, str]]]:
        """Return (answer, source) pairs by question, of a version's examples without turns before.

        None are returned for a module that came without examples, or whose examples are damaged:
        its adapter answers all the same.
        """
        if EXAMPLES not in version.files:
            return {}

        def load(_: Sequence[int]) -> list[dict[str, list[tuple[str, str]]]]:
            try:
                parts = self.reader.read_draft(version).parts
            except LorabankError as error:
                _log.warning("examples of %s are left out: %s", version.module, error)
                return [{}]
            answers: dict[str, list[tuple[str, str]]] = {}
            for part in parts:
                for example in part.examples:
                    if all(turn.role != "assistant" for turn in example.prompt):
                        pair = example.answer, part.source.name
                        for question in example.questions:
                            answers.setdefault(question, []).append(pair)
            return [answers]

        return self._answers.get([version.files[EXAMPLES]], load)[0]


def agree(text: str, answer: str) -> bool:
    """Return whether a draft gives a stored answer; a long one may be cut off in the draft."""
    draft, held = fold(text), fold(answer)
    return bool(draft) and (draft == held or (len(draft) >= _CUT_OFF and held.startswith(draft)))


def log_odds(p: float) -> float:
    """Return the log-odds of a probability."""
    return math.log(p) - math.log1p(-p)
