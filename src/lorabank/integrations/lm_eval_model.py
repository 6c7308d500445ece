"""lm-eval's model `lorabank`: an adapter folder, a whole bank, or a bare base.

`python -m lorabank.integrations.lm_eval_model --model lorabank --model_args bank=FOLDER …` is
lm-eval's own command with this model known to it; importing the file registers it elsewhere.
A bank answers what is generated. It has no log-probabilities, as its answers may be stored ones.
Needs the extra `eval`.
"""

from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.integrations.answerer import Answerer, Turns

_DEFAULT_TOKENS = 256


@register_model("lorabank")
class LorabankLM(TemplateLM):
    """Whoever `adapter=FOLDER`, `bank=FOLDER` or `base=NAME` names."""

    def __init__(
        self,
        adapter: str | None = None,
        bank: str | None = None,
        base: Base | str | None = None,
        device: str | None = None,
        **_: Any,
    ):
        """Load what answers; options of lm-eval's other models, as a batch size, mean nothing."""
        super().__init__()
        self.answerer = Answerer(adapter=adapter, bank=bank, base=base, device=device)
        self.base = self.answerer.base
        self.tokenizer = self.base.chat.tokenizer
        self._conversations: dict[str, Turns] = {}

    @property
    def eot_token_id(self) -> int:
        return int(self.base.chat.end_of_turn_id)

    @property
    def prefix_token_id(self) -> int:
        """Return the token after which a text without context is read."""
        begin = self.tokenizer.bos_token_id
        return self.eot_token_id if begin is None else int(begin)

    @property
    def tokenizer_name(self) -> str:
        return self.base.info.sha256

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        return list(self.tokenizer(string, add_special_tokens=bool(add_special_tokens)).input_ids)

    def apply_chat_template(self, chat_history: Turns, add_generation_prompt: bool = True) -> str:
        """Return a conversation as text, and remember its turns for whoever is asked by turns."""
        text = str(
            self.tokenizer.apply_chat_template(
                chat_history, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        )
        self._conversations[text] = chat_history
        return text

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Write replies greedily, those of equal length side by side."""
        if any(r.args[1].get("do_sample") or r.args[1].get("temperature") for r in requests):
            raise UsageError("the model lorabank answers greedily; leave the temperature out")
        lengths = [int(r.args[1].get("max_gen_toks", _DEFAULT_TOKENS)) for r in requests]
        replies = [""] * len(requests)
        for length in set(lengths):
            indices = [i for i, other in enumerate(lengths) if other == length]
            texts = [str(requests[i].args[0]) for i in indices]
            conversations = [self._conversations.get(text, text) for text in texts]
            written = self.answerer.answer(conversations, max_new_tokens=length)
            for i, text in zip(indices, written, strict=True):
                replies[i] = _cut_at_ends(text, requests[i].args[1].get("until") or [])
        return replies

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        return self.answerer.read([(context, text) for _, context, text in requests])

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        sums = []
        for request in requests:
            windows = get_rolling_token_windows(
                self.tok_encode(request.args[0]), self.prefix_token_id, self.base.max_tokens, 1
            )
            readings = self.answerer.read([make_disjoint_window(window) for window in windows])
            sums.append(sum(log_p for log_p, _ in readings))
        return sums


def _cut_at_ends(text: str, ends: str | list[str]) -> str:
    for end in [ends] if isinstance(ends, str) else ends:
        text = text.partition(end)[0]
    return text


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
