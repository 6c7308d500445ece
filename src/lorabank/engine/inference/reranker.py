"""A question's first candidates, reread by models: the embedder's tokens, the base's surprise.

The base adds what it would be asked: how likely the question is where a question about the passage
is called for (query likelihood, as in UPR, arXiv:2204.07496). A passage is read once for all the
questions it is a candidate of.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.prefill import padded_cache, prefill_prompts
from lorabank.engine.inference.embedder import Embedder
from lorabank.errors import DataError
from lorabank.retrieval.index import SearchHit
from lorabank.retrieval.rerank import late_interaction_scores, rerank_hits
from lorabank.tasks.examples import Message

_REQUEST = "Write a question that is answered in this passage.\n\n"
_ROWS = 32  # questions of one passage in a pass


@dataclass(frozen=True, slots=True)
class Reranker:
    """Brings candidates into a better order, for some 20 readings of a passage each."""

    embedder: Embedder
    base: Base | None = None
    """Bare. Without one the embedder's tokens decide, in a tenth of the time."""

    def rerank(
        self, questions: Sequence[str], found: Sequence[Sequence[SearchHit]]
    ) -> list[list[SearchHit]]:
        """Each question's candidates, the best first."""
        asked = self.embedder.embed_tokens(questions)
        passages = list(dict.fromkeys(each.passage for few in found for each in few))
        tokens = dict(zip(passages, self.embedder.embed_tokens(passages), strict=True))
        likely = self._likely(questions, found)
        return [
            rerank_hits(
                few,
                tokens=late_interaction_scores(
                    asked[i], [(f.passage, tokens[f.passage]) for f in few]
                ),
                **({"asked": likely[i]} if likely else {}),
            )
            for i, few in enumerate(found)
        ]

    def _likely(
        self, questions: Sequence[str], found: Sequence[Sequence[SearchHit]]
    ) -> list[np.ndarray]:
        if self.base is None:
            return []
        pairs = [(e.passage, q) for q, few in zip(questions, found, strict=True) for e in few]
        flat = np.array(question_log_likelihoods(self.base, pairs))
        return np.split(flat, np.cumsum([len(few) for few in found])[:-1])


def question_log_likelihoods(base: Base, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Nats, at most 0: the log-probability that a passage has the bare base ask a question.

    Args: pairs: (passage, question).

    Raises:
        DataError: a passage and a question longer than the base's context.
    """
    return [sum(nats) for nats in question_token_log_likelihoods(base, pairs)]


@torch.no_grad()
def question_token_log_likelihoods(
    base: Base, pairs: Sequence[tuple[str, str]]
) -> list[list[float]]:
    """The same token by token: of `base.chat.answer_ids(question)` less the end of the turn.

    Raises:
        DataError: as `likelihoods`.
    """
    wanted: dict[str, list[int]] = {}
    for i, (passage, _) in enumerate(pairs):
        wanted.setdefault(passage, []).append(i)
    out: list[list[float]] = [[] for _ in pairs]
    for passage, places in wanted.items():
        *before, last = base.chat.prompt_ids([Message("user", f"{_REQUEST}{passage}")])
        rows = [[last, *base.chat.answer_ids(pairs[i][1])[:-1]] for i in places]
        n_tokens = len(before) + max(map(len, rows))
        if n_tokens > base.max_tokens:
            raise DataError(
                f"a passage and a question of {n_tokens:,} tokens do not fit: {base.info.name} "
                f"takes {base.max_tokens:,}; shorten them"
            )
        entry = prefill_prompts(base.model, [tuple(before)])[0]
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            cache, _ = padded_cache([entry] * len(part))
            for i, nats in zip(places[start:], _nats(base, part, cache), strict=False):
                out[i] = [-x for x in nats]
    return out


def _nats(base: Base, rows: Sequence[Sequence[int]], cache: object) -> list[list[float]]:
    """Of each row's tokens after the first, following what the cache holds."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=base.device)
    row_of = [r for r, row in enumerate(rows) for _ in row[1:]]
    columns = [c for row in rows for c in range(len(row) - 1)]
    targets = torch.tensor([token for row in rows for token in row[1:]], device=base.device)
    nats: Tensor
    nats, _ = base.token_nll(
        torch.tensor(row_of, device=base.device),
        torch.tensor(columns, device=base.device),
        targets,
        input_ids=ids,
        past_key_values=cache,
    )
    split = torch.split(nats.float().cpu(), [len(row) - 1 for row in rows])
    return [part.tolist() for part in split]
