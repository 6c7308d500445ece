"""Logits of rows read together, from caches or beside other adapters are those of rows read alone.

The models have sliding windows shorter than the prompts: padding in the wrong place would take the
place of tokens in the window, which replies of a few tokens need not show.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.caches import Reuse
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.document_prefix import prompt_with_document
from lorabank.engine.inference.generate import DecodingBatch, decode
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


def logits_of(base: Base, batch: DecodingBatch) -> Tensor:
    """Return (R, N_COLUMNS, V): the logits while each row is given the same few tokens."""
    columns: list[Tensor] = []
    for _ in decode(base, batch, N_COLUMNS, lambda x: torch.full((len(x),), 40), columns.append):
        pass
    return torch.stack(columns, dim=1)


def assert_as_alone(base: Base, fleet: Fleet, batch: DecodingBatch) -> None:
    together = logits_of(base, batch)
    kept, fleet.reuse = fleet.reuse, Reuse(prompts=False, layers=False, teachers=False)
    for row, (prompt, slot) in enumerate(zip(batch.prompts, batch.slots, strict=True)):
        alone = replace(batch, prompts=[prompt], slots=[slot], document=())
        expected = logits_of(base, alone)[0]
        assert (together[row] - expected).abs().max() < 2e-3 * expected.abs().max(), row
    fleet.reuse = kept


@pytest.mark.parametrize("slots", [[ACTIVATED] * 3, [ACTIVATED, ALWAYS_ON, ACTIVATED]])
def test_prompts_kept_for_rows_of_different_length(base: Base, slots: list[int]):
    prompts = [tuple(base.chat.prompt_ids([Message("user", q)])) for q in QUESTIONS]
    assert min(map(len, prompts)) > WINDOW
    with random_fleet(base) as fleet:
        before_header = [prompt[: base.chat.header_start(prompt)] for prompt in prompts]
        fleet.prompt_key_values(before_header)
        assert all(tokens in base.prompt_cache for tokens in before_header)
        assert_as_alone(base, fleet, DecodingBatch(prompts, fleet, slots, None))


def test_a_document_read_once_for_rows_of_different_length(base: Base):
    document = "The lighthouse at Nebo was built by Tuva Sorre. "
    made = [prompt_with_document(base, document, question, room=8) for question in QUESTIONS]
    prompts = [tuple(prompt.ids) for prompt in made]
    shared = prompts[0][: made[0].prefix]
    assert len(shared) > WINDOW
    with random_fleet(base) as fleet:
        batch = DecodingBatch(prompts, fleet, [ACTIVATED] * len(prompts), None, shared)
        assert_as_alone(base, fleet, batch)
