"""Candidate modules draft replies: the evidence that the gate judges.

All candidates of all questions run in mixed-adapter batches, in groups whose modules fit into one
fleet. The bare model drafts a reply to each question too, since the gate compares with it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from lorabank.bank.answer.answers import ScoredCandidate
from lorabank.bank.answer.gate import Gate, candidate_features
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.routers import Candidate
from lorabank.engine.backbone.prefill import Tokens
from lorabank.engine.inference.candidates import DraftReply, Probing, probe_candidates
from lorabank.store.records import Version
from lorabank.tasks.examples import Message

DRAFT_TOKENS = 16
"""Tokens that each candidate writes; the chosen module writes the rest if its draft is cut off."""
BARE_TOKENS = 4
"""Tokens that the bare model writes, by which the gate sees how sure it is of an answer."""
_MOST_SLOTS = 16  # modules in memory as one fleet


@dataclass(frozen=True, slots=True)
class QuestionGroup:
    """Questions that are answered with one fleet."""

    question_indices: list[int]
    versions: dict[str, Version]
    """Current version of each candidate module by name; version i goes into slot i."""


@dataclass(frozen=True, slots=True)
class DraftedQuestion:
    """A question with the reply that the bare model and each candidate drafted."""

    question: str
    prompt: list[int]
    """Token ids, up to and including the assistant's header."""
    bare: DraftReply
    candidates: tuple[ScoredCandidate, ...]
    """Candidates without probabilities yet, in the router's order."""


def _no_answers(_: Version) -> Sequence[Tokens]:
    return ()


@dataclass(frozen=True, slots=True)
class Shortcuts:
    """Knowledge by which a draft need not be written to its end."""

    answers: Callable[[Version], Sequence[Tokens]] = _no_answers
    """Returns the answers that a version was taught, each with the end of the turn."""
    gate: Gate | None = None
    """Gate that judges the drafts; None to write those of losing candidates too."""
    witnesses: Mapping[int, str] = field(default_factory=dict)
    """Module whose draft is wanted whole, by index of the question: its stored example is near."""


def group_by_fleet(
    reader: ModuleReader, routed: Sequence[Sequence[Candidate]]
) -> list[QuestionGroup]:
    """Group questions so that the candidates of each group fit into one fleet.

    Questions with the same candidates stand together.

    Args:
        routed: candidates of each question.
    """
    groups: list[QuestionGroup] = []
    order = sorted(range(len(routed)), key=lambda i: [c.module for c in routed[i]])
    for i in order:
        names = [candidate.module for candidate in routed[i]]
        if not groups or len({*groups[-1].versions, *names}) > max(_MOST_SLOTS, len(names)):
            groups.append(QuestionGroup([], {}))
        group = groups[-1]
        group.question_indices.append(i)
        for name in names:
            if name not in group.versions:
                group.versions[name] = reader.store.current(name)
    return groups


def draft_candidates(
    reader: ModuleReader,
    questions: Sequence[str],
    routed: Sequence[Sequence[Candidate]],
    versions: dict[str, Version],
    shortcuts: Shortcuts = Shortcuts(),
) -> list[DraftedQuestion]:
    """Let the bare model and every candidate begin a reply to each question.

    Args:
        routed: candidates of each question.
        versions: a version of each candidate, as in `QuestionGroup`.
        shortcuts: what lets drafts be shorter; the gate finds the same candidate best without.

    Raises:
        DataError: a question longer than the model's context.
    """
    prompts = encode_questions(reader, questions)
    slot_of = {name: slot for slot, name in enumerate(versions)}
    slots = [[slot_of[candidate.module] for candidate in candidates] for candidates in routed]
    probing = Probing(
        DRAFT_TOKENS,
        BARE_TOKENS,
        {slot_of[name]: shortcuts.answers(version) for name, version in versions.items()},
        lambda i, drafts: _lost(shortcuts, i, routed[i], drafts),
    )
    if not versions:
        drafts = probe_candidates(reader.base, prompts, fleet=None, slots=slots, probing=probing)
    else:
        with reader.loaded_fleet(list(versions.values())) as fleet:
            drafts = probe_candidates(
                reader.base, prompts, fleet=fleet, slots=slots, probing=probing
            )
    return [
        DraftedQuestion(question, prompt, bare, _score(candidates, bare, own, versions))
        for question, prompt, candidates, (bare, *own) in zip(
            questions, prompts, routed, drafts, strict=True
        )
    ]


def _lost(
    shortcuts: Shortcuts, i: int, candidates: Sequence[Candidate], drafts: Sequence[DraftReply]
) -> list[bool]:
    """Return which drafts of a question the gate cannot find best, whatever they go on with."""
    gate = shortcuts.gate
    if gate is None:
        return [False] * len(drafts)
    best_score = max((candidate.score for candidate in candidates), default=0.0)
    ranges = []
    for candidate, draft in zip(candidates, drafts, strict=True):
        # What the bare model is sure of is the same for all, and moves none past another.
        row = candidate_features(
            draft, draft, coverage=candidate.coverage, behind=best_score - candidate.score
        )
        row = (*row[:-1], 0.0)
        share = 1.0 if draft.is_whole else len(draft.tokens) / DRAFT_TOKENS
        ranges.append(gate.range_of(row, share))
    surest = max(low for low, _ in ranges)
    return [
        high < surest and candidate.module != shortcuts.witnesses.get(i)
        for (_, high), candidate in zip(ranges, candidates, strict=True)
    ]


def encode_questions(reader: ModuleReader, questions: Sequence[str]) -> list[list[int]]:
    """Return each question as token ids, up to and including the assistant's header."""
    chat = reader.base.chat
    return [chat.direct_prompt_ids([Message("user", question)]) for question in questions]


def _score(
    candidates: Sequence[Candidate],
    bare: DraftReply,
    drafts: Sequence[DraftReply],
    versions: dict[str, Version],
) -> tuple[ScoredCandidate, ...]:
    """Return the candidates of one question with the features that the gate judges them by."""
    best_score = max((candidate.score for candidate in candidates), default=0.0)
    return tuple(
        ScoredCandidate(
            candidate,
            versions[candidate.module].number,
            candidate_features(
                draft,
                bare,
                coverage=candidate.coverage,
                behind=best_score - candidate.score,
            ),
            draft,
            None,
        )
        for candidate, draft in zip(candidates, drafts, strict=True)
    )
