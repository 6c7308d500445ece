"""The peer of the benches of decoding and serving: llama.cpp's server, through xllamacpp.

It runs in this process, and is also asked over HTTP at `url`.

It is given the same base and the same adapters as GGUF files, the same tokens as prompts, the same
number of threads, and a slot for each request at once. Prompts are not cached between requests.
Weights are in half precision, or in float32 to compare numbers with.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lorabank.engine.adapters.adapter import Adapter
from lorabank.engine.backbone.base import Base
from lorabank.engine.runtimes.gguf_files import write_adapter, write_base
from lorabank.errors import UnavailableError

_CONTEXT_TOKENS = 512  # of one request
_LIKELIEST = 20  # tokens whose log-probabilities are asked for


class LlamaPeer:
    """A running server with adapters that are asked by number."""

    def __init__(
        self,
        base: Base,
        adapters: Sequence[Adapter | Path],
        folder: Path,
        *,
        in_float32: bool = False,
    ):
        """Write the files into a folder and load them.

        Args:
            adapters: in memory, or GGUF files that are there already.
            in_float32: weights, keys and values in float32 instead of half precision.

        Raises:
            UnavailableError: xllamacpp is not installed.
            UsageError: a base that `write_base` cannot write.
        """
        try:
            import xllamacpp
        except ImportError as error:
            raise UnavailableError(
                "this bench needs llama.cpp: pip install xllamacpp (extra dev)"
            ) from error
        self._n = len(adapters)
        (self._letter, *_) = base.chat.text_ids("a")
        params = xllamacpp.CommonParams()
        params.model.path = str(folder / "base.gguf")
        dtype = np.float32 if in_float32 else np.float16
        write_base(base, folder / "base.gguf", dtype=dtype)
        infos = []
        for i, adapter in enumerate(adapters):
            if isinstance(adapter, Path):
                path = adapter
            else:
                path = folder / f"adapter-{i}.gguf"
                write_adapter(base, adapter, path, dtype=dtype)
            infos.append(xllamacpp.CommonAdapterLoraInfo(str(path), 1.0))
        params.lora_adapters = infos
        params.lora_init_without_apply = True
        params.n_parallel = max(1, self._n)
        params.n_ctx = _CONTEXT_TOKENS * params.n_parallel
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
        params.verbosity = -1
        if in_float32:
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
            off = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
            params.flash_attn_type = off
        self._server: Any = xllamacpp.Server(params)

    @property
    def url(self) -> str:
        """Return where it listens."""
        return str(self._server.listening_address)

    def scales(self, adapter: int | None) -> list[dict[str, float]]:
        """Return the field `lora` of a request; None for the bare model.

        A request keeps the scales of adapters that it does not name, so it names all of them.
        """
        return [{"id": i, "scale": float(i == adapter)} for i in range(self._n)]

    def close(self) -> None:
        """Stop the server."""
        self._server = None

    def write(self, prompt: Sequence[int], adapter: int | None, n: int, *, to_end: bool) -> str:
        """Return the greedy reply to a prompt.

        Args:
            adapter: number of the adapter that answers; None for the bare model.
            n: most tokens that are written.
            to_end: whether the end of the turn ends the reply; else `n` tokens are written.
        """
        reply = self._complete(prompt, self.scales(adapter), n_predict=n, ignore_eos=not to_end)
        return str(reply["choices"][0]["text"]).strip()

    def next_token_log_p(self, prompt: Sequence[int], scales: Sequence[float]) -> dict[int, float]:
        """Return the log-probabilities, in nats, of the likeliest tokens after a prompt, by id.

        Args:
            scales: by what each adapter is multiplied.
        """
        # A letter is written, whatever is likelier: of half a character the server tells nothing.
        written = {"logit_bias": [[self._letter, 1000.0]], "n_predict": 1}
        lora = [{"id": i, "scale": scale} for i, scale in enumerate(scales)]
        reply = self._complete(prompt, lora, logprobs=_LIKELIEST, **written)
        (token,) = reply["choices"][0]["logprobs"]["content"]
        return {entry["id"]: float(entry["logprob"]) for entry in token["top_logprobs"]}

    def _complete(
        self, prompt: Sequence[int], lora: Sequence[dict[str, float]], **options: Any
    ) -> Any:
        request = {"prompt": list(prompt), "temperature": 0.0, "cache_prompt": False}
        return self._server.handle_completions({**request, "lora": list(lora), **options})

    def write_together(
        self, prompts: Sequence[Sequence[int]], adapters: Sequence[int], n: int
    ) -> list[str]:
        """Return replies of `n` tokens to prompts that are asked at the same time."""
        with ThreadPoolExecutor(len(prompts)) as pool:
            return list(pool.map(lambda p, a: self.write(p, a, n, to_end=False), prompts, adapters))
