"""What an architecture allows is found by trying, and used only where it changes nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lorabank.engine.backbone import self_check
from lorabank.engine.backbone.base import Base, load_info
from lorabank.engine.backbone.self_check import Abilities
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.candidates import Probing, probe_candidates
from lorabank.engine.inference.reranker import question_log_likelihoods
from lorabank.engine.models.registry import find_model
from lorabank.errors import ModelError

ABILITIES = ("continues_prompts", "shares_documents", "pads_left", "generates", "enters_layers")
PAIRS = [
    ("The sky is blue.", "What is blue?"),
    ("The sky is blue.", "Is it?"),
    ("Rain falls.", "Does rain fall on me?"),
]


class RunningMean(nn.Module):
    """A mixer whose state is no keys and values: the mean of all columns so far, padding too."""

    def forward(self, hidden_states: torch.Tensor, **_: Any) -> tuple[torch.Tensor, None]:
        n = torch.arange(1, hidden_states.shape[1] + 1)[:, None]
        return hidden_states.cumsum(1) / n, None


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what was found of models of the same configuration, here and afterwards."""
    monkeypatch.setattr(self_check, "_exact", {})


@pytest.fixture
def recurrent(tiny: Base, fresh: None) -> Base:
    """The tiny model with the attention of its last layer replaced by a mean over the columns."""
    tiny.model.model.layers[-1].self_attn = RunningMean()
    return tiny


def test_a_llama_can_do_all_of_it(tiny: Base, fresh: None):
    assert all(getattr(tiny.abilities, name) for name in ABILITIES)


def test_a_state_that_is_no_cache_is_noticed(recurrent: Base):
    found = {name: getattr(recurrent.abilities, name) for name in ABILITIES}
    assert found == {
        "continues_prompts": False,
        "shares_documents": False,
        "pads_left": False,
        "generates": False,
        "enters_layers": True,
    }
    with pytest.raises(ModelError, match="token by token, differs") as refused:
        recurrent.check_usable()
    assert "\n" not in str(refused.value)


def test_each_ability_is_tried_once_for_a_configuration(
    tiny: Base, fresh: None, monkeypatch: pytest.MonkeyPatch
):
    assert tiny.abilities.pads_left
    monkeypatch.setattr(Abilities, "_is_equal_to_whole_rows", pytest.fail)
    assert Abilities(tiny.model, (1, 2, 3)).pads_left


def test_passages_are_read_again_where_prompts_cannot_go_on(
    tiny: Base, monkeypatch: pytest.MonkeyPatch
):
    expected = question_log_likelihoods(tiny, PAIRS)
    monkeypatch.setattr(Abilities, "continues_prompts", False)
    monkeypatch.setattr("lorabank.engine.inference.reranker.prefill_prompts", pytest.fail)
    assert question_log_likelihoods(tiny, PAIRS) == pytest.approx(expected, abs=1e-3)


def test_candidates_of_prompts_are_read_by_length_where_padding_disturbs(
    tiny: Base, monkeypatch: pytest.MonkeyPatch
):
    prompts: Sequence[list[int]] = [[5, 6, 7, 8, 9], [10, 11, 12], [9, 8, 7, 6, 5]]
    widths: list[tuple[int, ...]] = []
    monkeypatch.setattr(Abilities, "pads_left", False)
    with Fleet(tiny, paths=list(tiny.linears), r=2, width=1) as fleet:
        tiny.model.get_decoder().register_forward_pre_hook(
            lambda _, __, kwargs: widths.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
        )
        drafts = probe_candidates(tiny, prompts, fleet=fleet, slots=[[0]] * 3, probing=Probing(1))
    assert widths == [(2, 3), (4, 5)]
    assert [len(of_prompt) for of_prompt in drafts] == [2, 2, 2]


def test_a_base_that_is_loaded_has_been_tried(
    tiny_folder: Path, fresh: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Abilities, "generates", False)
    with pytest.raises(ModelError, match="take another base"):
        load_info(find_model(str(tiny_folder)), dtype="float32", device="cpu")
