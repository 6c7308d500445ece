"""Bench of synthesis: the local generator's batches against `model.generate`, one by one."""

import logging
from dataclasses import dataclass, replace
from typing import Any

import torch

from lorabank.bench.pairs import report, run_pairs, timed
from lorabank.engine.backbone.base import Base, load_info
from lorabank.synthesis.formats import FormatKind
from lorabank.synthesis.generators import Finish, Request, SamplingOptions
from lorabank.synthesis.local import ROWS, LocalGenerator
from lorabank.synthesis.prompts import request_for
from lorabank.synthesis.sources import SourceText
from lorabank.tasks.synthetic import phonebook

_GREEDY = SamplingOptions(temperature=0.0, top_p=1.0)
_LINES = 8  # of the book in a passage: about 200 tokens
_KINDS = (FormatKind.QA, FormatKind.SUMMARY, FormatKind.REWRITE)
_EXACT = 8  # requests that are written once more in float32
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GenerationSizes:
    """The sizes of the bench of synthesis."""

    requests: int = 32
    new_tokens: int = 48
    rows: int = ROWS
    """Number of rows in a batch."""


def bench_synthesise(
    base: Base, *, pairs: int = 3, sizes: GenerationSizes | None = None
) -> dict[str, Any]:
    """Time greedy replies to requests as synthesis makes them, about passages of a phone book.

    bfloat16 rounds by the shape of the batch, so a near tie may fall the other way; `equal` is
    therefore about float32, where a row is the same in any batch.
    """
    sizes = sizes or GenerationSizes()
    requests, new_tokens, rows = sizes.requests, sizes.new_tokens, sizes.rows
    requests_made = make_requests(requests, new_tokens)
    ran = run_pairs(
        timed(lambda: ours(base, requests_made, rows=rows)),
        timed(lambda: one_by_one(base, requests_made)),
        n=pairs,
    )
    our_replies, peer_replies = ran.ours[-1].result, ran.theirs[-1].result
    _log.info("the same in float32")
    exact = load_info(base.info, dtype="float32", device=base.device.type)
    first_requests = requests_made[:_EXACT]
    unequal = _differing(ours(exact, first_requests, rows=rows), one_by_one(exact, first_requests))
    n_tokens = sum(n for _, n in peer_replies)
    return report(
        "synthesise",
        base,
        ran,
        equal=not unequal,
        equal_note=f"same text of the first {len(first_requests)} requests in float32, untimed",
        differing_float32=unequal,
        differing=_differing(our_replies, peer_replies),
        requests=requests,
        rows=rows,
        new_tokens=new_tokens,
        prompt_tokens=sum(
            len(base.chat.direct_prompt_ids(request.messages)) for request in requests_made
        )
        / requests,
        tokens_written=n_tokens,
        ours_tokens_per_s=sum(n for _, n in our_replies) / ran.ours_s,
        peer_tokens_per_s=n_tokens / ran.theirs_s,
    )


def make_requests(n: int, new_tokens: int) -> list[Request]:
    """Return greedy requests of all kinds, each about a passage of its own."""
    book = phonebook.build(n * _LINES, seed=0)
    made = []
    for i in range(n):
        entries = book[i * _LINES : (i + 1) * _LINES]
        text = " ".join(f"The phone number of {e.name} is {e.number}." for e in entries)
        piece = SourceText(f"{i}", f"Page {i}", f"page {i}", f"page {i}", "", text)
        kind = _KINDS[i % len(_KINDS)]
        request = request_for(piece, kind, 1, as_json=False, sampling=_GREEDY)
        made.append(replace(request, max_tokens=new_tokens))
    return made


def ours(base: Base, requests: list[Request], *, rows: int) -> list[tuple[str, int]]:
    """Return text and number of tokens of each reply, in the order of the requests."""
    replies = LocalGenerator(base, rows=rows).complete(requests)
    replies_by_request = {}
    for reply in replies:
        assert reply.finish is not Finish.FAILED, reply.reason
        replies_by_request[reply.request] = reply.text, reply.completion_tokens
    return [replies_by_request[request] for request in requests]


@torch.inference_mode()
def one_by_one(base: Base, requests: list[Request]) -> list[tuple[str, int]]:
    """Return the same through transformers' own decoding."""
    stops = sorted(base.chat.stop_ids)
    written = []
    for request in requests:
        prompt = base.chat.direct_prompt_ids(request.messages)
        ids = torch.tensor([prompt], device=base.device)
        output = base.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=request.max_tokens,
            do_sample=False,
            eos_token_id=stops,
            pad_token_id=stops[0],
        )
        reply = [token for token in output[0, len(prompt) :].tolist() if token not in stops]
        written.append((base.chat.decode(reply), len(reply)))
    return written


def _differing(ours: list[tuple[str, int]], theirs: list[tuple[str, int]]) -> list[int]:
    return [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a[0] != b[0]]
