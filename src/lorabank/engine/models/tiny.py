"""The model `random-tiny`: a two-layer Llama with random weights, built in a moment, for dry runs.

Its answers are noise, but it is a complete model with a chat template, grouped-query attention and
a byte-level tokenizer. A dry run on it takes the same path through the code as a real model.
"""

from pathlib import Path

from lorabank.engine.models import model_cache as cache
from lorabank.errors import StorageError
from lorabank.files import staged_folder

NAME = "random-tiny"
_FOLDER = "random-tiny-1"  # the number changes with the model that is built
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_folder() -> Path:
    """Return the model's folder, building the model if it is not there.

    Raises:
        StorageError: the cache cannot be written.
    """
    folder = cache.root() / _FOLDER
    if not folder.exists():
        try:
            with staged_folder(folder) as part:
                build_tiny(part)
        except StorageError:
            if not folder.exists():  # else another process was faster
                raise
    return folder


def build_tiny(
    folder: Path, *, chat_template: str | None = CHATML, layers: int = 2, seed: int = 0
) -> Path:
    """Save a random Llama (d=64, grouped-query attention) with a byte-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        vocab_size=300,
        show_progress=False,
    )
    tokenizer.train_from_iterator(["What is the phone number of"], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
    )
    fast.chat_template = chat_template
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.15,  # with the usual 0.02 a low-rank update has nothing to work with
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder
