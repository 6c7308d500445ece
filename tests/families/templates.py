"""Chat templates: the published ones where they lie at LORABANK_DATA, else our own in short.

Our own say what the family's template says for a user's and an assistant's turn with or without a
system turn, and leave out tools and pictures.
"""

import os
from pathlib import Path


def published(name: str) -> str | None:
    """Return a published template; None where the data folder lacks it."""
    folder = os.environ.get("LORABANK_DATA")
    path = Path(folder or ".") / "templates" / f"{name}.jinja"
    return path.read_text(encoding="utf-8") if folder and path.exists() else None


def turns(before: str, after: str, *, start: str = "", header: str, role: str = "m.role") -> str:
    """Return a template whose turns are `before` + content + `after`.

    Args:
        before, after: Jinja expressions.
        start: expression rendered once, such as `bos_token`.
        header: expression of the assistant's header.
        role: expression of a turn's role, known as `r` to the others.
    """
    opening = f"{{{{ {start} }}}}" if start else ""
    return (
        f"{opening}{{% for m in messages %}}{{% set r = {role} %}}"
        f"{{{{ {before} + m.content + {after} }}}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ {header} }}}}{{% endif %}}"
    )


CHATML = turns("'<|im_start|>' + r + '\n'", "'<|im_end|>\n'", header="'<|im_start|>assistant\n'")
PHI4 = turns(
    "'<|im_start|>' + r + '<|im_sep|>'", "'<|im_end|>'", header="'<|im_start|>assistant<|im_sep|>'"
)
GEMMA3 = turns(
    "'<start_of_turn>' + r + '\n'",
    "'<end_of_turn>\n'",
    start="bos_token",
    header="'<start_of_turn>model\n'",
    role="'model' if m.role == 'assistant' else 'user'",
)
OLMO2 = turns(
    "'<|' + r + '|>\n'",
    "(eos_token if r == 'assistant' else '') + ('' if loop.last and r == 'assistant' else '\n')",
    start="bos_token",
    header="'<|assistant|>\n'",
)
LLAMA3 = turns(
    "'<|start_header_id|>' + r + '<|end_header_id|>\n\n'",
    "'<|eot_id|>'",
    start="bos_token",
    header="'<|start_header_id|>assistant<|end_header_id|>\n\n'",
)
LLAMA4 = turns(
    "'<|header_start|>' + r + '<|header_end|>\n\n'",
    "'<|eot|>'",
    start="bos_token",
    header="'<|header_start|>assistant<|header_end|>\n\n'",
)
GLM4 = turns("'<|' + r + '|>\n'", "''", start="'[gMASK]<sop>'", header="'<|assistant|>\n'")
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate between user and assistant') }}{% endif %}"
    "{{ '[INST] ' + m.content + ' [/INST]' if m.role == 'user' else m.content + eos_token }}"
    "{% endfor %}"
)
# In short: the published one puts a page of instructions into the system turn.
MISTRAL_SMALL = (
    "{{ bos_token }}{% if messages[0].role != 'system' %}"
    "{{ '[SYSTEM_PROMPT]You are Mistral Small[/SYSTEM_PROMPT]' }}{% endif %}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ '[SYSTEM_PROMPT]' + m.content + '[/SYSTEM_PROMPT]' }}"
    "{% elif m.role == 'user' %}{{ '[INST]' + m.content + '[/INST]' }}"
    "{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
)
