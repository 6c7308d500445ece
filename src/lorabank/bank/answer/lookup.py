"""The bank's stored examples, and which of them a question is, in any words.

What a module was trained on is kept beside it, so a question that is plainly one of these has its
answer without any model. So has one that is a remembered fact's: the fact's present value, whatever
a module was taught (bank/fact_book.py). The comparison is text against text
(retrieval/stored_questions.py). A threshold for each bank keeps false matches rare: the log-odds
that questions of the bank reach when their own fact is taken out.
"""

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lorabank.bank.drafts import EXAMPLES
from lorabank.bank.fact_book import FOREVER, PENDING, FactBook
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.text_index import ModuleTexts
from lorabank.bank.stored_text import DOCUMENTS
from lorabank.engine.backbone.caches import LruCache
from lorabank.engine.backbone.prefill import Tokens
from lorabank.errors import LorabankError
from lorabank.retrieval.stored_questions import Match, StoredQuestions, probability
from lorabank.retrieval.trigrams import fold
from lorabank.retrieval.wordings import FEATURES, token_rarity
from lorabank.store.records import Fact, Version
from lorabank.store.store import Store
from lorabank.tasks.ordinary_texts import QUESTIONS as ORDINARY

_log = logging.getLogger(__name__)
_SURE = 6.0  # log-odds of a question that is a stored one letter by letter
_SIDE_BY_SIDE = 1.0  # log-odds within which two stored questions are equally near
_NEAR = 0.25  # cosine of trigrams from which a stored question is worth naming
_CUT_OFF = 24  # letters of a draft that is compared with the beginning of a long answer
_CACHED_MODULES = 1024
_MOST_ANSWERS = 1024  # of a module that are tokenised


@dataclass(frozen=True, slots=True)
class StoredExample:
    """A stored example beside a question."""

    module: str
    """Empty for a remembered fact that no module was taught."""
    version: int
    source: str | None
    question: str
    answer: str
    p: float
    """Probability that the question asks this."""
    is_changed: bool = False
    """Whether a module was taught a value of this fact that holds no longer."""
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


@dataclass(frozen=True, slots=True)
class _Taught:
    """An answer that a module was taught."""

    answer: str
    source: str
    question: str
    """Question in the example's own wording."""


class StoredExamples:
    """Looks questions up among the examples of a bank, and follows the bank as it changes."""

    def __init__(self, store: Store, reader: ModuleReader, texts: ModuleTexts):
        """Prepare the lookup; nothing is read before the first question."""
        self.store, self.reader, self.texts = store, reader, texts
        self._generation: int | None = None
        self._facts = FactBook([])
        self._changed: frozenset[str] = frozenset()
        """Keys of facts of which a module was taught a value that holds no longer."""
        self._rows: list[tuple[str, str]] = []
        """Module and text of each stored question."""
        self._places: dict[str, list[int]] = {}
        """Places of each module's stored questions among these."""
        self._index: StoredQuestions | None = None
        self._threshold: float | None = None
        self._versions: dict[str, Version] = {}
        """Current version of the modules that were looked at."""
        chat = reader.base.chat
        self.rarity = token_rarity(
            lambda w: len(chat.tokenizer(w, add_special_tokens=False)["input_ids"])
        )
        self._answer_tokens: LruCache[list[Tokens]] = LruCache(_CACHED_MODULES, lambda _: 1)
        self._answers: LruCache[dict[str, list[_Taught]]] = LruCache(_CACHED_MODULES, lambda _: 1)

    def look_up(self, questions: Sequence[str], *, as_of: str | None = None) -> list[Lookup]:
        """Return what the stored examples say about each question.

        Args:
            as_of: time at which the values of facts are wanted; None for now.
        """
        index = self._current()
        if index is None:
            return [Lookup() for _ in questions]
        threshold = self._threshold_of(index)  # of the same generation, though the bank may go on
        matches_of = index.match(questions, same_answer=self._same_answer)
        return [
            self._lookup(question, matches, threshold, as_of)
            for question, matches in zip(questions, matches_of, strict=True)
        ]

    def threshold(self) -> float:
        """Return the log-odds from which a stored question is plainly the one asked."""
        index = self._current()
        return math.inf if index is None else self._threshold_of(index)

    def _threshold_of(self, index: StoredQuestions) -> float:
        if self._threshold is None:
            ordinary = list(ORDINARY)
            name = "lookup-2" if index.vectors is not None else "lookup-2-by-words"
            # Remembered facts move it little, so it is made again when their number has doubled.
            n_doubled = len(self._facts).bit_length()
            self._threshold = self.texts.derive(
                f"{name}-{n_doubled}" if n_doubled else name,
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
        return self._current() or StoredQuestions([], self.rarity)

    def holds_answer(self, module: str, text: str) -> bool:
        """Return whether a module has a stored example with this answer."""
        answers = self._answers_of(self._version(module)).values()
        return any(agree(text, taught.answer) for held in answers for taught in held)

    def may_be_taught(self, module: str, question: str) -> bool:
        """Return whether a question may ask what a module was taught, by its stored questions.

        A module that came without examples, or was made of documents, may know more than these.
        """
        index, version = self._current(), self._version(module)
        if index is None or DOCUMENTS in version.files or not self._answers_of(version):
            return True
        return index.may_ask(question, self._places.get(module, ()))

    def answers_as_tokens(self, version: Version) -> list[Tokens]:
        """Return the answers that a version was taught, each with the end of the turn.

        None are returned for a version with so many that a draft's beginning tells little.
        """

        def encode(_: Sequence[int]) -> list[list[Tokens]]:
            held = self._answers_of(version).values()
            texts = dict.fromkeys(taught.answer for of_one in held for taught in of_one)
            if len(texts) > _MOST_ANSWERS:
                return [[]]
            return [[tuple(self.reader.base.chat.answer_ids(text)) for text in texts]]

        if EXAMPLES not in version.files:
            return []
        return self._answer_tokens.get([version.files[EXAMPLES]], encode)[0]

    def stale_value(self, module: str, text: str, lookup: Lookup) -> Fact | None:
        """Return the value that holds no longer and that a module's reply gives, if it does.

        A value that the module still holds of another fact counts only where the question comes
        nearest to the fact that has changed.
        """
        words = f" {fold(text)} "
        for fact in self._facts.stale:
            if fact.module == module and f" {fold(fact.answer)} " in words:
                best = lookup.best
                is_near = best is not None and self._facts.key_of(best.question) == fact.key
                if is_near or not self._holds_now(module, fact.answer):
                    return fact
        return None

    @property
    def facts(self) -> FactBook:
        """Return the remembered facts of the bank as it is."""
        self._current()
        return self._facts

    @property
    def pending_questions(self) -> list[str]:
        """Return the questions of facts that are in no module's weights."""
        held = {module: self._has_weights(module) for module in self._places}
        return [question for module, question in self._rows if not held[module]]

    def _has_weights(self, module: str) -> bool:
        return module != PENDING and not self.texts.is_untrained(module)

    def _holds_now(self, module: str, answer: str) -> bool:
        """Return whether a module was taught an answer to a fact that still holds."""
        held = self._answers_of(self._version(module)).values()
        return any(
            fold(taught.answer) == fold(answer) and self._facts.key_of(taught.question) is None
            for examples in held
            for taught in examples
        ) or any(
            fold(fact.answer) == fold(answer) and fact.invalid_at is None
            for fact in self._facts.facts
            if fact.module == module
        )

    def _current(self) -> StoredQuestions | None:
        """Return the index of the bank as it is; None where no question is stored."""
        generation = self.store.generation
        if self._generation != generation:
            keys = self.store.all_keys()
            self._rows = [(name, key.text) for name, _, key in keys if key.kind == "question"]
            self._facts = FactBook(self.store.facts())
            self._changed = frozenset(fact.key for fact in self._facts.stale)
            taught = {text for _, text in self._rows}
            own = [text for fact in self._facts.facts for text in (fact.question, *fact.also)]
            self._rows += [(PENDING, text) for text in dict.fromkeys(own) if text not in taught]
            self._places = {}
            for place, (name, _) in enumerate(self._rows):
                self._places.setdefault(name, []).append(place)
            questions = [text for _, text in self._rows]
            embedder = self.texts.embedder() if questions else None
            self._index = (
                StoredQuestions(
                    questions,
                    self.rarity,
                    vectors=self.texts.vectors_of(questions) if embedder else None,
                    embed=self.texts.embed_questions if embedder else None,
                )
                if questions
                else None
            )
            self._threshold, self._versions, self._generation = None, {}, generation
        return self._index

    def _lookup(
        self, question: str, matches: Sequence[Match], threshold: float, as_of: str | None
    ) -> Lookup:
        nearest = []
        for match in matches:
            module, stored = self._rows[match.row]
            is_equal = fold(stored) == fold(question)
            score = max(match.score, _SURE) if is_equal else match.score
            values = dict(zip(FEATURES, match.features, strict=False))
            for example in self._examples_at(module, stored, as_of):
                nearest.append(replace(example, p=probability(score), features=values))
        nearest.sort(key=lambda example: -example.p)
        best = nearest[0] if nearest else None
        is_stored = best is not None and (
            fold(best.question) == fold(question) or log_odds(best.p) >= threshold - 1e-6
        )
        return Lookup(tuple(nearest), is_stored)

    def _examples_at(self, module: str, stored: str, as_of: str | None) -> list[StoredExample]:
        """Return what is known of a stored question: a fact's value, or what its module says."""
        if module == PENDING:
            return self._values(self._facts.key_of(stored), stored, as_of)
        version = self._version(module)
        examples = []
        for taught in self._answers_of(version).get(stored, []):
            key = self._facts.key_of(taught.question)
            if key is not None:
                examples += self._values(key, stored, as_of)
                continue
            examples.append(
                StoredExample(module, version.number, taught.source, stored, taught.answer, 0.0)
            )
        return examples

    def _values(self, key: str | None, stored: str, as_of: str | None) -> list[StoredExample]:
        """Return the value of a fact at a time as a stored example; none where it had none."""
        fact = self._facts.at(key, as_of) if key is not None else None
        if key is None or fact is None:
            return []
        is_changed = key in self._changed
        return [
            StoredExample(
                fact.module or PENDING,
                fact.version or 0,
                _source_of(fact),
                stored,
                fact.answer,
                0.0,
                is_changed,
            )
        ]

    def _version(self, module: str) -> Version:
        if module not in self._versions:
            self._versions[module] = self.store.current(module)
        return self._versions[module]

    def _same_answer(self, a: int, b: int) -> bool:
        """Return whether two stored questions have an answer in common."""
        answers = []
        for row in (a, b):
            examples = self._examples_at(*self._rows[row], None)
            answers.append({fold(example.answer) for example in examples})
        return bool(answers[0] & answers[1])

    def _answers_of(self, version: Version) -> "dict[str, list[_Taught]]":
        """Return what a version was taught by question, of its examples without turns before.

        None are returned for a module that came without examples, or whose examples are damaged:
        its adapter answers all the same.
        """
        if EXAMPLES not in version.files:
            return {}

        def load(_: Sequence[int]) -> list[dict[str, list[_Taught]]]:
            try:
                parts = self.reader.read_draft(version).parts
            except LorabankError as error:
                _log.warning("examples of %s are left out: %s", version.module, error)
                return [{}]
            answers: dict[str, list[_Taught]] = {}
            for part in parts:
                for example in part.examples:
                    if all(turn.role != "assistant" for turn in example.prompt):
                        taught = _Taught(example.answer, part.source.name, example.question)
                        for question in example.questions:
                            answers.setdefault(question, []).append(taught)
            return [answers]

        return self._answers.get([version.files[EXAMPLES]], load)[0]


def _source_of(fact: Fact) -> str:
    """Return where a value is from, and what is to be known about it."""
    end = fact.invalid_at
    origin = f"remembered {fact.created_at[:10]}" if fact.valid_at != FOREVER else "as taught"
    if end is None:
        return f"{origin}, pending" if fact.is_pending else origin
    return f"{origin}, held until {end[:10]}" if end else f"{origin}, no longer held"


def agree(text: str, answer: str) -> bool:
    """Return whether a draft gives a stored answer; a long one may be cut off in the draft."""
    draft, held = fold(text), fold(answer)
    return bool(draft) and (draft == held or (len(draft) >= _CUT_OFF and held.startswith(draft)))


def log_odds(p: float) -> float:
    """Return the log-odds of a probability."""
    return math.log(p) - math.log1p(-p)
