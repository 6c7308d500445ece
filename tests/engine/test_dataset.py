"""Examples as token rows: which tokens carry loss, and how prompts are encoded."""

import pytest
from transformers import AutoTokenizer

from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.chat import Chat
from lorabank.engine.encoding.dataset import encode_dataset, encode_prompts
from lorabank.errors import DataError
from lorabank.tasks.examples import Example, Message, from_pair

EXAMPLE = from_pair("What is the phone number of Kimu Gugu?", "519-017-5311")


def chat_with(base: Base, template: str | None) -> Chat:
    tokenizer = AutoTokenizer.from_pretrained(base.info.path)
    tokenizer.chat_template = template
    return Chat(tokenizer)


def decode(chat: Chat, ids: tuple[int, ...] | list[int]) -> str:
    return str(chat.tokenizer.decode(ids))


def test_sound_has_loss_on_the_answer_and_its_end_token_only(tiny: Base):
    row = encode_dataset(tiny.chat, [EXAMPLE], recipe="sound", max_tokens=512).examples[0]
    assert decode(tiny.chat, row.token_ids) == (
        "<|im_start|>system\nBe tiny<|im_end|>\n"
        "<|im_start|>user\nWhat is the phone number of Kimu Gugu?<|im_end|>\n"
        "<|im_start|>assistant\n519-017-5311<|im_end|>"
    )
    with_loss = [token for token, loss in zip(row.token_ids, row.loss_mask, strict=True) if loss]
    assert decode(tiny.chat, with_loss) == "519-017-5311<|im_end|>"


def test_sound_evaluates_the_rows_it_trains(tiny: Base):
    encoded = encode_dataset(tiny.chat, [EXAMPLE], recipe="sound", max_tokens=512)
    prompt = encoded.prompts[0]
    assert (*prompt.prompt_ids, *prompt.answer_ids) == encoded.examples[0].token_ids


def test_paper_has_the_answer_in_the_user_turn_and_loss_on_all_but_padding(tiny: Base):
    encoded = encode_dataset(tiny.chat, [EXAMPLE], recipe="paper", max_tokens=512)
    row, prompt = encoded.examples[0], encoded.prompts[0]
    assert decode(tiny.chat, row.token_ids) == (
        "<|im_start|>system\nBe tiny<|im_end|>\n<|im_start|>user\nQuestion: What is the "
        "phone number of Kimu Gugu? Answer: 519-017-5311<|im_end|>\n<|im_start|>assistant\n"
    )
    pad = tiny.chat.tokenizer.pad_token_id
    without_loss = [i for i, loss in enumerate(row.loss_mask) if not loss]
    assert without_loss == [0, *(i for i, token in enumerate(row.token_ids) if token == pad)]
    assert decode(tiny.chat, prompt.prompt_ids).endswith(
        "Kimu Gugu? Answer:<|im_end|>\n<|im_start|>assistant\n"
    )
    assert decode(tiny.chat, prompt.answer_ids) == "519-017-5311"


def test_paper_without_a_template_is_the_statement_and_an_end_token(tiny: Base):
    chat = chat_with(tiny, None)
    row = encode_dataset(
        chat, [from_pair("The capital of Atlantis is", "Nebo")], recipe="paper", max_tokens=512
    ).examples[0]
    assert decode(chat, row.token_ids) == "The capital of Atlantis is Nebo<|im_end|>"


def test_a_system_turn_of_the_example_stays(tiny: Base):
    example = Example((Message("system", "Be brief"), Message("user", "Hi")), "Yo")
    prompt = tiny.chat.prompt_ids(example.prompt)
    assert decode(tiny.chat, prompt).startswith("<|im_start|>system\nBe brief<|im_end|>\n")


def test_an_example_can_be_encoded_under_another_rendering(tiny: Base):
    prompts = [
        encode_prompts(tiny.chat, [EXAMPLE], activated=True, rendering=rendering)[0]
        for rendering in tiny.chat.renderings
    ]
    begin = [decode(tiny.chat, prompt.prompt_ids).split("<|im_end|>")[0] for prompt in prompts]
    assert [text.removeprefix("<|im_start|>") for text in begin] == [
        "system\nBe tiny",
        "user\nWhat is the phone number of Kimu Gugu?",
        "system\nYou are a helpful assistant.",
    ]
    after = [decode(tiny.chat, prompt.prompt_ids[prompt.adapter_start :]) for prompt in prompts]
    assert after == ["<|im_start|>assistant\n"] * 3


def test_without_a_template_the_answer_continues_the_line(tiny: Base):
    chat = chat_with(tiny, None)
    encoded = encode_dataset(
        chat, [from_pair("Atlantis is in", "Nebo")], recipe="sound", max_tokens=512
    )
    assert decode(chat, encoded.examples[0].token_ids) == "Atlantis is in Nebo<|im_end|>"


def test_end_token_carries_loss_although_it_is_the_padding_token(tiny: Base):
    # As in SmolLM2: labels masked by padding id would lose the end of the answer.
    assert tiny.chat.tokenizer.pad_token_id == tiny.chat.end_of_turn_id
    row = encode_dataset(tiny.chat, [EXAMPLE], recipe="sound", max_tokens=512).examples[0]
    assert row.token_ids[-1] == tiny.chat.end_of_turn_id
    assert row.loss_mask[-1]


def test_an_example_longer_than_the_context_is_refused(tiny: Base):
    long = from_pair("word " * 600, "yes")
    with pytest.raises(DataError, match=r"example 2 has [\d,]+ tokens, the model takes 512"):
        encode_dataset(tiny.chat, [EXAMPLE, long], recipe="sound", max_tokens=tiny.max_tokens)


@pytest.mark.real
def test_a_reply_cut_inside_a_character_ends_before_it(real: Base):
    ids = real.chat.tokenizer("the lamp 灯塔", add_special_tokens=False)["input_ids"]
    texts = [real.chat.decode(ids[:end]) for end in range(len(ids) + 1)]
    assert texts[-1] == "the lamp 灯塔"
    assert not any("\ufffd" in text for text in texts)
