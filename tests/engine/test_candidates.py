"""Drafts that are read instead of written, or left because they lost, are what they would be."""

from dataclasses import replace

import pytest

from lorabank.engine.backbone.base import Base
from lorabank.engine.inference import candidates
from lorabank.engine.inference.candidates import DraftReply, Probing, probe_candidates
from tests.engine.test_running_batch import random_fleet, requests

SLOTS = [[0, 1], [2, 3], [1, 0]]


def probe(base: Base, probing: Probing) -> list[list[DraftReply]]:
    prompts = [list(request.prompt) for request in requests(base)[:3]]
    with random_fleet(base) as fleet:
        return probe_candidates(base, prompts, fleet=fleet, slots=SLOTS, probing=probing)


def answers_of(drafts: list[list[DraftReply]], stop: int) -> dict[int, list[tuple[int, ...]]]:
    """Return a taught answer for each slot: its first draft, which is cut off, goes on."""
    answers: dict[int, list[tuple[int, ...]]] = {}
    for slots, (_, *own) in zip(SLOTS, drafts, strict=True):
        for slot, draft in zip(slots, own, strict=True):
            other = (*draft.tokens[:3], (draft.tokens[3] + 1) % 100, stop)
            answers.setdefault(slot, [(9, 9, 9), (*draft.tokens, 5, stop), other])
    return answers


def test_taught_answers_are_read_in_one_pass(tiny: Base, monkeypatch: pytest.MonkeyPatch):
    plain = probe(tiny, Probing(8))
    answers = answers_of(plain, tiny.chat.end_of_turn_id)
    n_read: list[int] = []
    read = candidates.read_answers

    def counting(base: Base, prompts: list[object], **more: object) -> list[object]:
        readings = read(base, prompts, **more)
        n_read.append(sum(reading.recalled for reading in readings))
        return readings

    monkeypatch.setattr(candidates, "read_answers", counting)
    short = probe(tiny, Probing(8, answers=answers))
    assert sum(n_read) >= 4
    for drafts, others in zip(short, plain, strict=True):
        for draft, other in zip(drafts, others, strict=True):
            assert draft.mean_nats == pytest.approx(other.mean_nats, abs=1e-4)
            assert draft.max_nats == pytest.approx(other.max_nats, abs=1e-4)
            numbers = {"mean_nats": 0.0, "max_nats": 0.0, "entropy": 0.0, "divergence": 0.0}
            assert replace(draft, **numbers) == replace(other, **numbers)


def test_a_taught_answer_with_its_end_is_a_whole_reply(tiny: Base):
    plain = probe(tiny, Probing(8))
    stop = plain[0][1].tokens[5]
    tiny.chat.stop_ids = frozenset({stop})
    expected = probe(tiny, Probing(8))[0][1]
    answers = {0: [plain[0][1].tokens[:6]]}
    draft = probe(tiny, Probing(8, answers=answers))[0][1]
    assert (draft.tokens, draft.has_ended) == (expected.tokens, expected.has_ended)
    assert draft.mean_nats == pytest.approx(expected.mean_nats, abs=1e-4)


def test_candidates_that_lost_are_left(tiny: Base):
    seen: dict[int, list[DraftReply]] = {}

    def is_lost(i: int, drafts: list[DraftReply]) -> list[bool]:
        seen[i] = list(drafts)
        return [False, i != 1]

    plain = probe(tiny, Probing(8))
    short = probe(tiny, Probing(8, 2, is_lost=is_lost))
    assert set(seen) == {0, 1, 2}
    for i, (drafts, others) in enumerate(zip(short, plain, strict=True)):
        assert [len(draft.tokens) for draft in drafts] == [2, 8, 8 if i == 1 else 3]
        assert [draft.is_whole for draft in drafts] == [True, True, i == 1]
        for draft, other in zip(drafts, others, strict=True):
            assert other.tokens[: len(draft.tokens)] == draft.tokens
            assert draft.entropy == pytest.approx(other.entropy, abs=1e-4)
