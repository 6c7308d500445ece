"""The peer of the benches of decoding and serving: llama.cpp's server, through xllamacpp.

It runs in this process, and is also asked over HTTP at `url`.

It is given the same base and the same adapters as GGUF files, the same tokens as prompts, the same
number of threads, and a slot for each request at once. Prompts are not cached between requests.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from lorabank.bench.llama_gguf import write_adapter, write_base
from lorabank.engine.adapters.adapter import Adapter
from lorabank.engine.backbone.base import Base
from lorabank.errors import UnavailableError

_CONTEXT_TOKENS = 512  # of one request


class LlamaPeer:
    """A running server with adapters that are asked by number."""

    def __init__(self, base: Base, adapters: Sequence[Adapter], folder: Path):
        """Write the files into a folder and load them.

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
        params = xllamacpp.CommonParams()
        params.model.path = str(folder / "base.gguf")
        write_base(base, folder / "base.gguf")
        infos = []
        for i, adapter in enumerate(adapters):
            path = folder / f"adapter-{i}.gguf"
            write_adapter(base, adapter, path)
            infos.append(xllamacpp.CommonAdapterLoraInfo(str(path), 1.0))
        params.lora_adapters = infos
        params.lora_init_without_apply = True
        params.n_parallel = max(1, self._n)
        params.n_ctx = _CONTEXT_TOKENS * params.n_parallel
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
        params.verbosity = -1
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
        reply = self._server.handle_completions(
            {
                "prompt": list(prompt),
                "n_predict": n,
                "temperature": 0.0,
                "cache_prompt": False,
                "ignore_eos": not to_end,
                "lora": self.scales(adapter),
            }
        )
        return str(reply["choices"][0]["text"]).strip()

    def write_together(
        self, prompts: Sequence[Sequence[int]], adapters: Sequence[int], n: int
    ) -> list[str]:
        """Return replies of `n` tokens to prompts that are asked at the same time."""
        with ThreadPoolExecutor(len(prompts)) as pool:
            return list(pool.map(lambda p, a: self.write(p, a, n, to_end=False), prompts, adapters))
