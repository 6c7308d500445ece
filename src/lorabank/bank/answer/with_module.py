"""Mode `adapter`: a module answers, if the gate believes that it was taught the question.

Route, draft, gate, choose, finish. Where no module convinces the gate, the bare model answers a
question that has nothing to do with the bank. A question on the bank's topic gets no answer then:
an answer the bank should know and does not is worse guessed than missing.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lorabank.bank.answer.answers import Answer, ScoredCandidate
from lorabank.bank.answer.candidate_drafts import (
    DRAFT_TOKENS,
    DraftedQuestion,
    draft_candidates,
    group_by_fleet,
)
from lorabank.bank.answer.gate import Gate
from lorabank.bank.answer.modes import AskSettings, check_questions
from lorabank.bank.answer.state import BankState
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.write.contradictions import note_contradiction
from lorabank.engine.inference.generate import GenerationOptions, generate
from lorabank.store.records import Version

ON_TOPIC = 1 / 3
"""Share of a question's content words in one module's keys from which it is on the bank's topic."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """The decision about who answers one question."""

    kind: str
    """`module`, `bare` or `abstained`."""
    best: ScoredCandidate | None
    """Candidate the gate finds most likely; it answers if the kind is `module`."""
    candidates: tuple[ScoredCandidate, ...]
    """All candidates with their probabilities."""


def answer_with_modules(
    state: BankState, questions: Sequence[str], settings: AskSettings
) -> list[Answer]:
    """Answer each question with the module that convinces the gate.

    Raises:
        UsageError: an empty question, or one that is not text.
        DataError: a question longer than the model's context.
    """
    check_questions(questions)
    gate = state.module_gate() if settings.gated else None
    started = time.perf_counter()
    # 1. Route: the modules whose texts fit the question best are its candidates.
    n = settings.n_candidates
    routed = [candidates[:n] for candidates in settings.router.route(questions, n)]
    answers: dict[int, Answer] = {}
    for group in group_by_fleet(state.reader, routed):
        indices, versions = group.question_indices, group.versions
        # 2. Draft: every candidate and the bare model begin a reply.
        drafted = draft_candidates(
            state.reader, [questions[i] for i in indices], [routed[i] for i in indices], versions
        )
        first_token_s = time.perf_counter() - started
        # 3. Gate and choose.
        choices = [_choose(gate, question) for question in drafted]
        # 4. Finish: whoever was chosen writes the rest of its reply.
        texts = _finish(state.reader, drafted, choices, versions, settings.max_new_tokens)
        for i, question, choice, text in zip(indices, drafted, choices, texts, strict=True):
            answer = _answer(state, question, choice, versions)
            seconds = time.perf_counter() - started
            answers[i] = replace(answer, text=text, first_token_s=first_token_s, seconds=seconds)
    return [answers[i] for i in range(len(questions))]


def _choose(gate: Gate | None, question: DraftedQuestion) -> _Choice:
    """Choose the candidate that the gate finds most likely, if any convinces it."""
    candidates = question.candidates
    if not candidates:
        return _Choice("bare", None, ())
    if gate is None:
        return _Choice("module", candidates[0], candidates)
    candidates = tuple(replace(c, p=gate.probability(c.features)) for c in candidates)
    best = max(candidates, key=lambda candidate: gate.log_odds(candidate.features))
    if gate.opens(best.features):
        return _Choice("module", best, candidates)
    closest = max(candidate.candidate.content_coverage for candidate in candidates)
    return _Choice("abstained" if closest >= ON_TOPIC else "bare", best, candidates)


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
        if choice.kind == "abstained":
            continue
        is_module = choice.kind == "module" and choice.best is not None
        draft = choice.best.draft if is_module and choice.best else question.bare
        texts[i] = draft.text
        if not draft.has_ended and max_new_tokens > DRAFT_TOKENS:
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
    """Return the answer without its text and times."""
    version = None
    if choice.kind == "module" and choice.best is not None:
        version = versions[choice.best.candidate.module]
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
        note=note_contradiction(question.question, version, versions) if version else "",
    )
