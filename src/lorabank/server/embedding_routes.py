"""/v1/embeddings: texts as vectors, by the model that routes questions."""

import base64
from typing import Any

import numpy as np
from fastapi import APIRouter, Request

from lorabank.bank.bank import Bank
from lorabank.engine.inference.embedder import NAME
from lorabank.server.access import ASK
from lorabank.server.openai_bodies import EmbeddingBody
from lorabank.server.refusals import RefusalError
from lorabank.server.requests import needs, on_model

router = APIRouter(tags=["openai"], dependencies=[needs(ASK)])
_MOST_TEXTS = 256


@router.post("/v1/embeddings")
async def embed(request: Request, body: EmbeddingBody) -> dict[str, Any]:
    """Embed texts; tokens after the 512th are not read."""
    texts = body.texts
    if body.model != NAME:
        raise RefusalError(
            f"the embedding model is {NAME!r}, got {body.model[:80]!r}",
            status=404,
            code="model_not_found",
            param="model",
        )
    if not 1 <= len(texts) <= _MOST_TEXTS or not all(text.strip() for text in texts):
        raise RefusalError(
            f"input must be 1 to {_MOST_TEXTS} texts, none of them empty", param="input"
        )
    vectors = await on_model(request, lambda bank: _vectors(bank, texts))
    if body.dimensions not in (None, vectors.shape[1]):
        raise RefusalError(
            f"{NAME} has {vectors.shape[1]} dimensions, got {body.dimensions}", param="dimensions"
        )
    data = [
        {"object": "embedding", "index": i, "embedding": _encode(vector, body.encoding_format)}
        for i, vector in enumerate(vectors)
    ]
    n_words = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": n_words, "total_tokens": n_words}
    return {"object": "list", "model": NAME, "data": data, "usage": usage}


def _vectors(bank: Bank, texts: list[str]) -> np.ndarray:
    embedder = bank.texts.embedder()
    if embedder is None:
        raise RefusalError(
            "the embedding model cannot be loaded on this machine; questions are routed by words",
            status=503,
            code="unavailable",
        )
    return embedder.embed(texts)


def _encode(vector: np.ndarray, form: str) -> list[float] | str:
    if form == "float":
        return [float(value) for value in vector]
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
