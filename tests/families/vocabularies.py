"""Control tokens of the families, as their published tokenizers have them."""

from tests.families.tokenizers import Vocabulary

CHATML = Vocabulary(
    ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), eos="<|im_end|>", pad="<|endoftext|>"
)
QWEN = Vocabulary(
    ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    eos="<|im_end|>",
    pad="<|endoftext|>",
    plain=(
        "<tool_call>",
        "</tool_call>",
        "<tool_response>",
        "</tool_response>",
        "<think>",
        "</think>",
    ),
)
LLAMA = Vocabulary(
    (
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eom_id|>",
        "<|eot_id|>",
        "<|python_tag|>",
    ),
    bos="<|begin_of_text|>",
    eos="<|eot_id|>",
    adds_bos=True,
)
GEMMA = Vocabulary(
    ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
    bos="<bos>",
    eos="<eos>",
    pad="<pad>",
    adds_bos=True,
    is_sentencepiece=True,
)
GEMMA4 = Vocabulary(
    (
        "<pad>",
        "<eos>",
        "<bos>",
        "<|turn>",
        "<turn|>",
        "<|channel>",
        "<channel|>",
        "<|think|>",
        "<|tool>",
        "<tool|>",
        "<|tool_call>",
        "<tool_call|>",
        "<|tool_response>",
        "<tool_response|>",
    ),
    bos="<bos>",
    eos="<eos>",
    pad="<pad>",
    adds_bos=True,
    is_sentencepiece=True,
)
MISTRAL = Vocabulary(("<s>", "</s>"), bos="<s>", eos="</s>", adds_bos=True, is_sentencepiece=True)
TEKKEN = Vocabulary(
    (
        "<s>",
        "</s>",
        "[INST]",
        "[/INST]",
        "[SYSTEM_PROMPT]",
        "[/SYSTEM_PROMPT]",
        "[TOOL_CALLS]",
        "[AVAILABLE_TOOLS]",
        "[/AVAILABLE_TOOLS]",
        "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]",
    ),
    bos="<s>",
    eos="</s>",
    adds_bos=True,
)
PHI35 = Vocabulary(
    ("<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"),
    eos="<|endoftext|>",
    pad="<|endoftext|>",
    strips_right=True,
    is_sentencepiece=True,
)
PHI4 = Vocabulary(
    ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>"),
    eos="<|im_end|>",
    pad="<|endoftext|>",
)
OLMO = Vocabulary(
    ("<|endoftext|>", "<|pad|>"), bos="<|endoftext|>", eos="<|endoftext|>", pad="<|pad|>"
)
GRANITE = Vocabulary(
    ("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"),
    bos="<|end_of_text|>",
    eos="<|end_of_text|>",
    pad="<|end_of_text|>",
)
SMOLLM3 = Vocabulary(
    ("<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>"),
    eos="<|im_end|>",
    pad="<|im_end|>",
    plain=("<think>", "</think>"),
)
GPT_OSS = Vocabulary(
    (
        "<|startoftext|>",
        "<|endoftext|>",
        "<|return|>",
        "<|constrain|>",
        "<|channel|>",
        "<|start|>",
        "<|end|>",
        "<|message|>",
        "<|call|>",
    ),
    bos="<|startoftext|>",
    eos="<|return|>",
    pad="<|endoftext|>",
)
GLM = Vocabulary(
    (
        "<|endoftext|>",
        "[gMASK]",
        "<sop>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|observation|>",
    ),
    eos="<|endoftext|>",
    pad="<|endoftext|>",
    plain=("<think>", "</think>", "/nothink"),
)
DEEPSEEK = Vocabulary(
    ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
    bos="<｜begin▁of▁sentence｜>",
    eos="<｜end▁of▁sentence｜>",
    pad="<｜end▁of▁sentence｜>",
    adds_bos=True,
    plain=("<think>", "</think>"),
)
LFM = Vocabulary(
    ("<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    bos="<|startoftext|>",
    eos="<|im_end|>",
    pad="<|pad|>",
    adds_bos=True,
)
LLAMA4 = Vocabulary(
    ("<|begin_of_text|>", "<|end_of_text|>", "<|header_start|>", "<|header_end|>", "<|eot|>"),
    bos="<|begin_of_text|>",
    eos="<|eot|>",
    adds_bos=True,
)
