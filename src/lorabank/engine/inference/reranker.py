"""Reranking of retrieved passages by models: the embedder's tokens and the base's likelihood.

The base adds query likelihood (UPR, arXiv:2204.07496): how likely it finds the question where a
question about the passage is called for. A passage is read once for all the questions it is a
candidate of.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.prefill import KeyValues, padded_cache, prefill_prompts
from lorabank.engine.inference.embedder import Embedder
from lorabank.errors import DataError
from lorabank.retrieval.index import SearchHit
from lorabank.retrieval.rerank import late_interaction_scores, rerank_hits
from lorabank.tasks.examples import Message

_REQUEST = "Write a question that is answered in this passage.\n\n"
_ROWS = 32  # questions of one passage in a forward pass


@dataclass(frozen=True, slots=True)
class Reranker:
    """Sorts the passages retrieved for a question again, which costs some 20 passes over them."""

    embedder: Embedder
    base: Base | None = None
    """Bare base model. Without one only the embedder's tokens are used, in a tenth of the time."""

    def rerank(
        self, questions: Sequence[str], candidates: Sequence[Sequence[SearchHit]]
    ) -> list[list[SearchHit]]:
        """Return each question's candidates, the best first."""
        question_tokens = self.embedder.embed_tokens(questions)
        passages = list(dict.fromkeys(hit.passage for hits in candidates for hit in hits))
        passage_tokens = dict(zip(passages, self.embedder.embed_tokens(passages), strict=True))
        log_likelihoods = self._log_likelihoods(questions, candidates)
        return [
            rerank_hits(
                hits,
                tokens=late_interaction_scores(
                    question_tokens[i], [(hit.passage, passage_tokens[hit.passage]) for hit in hits]
                ),
                **({"asked": log_likelihoods[i]} if log_likelihoods else {}),
            )
            for i, hits in enumerate(candidates)
        ]

    def _log_likelihoods(
        self, questions: Sequence[str], candidates: Sequence[Sequence[SearchHit]]
    ) -> list[np.ndarray]:
        if self.base is None:
            return []
        pairs = [
            (hit.passage, question)
            for question, hits in zip(questions, candidates, strict=True)
            for hit in hits
        ]
        flat = np.array(question_log_likelihoods(self.base, pairs))
        return np.split(flat, np.cumsum([len(hits) for hits in candidates])[:-1])


def question_log_likelihoods(base: Base, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Return the log-probability, in nats, that the bare base asks a question about a passage.

    Args:
        pairs: (passage, question).

    Raises:
        DataError: a passage and a question longer than the base's context.
    """
    return [sum(token_log_p) for token_log_p in question_token_log_likelihoods(base, pairs)]


@torch.no_grad()
def question_token_log_likelihoods(
    base: Base, pairs: Sequence[tuple[str, str]]
) -> list[list[float]]:
    """Return the log-probability of every token of each question, without the end of the turn.

    Args:
        pairs: (passage, question).

    Raises:
        DataError: a passage and a question longer than the base's context.
    """
    pairs_of: dict[str, list[int]] = {}
    for i, (passage, _) in enumerate(pairs):
        pairs_of.setdefault(passage, []).append(i)
    log_p: list[list[float]] = [[] for _ in pairs]
    for passage, indices in pairs_of.items():
        *context, last = base.chat.direct_prompt_ids([Message("user", f"{_REQUEST}{passage}")])
        rows = [[last, *base.chat.answer_text_ids(pairs[i][1])] for i in indices]
        n_tokens = len(context) + max(map(len, rows))
        if n_tokens > base.max_tokens:
            raise DataError(
                f"a passage and a question of {n_tokens:,} tokens do not fit: {base.info.name} "
                f"takes {base.max_tokens:,}; shorten them"
            )
        entry: KeyValues = ()
        if base.abilities.continues_prompts:
            entry, context = prefill_prompts(base.model, [tuple(context)])[0], []
        for start in range(0, len(rows), _ROWS):
            part = [[*context, *row] for row in rows[start : start + _ROWS]]
            cache = padded_cache([entry] * len(part))[0] if entry else None
            nats = _token_nats(base, part, cache, n_given=len(context) + 1)
            for i, row_nats in zip(indices[start : start + _ROWS], nats, strict=True):
                log_p[i] = [-x for x in row_nats]
    return log_p


def _token_nats(
    base: Base, rows: Sequence[Sequence[int]], cache: object, *, n_given: int
) -> list[list[float]]:
    """Return -log p of each row's tokens after the first `n_given`, after what the cache holds."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=base.device)
    row_of = [r for r, row in enumerate(rows) for _ in row[n_given:]]
    columns = [c for row in rows for c in range(n_given - 1, len(row) - 1)]
    answers = [token for row in rows for token in row[n_given:]]
    targets = torch.tensor(answers, device=base.device)
    nats: Tensor
    nats, _ = base.token_nll(
        torch.tensor(row_of, device=base.device),
        torch.tensor(columns, device=base.device),
        targets,
        input_ids=ids,
        past_key_values=cache,
        use_cache=cache is not None,
    )
    split = torch.split(nats.float().cpu(), [len(row) - n_given for row in rows])
    return [part.tolist() for part in split]
