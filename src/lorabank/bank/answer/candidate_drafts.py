"""Candidate modules draft replies: the evidence that the gate judges.

All candidates of all questions run in mixed-adapter batches, in groups whose modules fit into one
fleet. The bare model drafts a reply to each question too, since the gate compares with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lorabank.bank.answer.answers import ScoredCandidate
from lorabank.bank.answer.gate import candidate_features
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.routers import Candidate
from lorabank.engine.inference.candidates import DraftReply, probe_candidates
from lorabank.store.records import Version
from lorabank.tasks.examples import Message

DRAFT_TOKENS = 16
"""Tokens that each candidate writes; the chosen module writes the rest if its draft is cut off."""
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
) -> list[DraftedQuestion]:
    """Let the bare model and every candidate begin a reply to each question.

    Args:
        routed: candidates of each question.
        versions: a version of each candidate, as in `QuestionGroup`.

    Raises:
        DataError: a question longer than the model's context.
    """
    prompts = encode_questions(reader, questions)
    slot_of = {name: slot for slot, name in enumerate(versions)}
    slots = [[slot_of[candidate.module] for candidate in candidates] for candidates in routed]
    if not versions:
        drafts = probe_candidates(
            reader.base, prompts, fleet=None, slots=slots, n_tokens=DRAFT_TOKENS
        )
    else:
        with reader.loaded_fleet(list(versions.values())) as fleet:
            drafts = probe_candidates(
                reader.base, prompts, fleet=fleet, slots=slots, n_tokens=DRAFT_TOKENS
            )
    return [
        DraftedQuestion(question, prompt, bare, _score(candidates, bare, own, versions))
        for question, prompt, candidates, (bare, *own) in zip(
            questions, prompts, routed, drafts, strict=True
        )
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
