"""Captured inputs of linear layers equal the model's own hidden states."""

import pytest
import torch

from lorabank.engine.backbone.base import Base
from lorabank.engine.inference.activations import capture_layer_inputs, encode_question
from lorabank.errors import DataError, UsageError
from lorabank.tasks.examples import Message

FIRST, SECOND = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
QUESTIONS = ("Who?", "What is the phone number of Hagu Padi?", "Why is that so?")


def test_inputs_are_those_of_each_prompt_read_alone(tiny: Base):
    prompts = [encode_question(tiny.chat, question) for question in QUESTIONS]
    inputs = capture_layer_inputs(tiny, prompts, [FIRST, SECOND], n_tokens=6)
    for i, prompt in enumerate(prompts):
        with torch.no_grad():
            hidden = tiny.model(
                input_ids=torch.tensor([prompt]), output_hidden_states=True
            ).hidden_states
            first = tiny.model.model.layers[0].input_layernorm(hidden[0])[0]
        captured = inputs.states[FIRST][inputs.owner == i]
        assert len(captured) == inputs.counts[i] == min(6, len(prompt))
        torch.testing.assert_close(captured, first[-6:], rtol=1e-5, atol=1e-5)
        alone = capture_layer_inputs(tiny, [prompt], [SECOND], n_tokens=6)
        torch.testing.assert_close(
            inputs.states[SECOND][inputs.owner == i], alone.states[SECOND], rtol=1e-5, atol=1e-5
        )


def test_no_hook_stays_on_the_base(tiny: Base):
    capture_layer_inputs(tiny, [[1, 2, 3]], [FIRST], n_tokens=2)
    assert not tiny.model.get_submodule(FIRST)._forward_pre_hooks


def test_the_mean_of_a_prompt_is_over_its_own_tokens(tiny: Base):
    inputs = capture_layer_inputs(tiny, [[5, 6, 7], [8]], [FIRST], n_tokens=2)
    means = inputs.mean_per_prompt(inputs.states[FIRST])
    for i in range(2):
        torch.testing.assert_close(means[i], inputs.states[FIRST][inputs.owner == i].mean(0))


def test_a_question_ends_before_the_end_of_its_turn(tiny: Base):
    ids = encode_question(tiny.chat, "Who is there?")
    assert tiny.chat.tokenizer.decode(ids).endswith("Who is there?")
    assert tiny.chat.prompt_ids([Message("user", "Who is there?")])[: len(ids)] == ids


def test_requests_that_do_not_fit_are_refused(tiny: Base):
    with pytest.raises(UsageError, match=r"model.nothing is no linear layer of"):
        capture_layer_inputs(tiny, [[1]], ["model.nothing"], n_tokens=1)
    with pytest.raises(UsageError, match="at least 1 token of each prompt has to be read, got 0"):
        capture_layer_inputs(tiny, [[1]], [FIRST], n_tokens=0)
    with pytest.raises(DataError, match="a question of 513 tokens does not fit"):
        capture_layer_inputs(tiny, [[1] * 513], [FIRST], n_tokens=1)
    with pytest.raises(DataError, match="a question of 0 tokens does not fit"):
        capture_layer_inputs(tiny, [[]], [FIRST], n_tokens=1)
