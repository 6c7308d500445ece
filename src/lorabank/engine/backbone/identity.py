"""Identity of a base beside its weights: hashes of its configuration, tokenizer and chat template.

The same weights compute something else with another rope_theta, and read something else with
another tokenizer. Hashes are of what transformers made of the files, so they change neither with
the order of keys in a file nor with the version that wrote it: of the configuration only what
differs from its class's defaults counts, of the tokenizer its vocabulary and how it cuts a text.
"""

import hashlib
import json
from typing import Any

_BOOKKEEPING = frozenset(
    {
        "architectures",
        "auto_map",
        "dtype",
        "max_position_embeddings",  # how much it may read, not what it computes
        "name_or_path",
        "quantization_config",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)
_SAMPLE = (
    "Hello, World! It's 3.14159 or 1,000,000?\n\n  def f(x):\n\treturn x**2  # Ärger, naïve café\n"
    "日本語のテキスト 中文 한국어 العربية हिन्दी Ελληνικά Русский 🙂👩‍🚀 <|x|>"
    " http://a.b/c?d=e_f   end"
)


def hash_config(config: Any) -> str:
    """Return the hash of a configuration of transformers."""
    values = config.to_dict()
    try:
        default = type(config)().to_dict()
    except Exception:  # some classes cannot be made without arguments
        default = {}
    chosen = {
        key: value
        for key, value in values.items()
        if key[0] != "_" and key not in _BOOKKEEPING and default.get(key, ...) != value
    }
    return _sha256(["config", config.model_type, chosen])


def hash_tokenizer(tokenizer: Any) -> str:
    """Return the hash of a tokenizer: its vocabulary, its named tokens and a text as its ids."""
    ids = tokenizer(_SAMPLE, add_special_tokens=False)["input_ids"]
    named = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    return _sha256(["tokenizer", sorted(tokenizer.get_vocab().items()), named, list(ids)])


def hash_template(tokenizer: Any) -> str:
    """Return the hash of a tokenizer's chat template."""
    return _sha256(["template", tokenizer.chat_template])


def _sha256(content: object) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
