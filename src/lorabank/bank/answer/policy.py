"""The policy: adapter, text, both, or "I don't know", for each question by what it is worth.

A way is worth the probability that what it reads or knows holds the answer, less what it costs. Of
a module that is the gate's p times the module's recall, if the gate opens; of text, that it
answers the question (evidence.py); of both, that either does. Costs are a stated price for context
tokens, seconds and adapters to load. A document no longer than the passages is read whole. Where
nothing is worth the least, the bank abstains, or leaves the question to the bare model if it has
nothing to do with what the bank holds. (METHODS B3; question 13 of arXiv:2603.01097 tries the
combinations, and chooses none.)
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import torch

from lorabank.bank.answer.answers import Answer, Choice, Option
from lorabank.bank.answer.ask import N_CANDIDATES, ON_TOPIC, answer_all
from lorabank.bank.answer.evidence import Evidence, weigh_evidence
from lorabank.bank.answer.excerpts import Excerpt, Excerpts
from lorabank.bank.answer.gate import Gate
from lorabank.bank.answer.modes import (
    ADAPTER,
    ADAPTER_RAG,
    AUTO,
    ICL,
    NONE,
    RAG,
    answer_in_mode,
    prepare_prompt,
)
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.routers import Candidate, Router
from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.store.records import Version

COVERED = 0.75
"""Share of a question that must be in one sentence where there is nothing to calibrate on."""
_SPEED_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Costs:
    """Prices, each in the probability of a right answer that it must be worth."""

    per_1000_tokens: float = 0.02
    per_second: float = 0.01
    """Of reading the prompt."""
    per_load: float = 0.01
    """Of an adapter that is not in memory."""
    least_worth: float = 0.4
    """Worth below which nothing is answered."""
    enough_worth: float = 0.75
    """Worth from which no text is looked at: it costs more than it could add."""

    def __post_init__(self) -> None:
        """Refuse prices below nothing, and limits that are no probabilities."""
        prices = (self.per_1000_tokens, self.per_second, self.per_load)
        if min(prices) < 0 or not 0 <= self.least_worth <= 1 or not 0 <= self.enough_worth <= 1:
            raise UsageError(
                "prices must be 0 or more, least_worth and enough_worth 0..1, got "
                f"{', '.join(f'{name}={value:g}' for name, value in asdict(self).items())}"
            )

    def option(self, way: str, p: float, *, tokens: int, ms: float, loads: int) -> Option:
        cost = self.per_1000_tokens * tokens / 1000 + self.per_second * ms / 1000
        cost += self.per_load * loads
        return Option(way, p, tokens, ms, loads, cost, p - cost)


@dataclass(frozen=True, slots=True)
class AnswerContext:
    """What a policy works with: the bank's parts."""

    reader: ModuleReader
    excerpts: Excerpts
    router: Router
    gate: Callable[[], Gate | None]
    """Made when it is needed."""
    evidence: Callable[[], Gate | None]
    """Judge of text, the same; None falls back on COVERED."""
    find: Callable[[str], Version]
    source_of: Callable[[Version, str], str | None]
    ms_per_token: Callable[[], float]
    """Of the bare model reading a prompt (`reading_speed`)."""
    costs: Costs


def answer(
    mode: str,
    given: AnswerContext,
    questions: Sequence[str],
    *,
    gated: bool = True,
    k: int = N_CANDIDATES,
    max_new_tokens: int = 64,
) -> list[Answer]:
    """An answer to each question, by one way for all or by `auto` for each.

    Args:
        gated: of `adapter`: whether a module has to convince the gate.
        k: modules heard, of `adapter` and `auto`.
    """
    if mode == AUTO:
        return answer_auto(given, questions, k=k, max_new_tokens=max_new_tokens)
    if mode == ADAPTER:
        return _hear(given, questions, given.gate() if gated else None, k, max_new_tokens)
    return _read(given, mode, questions, given.router, max_new_tokens)


def answer_auto(
    given: AnswerContext,
    questions: Sequence[str],
    *,
    k: int = N_CANDIDATES,
    max_new_tokens: int = 64,
) -> list[Answer]:
    """An answer to each question by the way that is worth most; `choice` says what there was.

    `prompt_tokens` counts all that was read for it: the modules' prompt, the sentences weighed and
    the prompt that was answered.

    Raises:
        UsageError: an empty question. DataError: one longer than the model's context.
    """
    started = time.perf_counter()
    heard = _hear(given, questions, given.gate(), k, max_new_tokens)
    worth = _Worth(given, given.evidence(), given.ms_per_token(), max_new_tokens)
    first = [worth.adapter(answer) for answer in heard]
    text = _look_up(given, questions, first)
    answers: list[Answer] = []
    left: dict[str, list[int]] = {}
    for i, one in enumerate(heard):
        found, evidence = text.get(i, ([], None))
        options = worth.options(one, first[i], found, evidence)
        kept, way = _decide(given, one, options, found)
        tokens = one.prompt_tokens + (evidence.n_tokens if evidence else 0)
        now = time.perf_counter() - started
        answers.append(replace(kept, prompt_tokens=tokens, first_token_s=now, seconds=now))
        if way is not None:
            left.setdefault(way, []).append(i)
    for way, places in left.items():
        before = time.perf_counter() - started
        router = _Heard({questions[i]: heard[i] for i in places})
        read = _read(given, way, [questions[i] for i in places], router, max_new_tokens)
        for i, one in zip(places, read, strict=True):
            answers[i] = _joined(answers[i], one, before)
    return answers


def measure_reading_speed(base: Base) -> float:
    """Milliseconds that the bare model takes for a token of a prompt, here and now."""
    ids = torch.zeros(1, _SPEED_TOKENS, dtype=torch.long, device=base.device)
    with torch.no_grad():
        for _ in range(2):  # the first time pays for more than reading
            started = time.perf_counter()
            base.model(input_ids=ids, logits_to_keep=1).logits.cpu()
    return 1000 * (time.perf_counter() - started) / _SPEED_TOKENS


def _look_up(
    given: AnswerContext, questions: Sequence[str], first: Sequence[Option | None]
) -> dict[int, tuple[list[Excerpt], Evidence | None]]:
    """What the documents have for each question that no module is sure enough of."""
    places = [
        i for i, one in enumerate(first) if one is None or one.value < given.costs.enough_worth
    ]
    asked = [questions[i] for i in places]
    found = given.excerpts.search(asked)
    weighed = weigh_evidence(given.reader, given.excerpts, asked, found)
    return dict(zip(places, zip(found, weighed, strict=True), strict=True))


def _joined(so_far: Answer, read: Answer, before_s: float) -> Answer:
    """The answer that was read in the end, with all that it took."""
    return replace(
        read,
        mode=AUTO,
        p=so_far.p,
        candidates=so_far.candidates,
        choice=so_far.choice,
        prompt_tokens=so_far.prompt_tokens + read.prompt_tokens,
        first_token_s=before_s + read.first_token_s,
        seconds=before_s + read.seconds,
    )


@dataclass(frozen=True, slots=True)
class _Worth:
    """What ways are worth here and now."""

    given: AnswerContext
    judge: Gate | None
    ms_per_token: float
    room: int

    def adapter(self, heard: Answer) -> Option | None:
        """Of the module that has convinced the gate."""
        if heard.kind != "module" or heard.module is None or heard.p is None:
            return None
        version = self.given.find(heard.module)
        p = heard.p * float(version.record.get("recall") or 0.0)
        loads = int(not self.given.reader.is_loaded(version))
        return self._option(ADAPTER, p, heard.prompt_tokens, loads)

    def options(
        self,
        heard: Answer,
        adapter: Option | None,
        found: Sequence[Excerpt],
        evidence: Evidence | None,
    ) -> list[Option]:
        """All that can be done, what is worth most first; of equals the shorter prompt."""
        options = [adapter] if adapter else []
        if evidence is None:
            return options
        covered = evidence.coverage
        p = (
            self.judge.probability(evidence.features)
            if self.judge
            else covered * (covered >= COVERED)
        )
        for way in (RAG, ICL):
            try:
                prompt, _ = prepare_prompt(
                    self.given.reader.base, heard.question, found, way, self.room
                )
            except UsageError:
                continue  # a document that does not fit is no option
            n = len(prompt.ids)
            options.append(self._option(way, p, n, 0))
            if way == RAG and adapter:
                either = 1 - (1 - p) * (1 - adapter.p)
                options.append(self._option(ADAPTER_RAG, either, n, adapter.loads))
        return sorted(options, key=lambda one: (-one.value, one.tokens))

    def _option(self, way: str, p: float, n_tokens: int, loads: int) -> Option:
        ms = n_tokens * self.ms_per_token
        return self.given.costs.option(way, p, tokens=n_tokens, ms=ms, loads=loads)


def _decide(
    given: AnswerContext, answer: Answer, options: Sequence[Option], found: Sequence[Excerpt]
) -> tuple[Answer, str | None]:
    """The answer as it stands, and the way in which it has still to be read, if any."""
    best = options[0] if options else None
    if best and best.value >= given.costs.least_worth:
        reason = f"{best.mode} is worth {best.value:.2f}, more than any other way"
        kept = replace(answer, mode=AUTO, choice=Choice(tuple(options), reason))
        return kept, None if best.mode == ADAPTER else best.mode
    alike = [heard.candidate.content_coverage for heard in answer.candidates]
    alike += [excerpt.content_coverage for excerpt in found]
    is_like = max(alike, default=0.0) >= ON_TOPIC
    why = "the bank does not know" if is_like else "and the bank holds nothing like it"
    choice = Choice(tuple(options), f"nothing is worth {given.costs.least_worth:g}: {why}")
    if not is_like:
        kept = replace(answer, mode=AUTO, choice=choice)
        return kept, None if answer.kind == "bare" else NONE
    gone = replace(answer, text="", kind="abstained", module=None, version=None, source=None)
    return replace(gone, mode=AUTO, used=NONE, choice=choice), None


def _hear(
    given: AnswerContext, questions: Sequence[str], gate: Gate | None, k: int, max_new_tokens: int
) -> list[Answer]:
    return answer_all(
        given.reader,
        questions,
        router=given.router,
        gate=gate,
        find=given.find,
        source_of=given.source_of,
        k=k,
        max_new_tokens=max_new_tokens,
    )


def _read(
    given: AnswerContext, way: str, questions: Sequence[str], router: Router, max_new_tokens: int
) -> list[Answer]:
    return answer_in_mode(
        way,
        given.reader,
        questions,
        excerpts=given.excerpts,
        router=router,
        find=given.find,
        source_of=given.source_of,
        max_new_tokens=max_new_tokens,
    )


@dataclass(frozen=True, slots=True)
class _Heard:
    """Names the module that has convinced the gate already."""

    answers: dict[str, Answer]

    def route(self, questions: Sequence[str], k: int) -> list[list[Candidate]]:
        routed = []
        for question in questions:
            answer = self.answers[question]
            few = [heard.candidate for heard in answer.candidates]
            routed.append([one for one in few if one.module == answer.module][:k])
        return routed
