"""Asking: text routing names candidates, the gate hears them, one of them answers or none.

All candidates of all questions given at once run in mixed-adapter batches. Where no module knows,
the bare model answers if the question has nothing to do with the bank, and otherwise the bank
abstains: an answer it should have had and has not is worse guessed than missing.
"""

import time
from collections.abc import Callable, Sequence

from lorabank.bank.answer.answers import Answer, ScoredCandidate
from lorabank.bank.answer.gate import CalibrationCase, Gate, candidate_features
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.routers import Candidate, Router
from lorabank.engine.evaluation.drift import ORDINARY
from lorabank.engine.inference.candidates import DraftReply, probe_candidates
from lorabank.engine.inference.generate import generate
from lorabank.errors import UsageError
from lorabank.store.records import Version
from lorabank.tasks.examples import Message

N_CANDIDATES = 3
DRAFT_TOKENS = 16
"""Written by every candidate; the one chosen goes on from there if it has not ended."""
ON_TOPIC = 1 / 3
"""Share of a question's words in some module's keys from which its topic is the bank's."""
_SLOTS = 16  # modules in memory as one fleet


def answer_all(
    reader: ModuleReader,
    questions: Sequence[str],
    *,
    router: Router,
    gate: Gate | None,
    find: Callable[[str], Version],
    source_of: Callable[[Version, str], str | None],
    k: int = N_CANDIDATES,
    max_new_tokens: int = 64,
) -> list[Answer]:
    """An answer to each question.

    Args:
        router: names the candidates.
        gate: None answers with the first candidate whatever it says.
        find: the current version of a module.
        k: candidates heard for each question; without a gate 1 is enough.

    Raises:
        UsageError: an empty question, or one that is no text.
        DataError: one longer than the model's context.
    """
    check_questions(questions)
    started = time.perf_counter()
    routed = [few[:k] for few in router.route(questions, k)]
    answers: dict[int, Answer] = {}
    for some, versions in fleets(routed, find):
        heard = _hear(reader, [questions[i] for i in some], [routed[i] for i in some], versions)
        first_s = time.perf_counter() - started
        chosen = [_choose(gate, bare, few) for bare, few in heard]
        texts = _finish(
            reader, [questions[i] for i in some], heard, chosen, versions, max_new_tokens
        )
        for i, (_, few), (kind, best), text in zip(some, heard, chosen, texts, strict=True):
            version = versions.get(best.candidate.module) if best else None
            is_module = kind == "module" and version is not None
            answers[i] = Answer(
                question=questions[i],
                text=text,
                kind=kind,
                module=version.module if is_module and version else None,
                version=version.number if is_module and version else None,
                source=source_of(version, questions[i]) if is_module and version else None,
                p=best.p if best else None,
                candidates=tuple(few),
                used="adapter" if is_module else "none",
                prompt_tokens=len(_prompts(reader, [questions[i]])[0]),
                first_token_s=first_s,
                seconds=time.perf_counter() - started,
            )
    return [answers[i] for i in range(len(questions))]


def check_questions(questions: Sequence[str]) -> None:
    """Refuse what cannot be asked.

    Raises:
        UsageError: an empty question, or one that is no text.
    """
    for question in questions:
        if not question.strip():
            raise UsageError("the question is empty; ask something")
        try:
            question.encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"the question {question[:60]!r} holds bytes that are no text; give it in UTF-8"
            ) from None


def cases(
    reader: ModuleReader,
    questions: Sequence[tuple[str, str]],
    *,
    router: Router,
    find: Callable[[str], Version],
    k: int = N_CANDIDATES,
) -> list[CalibrationCase]:
    """What the gate is fitted on.

    Args:
        questions: (module, one of its training questions); ordinary ones are added.
    """
    asked = [*questions, *(("", question) for question, _ in ORDINARY)]
    texts = [question for _, question in asked]
    routed = router.route(texts, k + 1)
    found: dict[int, CalibrationCase] = {}
    for some, versions in fleets(routed, find):
        heard = _hear(reader, [texts[i] for i in some], [routed[i] for i in some], versions)
        for i, (bare, few) in zip(some, heard, strict=True):
            found[i] = _case(asked[i][0], bare, few, k)
    return [found[i] for i in range(len(asked))]


def _case(module: str, bare: DraftReply, few: Sequence[ScoredCandidate], k: int) -> CalibrationCase:
    own = next((heard.features for heard in few if heard.candidate.module == module), None)
    others = [heard for heard in few if heard.candidate.module != module][:k]
    # As if its own module were not there: the best of the others is then the first.
    top = max((heard.candidate.score for heard in others), default=0.0)
    rows = [
        candidate_features(
            heard.draft,
            bare,
            coverage=heard.candidate.coverage,
            behind=top - heard.candidate.score,
        )
        for heard in others
    ]
    return CalibrationCase(own, tuple(rows))


def fleets(
    routed: Sequence[Sequence[Candidate]], find: Callable[[str], Version]
) -> list[tuple[list[int], dict[str, Version]]]:
    """Questions in groups whose candidates fit in one fleet, like candidates together."""
    groups: list[tuple[list[int], dict[str, Version]]] = []
    order = sorted(range(len(routed)), key=lambda i: [c.module for c in routed[i]])
    for i in order:
        names = [candidate.module for candidate in routed[i]]
        if not groups or len({*groups[-1][1], *names}) > max(_SLOTS, len(names)):
            groups.append(([], {}))
        some, versions = groups[-1]
        some.append(i)
        for name in names:
            if name not in versions:
                versions[name] = find(name)
    return groups


def _hear(
    reader: ModuleReader,
    questions: Sequence[str],
    routed: Sequence[Sequence[Candidate]],
    versions: dict[str, Version],
) -> list[tuple[DraftReply, list[ScoredCandidate]]]:
    """Per question the bare model's trace and its candidates, their text scores compared."""
    prompts = _prompts(reader, questions)
    slot_of = {name: slot for slot, name in enumerate(versions)}
    slots = [[slot_of[candidate.module] for candidate in few] for few in routed]
    if not versions:
        traces = probe_candidates(
            reader.base, prompts, fleet=None, slots=slots, n_tokens=DRAFT_TOKENS
        )
    else:
        with reader.loaded_fleet(list(versions.values())) as fleet:
            traces = probe_candidates(
                reader.base, prompts, fleet=fleet, slots=slots, n_tokens=DRAFT_TOKENS
            )
    heard = []
    for few, (bare, *others) in zip(routed, traces, strict=True):
        top = max((candidate.score for candidate in few), default=0.0)
        heard.append(
            (
                bare,
                [
                    ScoredCandidate(
                        candidate,
                        versions[candidate.module].number,
                        candidate_features(
                            trace,
                            bare,
                            coverage=candidate.coverage,
                            behind=top - candidate.score,
                        ),
                        trace,
                        None,
                    )
                    for candidate, trace in zip(few, others, strict=True)
                ],
            )
        )
    return heard


def _choose(
    gate: Gate | None, bare: DraftReply, few: list[ScoredCandidate]
) -> tuple[str, ScoredCandidate | None]:
    """Who answers; the candidates get their probabilities in passing."""
    if not few:
        return "bare", None
    if gate is None:
        return "module", few[0]
    few[:] = [
        ScoredCandidate(h.candidate, h.version, h.features, h.draft, gate.probability(h.features))
        for h in few
    ]
    best = max(few, key=lambda heard: gate.log_odds(heard.features))
    if gate.opens(best.features):
        return "module", best
    likest = max(heard.candidate.content_coverage for heard in few)
    return ("abstained" if likest >= ON_TOPIC else "bare"), best


def _finish(
    reader: ModuleReader,
    questions: Sequence[str],
    heard: Sequence[tuple[DraftReply, list[ScoredCandidate]]],
    chosen: Sequence[tuple[str, ScoredCandidate | None]],
    versions: dict[str, Version],
    max_new_tokens: int,
) -> list[str]:
    """The whole reply of whoever was chosen; most are whole already."""
    texts, left = [""] * len(questions), []
    for i, ((bare, _), (kind, best)) in enumerate(zip(heard, chosen, strict=True)):
        if kind == "abstained":
            continue
        trace = best.draft if kind == "module" and best else bare
        texts[i] = trace.text
        if not trace.has_ended and max_new_tokens > DRAFT_TOKENS:
            left.append(i)
    if not left:
        return texts
    prompts = _prompts(reader, [questions[i] for i in left])
    room = reader.base.max_tokens - max(map(len, prompts))
    n_tokens = min(max_new_tokens, room)
    names = [best.candidate.module if best else "" for _, best in (chosen[i] for i in left)]
    strength = [float(chosen[i][0] == "module") for i in left]
    used = [name for name in versions if name in names]
    if used:
        with reader.loaded_fleet([versions[name] for name in used]) as fleet:
            slots = [used.index(name) if name else 0 for name in names]
            whole = generate(
                reader.base,
                prompts,
                fleet=fleet,
                slots=slots,
                adapter_scales=strength,
                max_new_tokens=n_tokens,
            )
    else:
        whole = generate(reader.base, prompts, max_new_tokens=n_tokens)
    for i, text in zip(left, whole, strict=True):
        texts[i] = text
    return texts


def _prompts(reader: ModuleReader, questions: Sequence[str]) -> list[list[int]]:
    chat = reader.base.chat
    return [chat.prompt_ids([Message("user", question)]) for question in questions]
