"""Logits of rows read together, from caches or beside other adapters are those of rows read alone.

The models have sliding windows shorter than the prompts: padding in the wrong place would take the
place of tokens in the window, which replies of a few tokens need not show.
"""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.caches import Reuse
from lorabank.engine.backbone.prefill import Tokens
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.document_prefix import prompt_with_document
from lorabank.engine.inference.running_batch import RowRequest, RunningBatch
from lorabank.tasks.examples import Message
from tests.families.catalogue import FAMILIES, WINDOW
from tests.families.conformance import load

WINDOWED = ("Mistral 0.1", "OLMo 3", "Gemma 3")
ACTIVATED, ALWAYS_ON = 0, 1
QUESTIONS = ("Who?", "Who built the lighthouse at Nebo, and when was that?", "Who? Who? Who? Who?")
N_COLUMNS = 3


@pytest.fixture(scope="module", params=WINDOWED)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    family = next(family for family in FAMILIES if family.name == request.param)
    return load(family.build(tmp_path_factory.mktemp("windows") / "model"))


def random_fleet(base: Base) -> Fleet:
    """Return a fleet with an activated adapter and one that is always on."""
    fleet = Fleet(base, paths=list(base.linears), r=4, width=2)
    rng = torch.Generator().manual_seed(0)
    for slot, activated in ((ACTIVATED, True), (ALWAYS_ON, False)):
        weights = {
            path: (torch.randn(4, n, generator=rng) * 0.2, torch.randn(m, 4, generator=rng) * 0.2)
            for path, (m, n) in base.linears.items()
        }
        fleet.load(slot, weights, alpha=8.0, activated=activated)
    return fleet


def logits_of(base: Base, fleet: Fleet, rows: Sequence[RowRequest], document: Tokens) -> Tensor:
    """Return (R, N_COLUMNS, V): the logits while each row is written."""
    running = RunningBatch(base, fleet, document=document)
    kept: dict[int, list[Tensor]] = {running.add(row): [] for row in rows}

    def keep(numbers: Sequence[int], logits: Tensor) -> None:
        for number, row in zip(numbers, logits, strict=True):
            kept[number].append(row)

    while running:
        running.step(keep)
    return torch.stack([torch.stack(columns) for columns in kept.values()])


def assert_as_alone(
    base: Base, fleet: Fleet, prompts: Sequence[Tokens], slots: Sequence[int], document: Tokens = ()
) -> None:
    rows = [
        RowRequest(prompt, slot, max_new_tokens=N_COLUMNS, stops=frozenset())
        for prompt, slot in zip(prompts, slots, strict=True)
    ]
    together = logits_of(base, fleet, rows, document)
    kept, fleet.reuse = fleet.reuse, Reuse(prompts=False, layers=False, teachers=False)
    for i, row in enumerate(rows):
        expected = logits_of(base, fleet, [row], ())[0]
        assert (together[i] - expected).abs().max() < 2e-3 * expected.abs().max(), i
    fleet.reuse = kept


@pytest.mark.parametrize("slots", [[ACTIVATED] * 3, [ACTIVATED, ALWAYS_ON, ACTIVATED]])
def test_prompts_kept_for_rows_of_different_length(base: Base, slots: list[int]):
    prompts = [tuple(base.chat.prompt_ids([Message("user", q)])) for q in QUESTIONS]
    assert min(map(len, prompts)) > WINDOW
    with random_fleet(base) as fleet:
        before_header = [prompt[: base.chat.header_start(prompt)] for prompt in prompts]
        fleet.prompt_key_values(before_header)
        assert all(tokens in base.prompt_cache for tokens in before_header)
        assert_as_alone(base, fleet, prompts, slots)


def test_a_document_read_once_for_rows_of_different_length(base: Base):
    document = "The lighthouse at Nebo was built by Tuva Sorre. "
    made = [prompt_with_document(base, document, question, room=8) for question in QUESTIONS]
    prompts = [tuple(prompt.ids) for prompt in made]
    shared = prompts[0][: made[0].prefix]
    assert len(shared) > WINDOW
    with random_fleet(base) as fleet:
        assert_as_alone(base, fleet, prompts, [ACTIVATED] * len(prompts), shared)
