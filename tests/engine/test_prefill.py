"""Prefilling several prompts equals prefilling each; a shared beginning is computed once."""

import random
from collections.abc import Sequence

import pytest

from lorabank.engine.backbone import prefill
from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.prefill import (
    KeyValues,
    Tokens,
    group_by_shared_prefix,
    prefill_prompts,
)


def token_rows(*lengths: int, start: Tokens = (), seed: int = 0) -> list[Tokens]:
    rng = random.Random(seed)
    return [(*start, *(rng.randrange(4, 250) for _ in range(n))) for n in lengths]


def largest_difference(caches: Sequence[KeyValues], expected_caches: Sequence[KeyValues]) -> float:
    differences = []
    for entry, expected in zip(caches, expected_caches, strict=True):
        for (k, v), (k_alone, v_alone) in zip(entry, expected, strict=True):
            assert k.shape == k_alone.shape
            differences += [float((k - k_alone).abs().max()), float((v - v_alone).abs().max())]
    return max(differences)


@pytest.fixture
def tokens_run(tiny: Base) -> list[int]:
    """Return a list that collects the number of tokens in each forward pass."""
    counts: list[int] = []
    tiny.model.get_decoder().register_forward_pre_hook(
        lambda _, __, kwargs: counts.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    return counts


def test_a_shared_beginning_is_computed_once_and_changes_nothing(tiny: Base, tokens_run: list[int]):
    (document,) = token_rows(90)
    rows = [
        *token_rows(5, 9, 1, start=document, seed=1),
        *token_rows(7, 60, seed=2),  # unrelated, one short and one long
        document,  # the shared beginning alone
    ]
    alone = [prefill_prompts(tiny.model, [row])[0] for row in rows]
    tokens_run.clear()
    together = prefill_prompts(tiny.model, rows)
    assert largest_difference(together, alone) < 1e-5
    assert tokens_run == [89, 4 * 10, 2 * 60]  # the document, what follows it, the unrelated rows


def test_short_shared_beginnings_are_not_computed_apart(tiny: Base, tokens_run: list[int]):
    (start,) = token_rows(20)
    prefill_prompts(tiny.model, token_rows(6, 6, start=start, seed=1))
    assert tokens_run == [2 * 26]


def test_many_rows_after_one_document_are_computed_in_parts(
    tiny: Base, tokens_run: list[int], monkeypatch: pytest.MonkeyPatch
):
    (document,) = token_rows(64)
    rows = token_rows(*[4] * 5, start=document, seed=1)
    whole = prefill_prompts(tiny.model, rows)
    tokens_run.clear()
    monkeypatch.setattr(prefill, "_PASS_TOKENS", 2 * 68)
    parts = prefill_prompts(tiny.model, rows)
    assert tokens_run == [64, 8, 8, 4]
    assert largest_difference(parts, whole) < 1e-5


def test_documents_behind_one_system_turn_are_each_read_once():
    turn, documents = list(range(70)), [[100 + d] * 80 for d in range(2)]
    prompts = [[*turn, *documents[d], 200 + d, 300 + q] for q in range(3) for d in range(2)]
    groups = sorted(group_by_shared_prefix(prompts))
    assert groups == [([0, 2, 4], 151), ([1, 3, 5], 151)]
    only_the_turn = [[*turn, 100 + q, 300 + q] for q in range(3)]
    assert group_by_shared_prefix(only_the_turn) == [([0, 1, 2], 70)]
