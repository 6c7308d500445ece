"""Tokenizers of the families in small: single bytes and each family's own control tokens.

What matters to us is the same as in the published tokenizers: which tokens are special, which of
them the tokenizer knows by name (bos, eos, pad), and whether encoding puts a bos token in front.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The control tokens of a family."""

    special: Sequence[str] = ()
    """Special tokens, in the order of their ids, those with a name included."""
    eos: str | None = None
    bos: str | None = None
    pad: str | None = None
    plain: Sequence[str] = ()
    """Added tokens that are not special, such as `<think>` in Qwen3."""
    adds_bos: bool = False
    """Whether encoding plain text puts the bos token in front, as Llama's and Gemma's do."""
    strips_right: bool = False
    """Whether control tokens swallow the white space after them, as in Phi-3.5."""
    is_sentencepiece: bool = False
    """Whether words begin with `▁` and unknown characters are bytes, as in Llama 2 and Gemma."""


def save_tokenizer(vocabulary: Vocabulary, template: str | None, folder: Path) -> dict[str, int]:
    """Save a tokenizer in a folder; return the id of each control token and the size as `""`."""
    tokenizer = _sentencepiece() if vocabulary.is_sentencepiece else _byte_level()
    first = tokenizer.get_vocab_size()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False, rstrip=vocabulary.strips_right)
            for token in vocabulary.special
        ]
    )
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in vocabulary.plain])
    if vocabulary.adds_bos and vocabulary.bos:
        bos = (vocabulary.bos, tokenizer.token_to_id(vocabulary.bos))
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos[0]} $A", pair=f"{bos[0]} $A {bos[0]} $B", special_tokens=[bos]
        )
    names = {"bos_token": vocabulary.bos, "eos_token": vocabulary.eos, "pad_token": vocabulary.pad}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{name: token for name, token in names.items() if token}
    )
    if template is not None:
        fast.chat_template = template
    fast.save_pretrained(folder)
    added = (*vocabulary.special, *vocabulary.plain)
    return {token: first + i for i, token in enumerate(added)} | {"": len(fast)}


def _byte_level() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece() -> Tokenizer:
    letters = ["▁", *map(chr, range(33, 127)), *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {letter: i for i, letter in enumerate(["<unk>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer
