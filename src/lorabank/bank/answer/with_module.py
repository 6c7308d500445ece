"""Mode `adapter`: a module answers, if the gate believes that it was taught the question.

Look up, confirm, route, draft, gate, choose, finish. Where a stored example is plainly the
question, its answer is given exactly, and its module says how sure that is: by one reading if it
would write that answer (confirmed_examples.py), else by its draft. Where no module convinces the
gate, the bare model answers a question that has nothing to do with the bank. A question on the
bank's topic gets no answer then: an answer the bank should know and does not is worse guessed than
missing.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lorabank.bank.answer.agreement import agreed_probability, confirmed_example, is_refuted
from lorabank.bank.answer.answers import Answer, ScoredCandidate
from lorabank.bank.answer.candidate_drafts import (
    DraftedQuestion,
    Shortcuts,
    draft_candidates,
    group_by_fleet,
)
from lorabank.bank.answer.confirmed_examples import answer_with_confirmed
from lorabank.bank.answer.gate import FALSE_ACTIVATIONS, Gate
from lorabank.bank.answer.lookup import Lookup
from lorabank.bank.answer.modes import ADAPTER, AskSettings, check_questions
from lorabank.bank.answer.state import BankState
from lorabank.bank.answer.with_examples import example_answer
from lorabank.bank.fact_book import PENDING
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.routers import Candidate
from lorabank.bank.write.contradictions import note_contradiction
from lorabank.engine.inference.generate import GenerationOptions, generate
from lorabank.store.records import Version

WITNESS = 0.05
"""Probability of a stored example from which its module drafts an answer too."""
ON_TOPIC = 1 / 3
"""Share of a question's content words in one module's keys from which it is on the bank's topic."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """The decision about who answers one question."""

    kind: str
    """`example`, `module`, `bare` or `abstained`."""
    best: ScoredCandidate | None
    """Candidate the gate finds most likely; it answers if the kind is `module`."""
    candidates: tuple[ScoredCandidate, ...]
    """All candidates with their probabilities."""
    lookup: Lookup = field(default_factory=Lookup)
    """Stored examples that come nearest; the first is the answer if the kind is `example`."""


def answer_with_modules(
    state: BankState, questions: Sequence[str], settings: AskSettings
) -> list[Answer]:
    """Answer each question with the module that convinces the gate.

    Raises:
        UsageError: an empty question, or one that is not text.
        DataError: a question longer than the model's context.
    """
    check_questions(questions)
    started = time.perf_counter()
    # 1. Look up, confirm: which stored examples come nearest, and would their modules write them.
    looks_up = settings.looks_up and settings.gated
    lookups = state.examples.look_up(questions) if looks_up else [Lookup() for _ in questions]
    answers: dict[int, Answer] = {}
    if not settings.explains:
        answers = answer_with_confirmed(state, questions, lookups, started)
    left = [i for i in range(len(questions)) if i not in answers]
    if left:
        others = _answer_drafting(
            state, [questions[i] for i in left], [lookups[i] for i in left], settings, started
        )
        answers |= dict(zip(left, others, strict=True))
    return [answers[i] for i in range(len(questions))]


def _answer_drafting(
    state: BankState,
    questions: Sequence[str],
    lookups: Sequence[Lookup],
    settings: AskSettings,
    started: float,
) -> list[Answer]:
    """Answer each question by what its candidates draft, given what the stored examples say.

    Args:
        started: clock at which the questions came, in seconds.
    """
    gate = state.module_gate() if settings.gated else None
    if gate and settings.false_activation != FALSE_ACTIVATIONS:
        gate = gate.at_rate(settings.false_activation)
    # 2. Route: the modules whose texts fit the question best are its candidates.
    n = settings.n_candidates
    routed = [
        _with_witness(state, question, candidates[:n], lookup)
        for question, candidates, lookup in zip(
            questions, settings.router.route(questions, n), lookups, strict=True
        )
    ]
    answers: dict[int, Answer] = {}
    for group in group_by_fleet(state.reader, routed):
        indices, versions = group.question_indices, group.versions
        # 3. Draft: every candidate and the bare model begin a reply.
        nearest = {place: lookups[i].best for place, i in enumerate(indices)}
        drafted = draft_candidates(
            state.reader,
            [questions[i] for i in indices],
            [routed[i] for i in indices],
            versions,
            Shortcuts(
                state.examples.answers_as_tokens,
                gate,
                {place: best.module for place, best in nearest.items() if best},
            ),
        )
        first_token_s = time.perf_counter() - started
        # 4. Gate and choose.
        choices = [
            _choose(state, gate, question, lookups[i])
            for i, question in zip(indices, drafted, strict=True)
        ]
        # 5. Finish: whoever was chosen writes the rest of its reply.
        texts = _finish(state.reader, drafted, choices, versions, settings.max_new_tokens)
        for i, question, choice, text in zip(indices, drafted, choices, texts, strict=True):
            answer = _answer(state, question, choice, versions)
            seconds = time.perf_counter() - started
            answers[i] = replace(
                answer, text=answer.text or text, first_token_s=first_token_s, seconds=seconds
            )
    return [answers[i] for i in range(len(questions))]


def _with_witness(
    state: BankState, question: str, candidates: list[Candidate], lookup: Lookup
) -> list[Candidate]:
    """Return the candidates, with the module of the nearest example in the place of the last."""
    best = lookup.best
    if best is None or not candidates or best.module in [c.module for c in candidates]:
        return candidates
    if best.p < WITNESS or best.module == PENDING or state.texts.is_untrained(best.module):
        return candidates
    coverages = state.texts.module_coverage(question, best.module)
    return [*candidates[:-1], Candidate(best.module, candidates[-1].score, {}, *coverages)]


def _choose(
    state: BankState, gate: Gate | None, question: DraftedQuestion, lookup: Lookup
) -> _Choice:
    """Choose the stored example that is the question, or the candidate that convinces the gate."""
    candidates = question.candidates
    # Without a module a fact that is not taught yet can be on the question's topic all the same.
    pending = state.texts.content_coverage(question.question, state.examples.pending_questions)
    if not candidates:
        kind = "example" if lookup.is_stored else "abstained" if pending >= ON_TOPIC else "bare"
        return _Choice(kind, None, (), lookup)
    if gate is None:
        kind = "example" if lookup.is_stored else "module"
        return _Choice(kind, candidates[0], candidates, lookup)
    candidates = tuple(replace(c, p=gate.probability(c.features)) for c in candidates)
    best = max(candidates, key=lambda candidate: gate.log_odds(candidate.features))
    if lookup.best and not lookup.is_stored:
        confirmed = confirmed_example(lookup, candidates, state.examples.threshold())
        lookup = replace(lookup, is_stored=confirmed is not None)
    if lookup.is_stored:
        return _Choice("example", best, candidates, lookup)
    if gate.opens(best.features) and not (
        lookup.best and is_refuted(state.examples, question.question, lookup, best)
    ):
        return _Choice("module", best, candidates, lookup)
    closest = max(pending, *(candidate.candidate.content_coverage for candidate in candidates))
    return _Choice("abstained" if closest >= ON_TOPIC else "bare", best, candidates, lookup)


def _finish(
    reader: ModuleReader,
    drafted: Sequence[DraftedQuestion],
    choices: Sequence[_Choice],
    versions: dict[str, Version],
    max_new_tokens: int,
) -> list[str]:
    """Return each question's whole reply, empty for an abstention; most drafts are whole."""
    texts, unfinished = [""] * len(drafted), []
    for i, (question, choice) in enumerate(zip(drafted, choices, strict=True)):
        if choice.kind in ("abstained", "example"):
            continue
        is_module = choice.kind == "module" and choice.best is not None
        draft = choice.best.draft if is_module and choice.best else question.bare
        texts[i] = draft.text
        if not draft.has_ended and max_new_tokens > len(draft.tokens):
            unfinished.append(i)
    if not unfinished:
        return texts
    prompts = [drafted[i].prompt for i in unfinished]
    n_tokens = min(max_new_tokens, reader.base.max_tokens - max(map(len, prompts)))
    bests = [choices[i].best for i in unfinished]
    names = [best.candidate.module if best else "" for best in bests]
    loaded_names = [name for name in versions if name in names]
    if loaded_names:
        with reader.loaded_fleet([versions[name] for name in loaded_names]) as fleet:
            replies = generate(
                reader.base,
                prompts,
                fleet=fleet,
                slots=[loaded_names.index(name) if name else 0 for name in names],
                max_new_tokens=n_tokens,
                options=GenerationOptions(
                    adapter_scales=[float(choices[i].kind == "module") for i in unfinished]
                ),
            )
    else:
        replies = generate(reader.base, prompts, max_new_tokens=n_tokens)
    for i, reply in zip(unfinished, replies, strict=True):
        texts[i] = reply
    return texts


def _answer(
    state: BankState, question: DraftedQuestion, choice: _Choice, versions: dict[str, Version]
) -> Answer:
    """Return the answer without its times, and without its text unless that is a stored one."""
    version, lookup = None, choice.lookup
    if choice.kind == "example":
        p = agreed_probability(lookup.nearest[0], choice.candidates)
        answer = example_answer(question.question, lookup, p=p)
        return replace(
            answer, candidates=choice.candidates, prompt_tokens=len(question.prompt), mode=ADAPTER
        )
    if choice.kind == "module" and choice.best is not None:
        version = versions[choice.best.candidate.module]
    note = note_contradiction(question.question, version, versions) if version else ""
    if choice.kind == "abstained":
        note = state.examples.describe_nearest(question.question, lookup)
    return Answer(
        question=question.question,
        text="",
        kind=choice.kind,
        module=version.module if version else None,
        version=version.number if version else None,
        source=state.closest_source(version, question.question) if version else None,
        p=choice.best.p if choice.best else None,
        candidates=choice.candidates,
        used="adapter" if version else "none",
        prompt_tokens=len(question.prompt),
        lookup=lookup,
        note=note,
    )
