"""/v1/completions: text after text, with the log-probabilities that evaluation programs ask for.

The bank reads a prompt as a question. A module or the base goes on from the prompt as it stands;
token ids are taken as well as text. `echo` returns the prompt too, and with `logprobs` a reading of
every token of it, as lm-eval's `local-completions` needs.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from lorabank.bank.bank import Bank
from lorabank.server.access import ASK
from lorabank.server.answer_bodies import answer_details, answer_text
from lorabank.server.chat_routes import (
    check_room,
    count_tokens,
    count_written,
    cut_at_stops,
    new_head,
    read_whole,
    row_details,
    sampling_of,
    stream,
    usage_of,
)
from lorabank.server.echoes import TokenReading, header_of, read_echo
from lorabank.server.model_names import Model, find_model
from lorabank.server.model_thread import AskOrder
from lorabank.server.openai_bodies import CompletionBody
from lorabank.server.refusals import RefusalError
from lorabank.server.requests import needs, on_model, server_of, wait_for
from lorabank.server.row_writer import RowOrder
from lorabank.server.rows_as_streams import RowStream, follow_row

router = APIRouter(tags=["openai"], dependencies=[needs(ASK)])
_TOKENS = 16  # of a completion, unless more are asked for: the API's own default
_MOST_PROMPTS = 64


@dataclass(slots=True)
class _LogPs:
    """Tokens with their log-probabilities, as completions have them."""

    tokens: list[str] = field(default_factory=list)
    token_logprobs: list[float | None] = field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] = field(default_factory=list)
    text_offset: list[int] = field(default_factory=list)
    n_characters: int = 0

    def add(self, bank: Bank, token: int, reading: TokenReading | None) -> None:
        text = bank.base.chat.tokenizer.decode([token])
        self.tokens.append(text)
        self.text_offset.append(self.n_characters)
        self.n_characters += len(text)
        self.token_logprobs.append(reading[0] if reading else None)
        best = {bank.base.chat.tokenizer.decode([t]): p for t, p in reading[1]} if reading else None
        self.top_logprobs.append(best)

    def as_json(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "token_logprobs": self.token_logprobs,
            "top_logprobs": self.top_logprobs,
            "text_offset": self.text_offset,
        }


@router.post("/v1/completions", response_model=None)
async def complete(request: Request, body: CompletionBody) -> Response | dict[str, Any]:
    """Go on from one or several prompts."""
    bank = server_of(request).bank
    model = find_model(bank, body.model)
    prompts = body.prompts
    if not 1 <= len(prompts) <= _MOST_PROMPTS:
        raise RefusalError(
            f"prompt must be 1 to {_MOST_PROMPTS} prompts, got {len(prompts)}", param="prompt"
        )
    if body.stream and (len(prompts) > 1 or body.echo):
        raise RefusalError("a stream has one prompt and no echo; leave stream out", param="stream")
    if model.is_memory:
        return await _ask_memory(request, body, model)
    rows = [_ids_of(bank, prompt) for prompt in prompts]
    for ids in rows:
        check_room(bank, len(ids), param="prompt")
        if model.version and model.version.record.get("activated"):
            header_of(bank.base, ids, model.version)
    if body.stream:
        return _stream_row(request, body, model, rows[0])
    choices = await _complete_rows(request, body, model)
    n_read, n_written = sum(map(len, rows)), sum(choice.pop("n_written") for choice in choices)
    count_written(request, n_written, n_read)
    return {
        **new_head(body.model, "text_completion"),
        "choices": choices,
        "usage": usage_of(n_read, n_written),
        "lorabank": row_details(model),
    }


async def _complete_rows(
    request: Request, body: CompletionBody, model: Model
) -> list[dict[str, Any]]:
    """Go on from all prompts side by side; one that fails lets the others go."""
    room = asyncio.Semaphore(server_of(request).settings.max_rows)

    async def complete_one(index: int) -> dict[str, Any]:
        async with room:
            return await _complete_row(request, body, model, index)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(complete_one(i)) for i in range(len(body.prompts))]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def _complete_row(
    request: Request, body: CompletionBody, model: Model, index: int
) -> dict[str, Any]:
    bank = server_of(request).bank
    ids = _ids_of(bank, body.prompts[index])
    log_ps = _LogPs()
    if body.echo and body.logprobs is not None:
        n = body.logprobs
        readings = await on_model(request, lambda bank: read_echo(bank, model.version, ids, n))
        for token, reading in zip(ids, (None, *readings), strict=True):
            log_ps.add(bank, token, reading)
    text, finish, n_written = "", "length", 0
    length = body.length(default=_TOKENS, most=server_of(request).settings.max_new_tokens)
    if length:
        row = RowStream(bank.base.chat.tokenizer.decode, body.stops)
        order = _order(body, model, ids, row, length)
        server_of(request).model.write_row(order)
        tokens, last = await read_whole(request, order, row)
        text, finish, n_written = row.text.text, last.finish or "stop", len(row.text.ids)
        for written in tokens if body.logprobs is not None else ():
            log_ps.add(bank, written.token, (written.log_p or 0.0, written.likeliest))
    return {
        "index": index,
        "text": (_text_of(bank, body.prompts[index]) if body.echo else "") + text,
        "finish_reason": finish,
        "logprobs": log_ps.as_json() if body.logprobs is not None else None,
        "n_written": n_written,
    }


def _stream_row(request: Request, body: CompletionBody, model: Model, ids: list[int]) -> Response:
    bank = server_of(request).bank
    length = body.length(default=_TOKENS, most=server_of(request).settings.max_new_tokens)
    row = RowStream(bank.base.chat.tokenizer.decode, body.stops)
    order = _order(body, model, ids, row, max(1, length))
    server_of(request).model.write_row(order)

    async def pieces() -> AsyncIterator[dict[str, Any]]:
        log_ps = None
        async for piece in follow_row(request, order, row):
            if piece.token and body.logprobs is not None:
                reading = _LogPs()
                reading.add(
                    bank, piece.token.token, (piece.token.log_p or 0.0, piece.token.likeliest)
                )
                log_ps = reading.as_json()
            part: dict[str, Any] = {"text": piece.text, "logprobs": log_ps}
            if piece.finish:
                n_written = len(row.text.ids)
                count_written(request, n_written, len(ids))
                part |= {"finish_reason": piece.finish, "usage": usage_of(len(ids), n_written)}
            yield part

    return stream(request, body, new_head(body.model, "text_completion"), pieces())


def _order(
    body: CompletionBody, model: Model, ids: list[int], row: RowStream, length: int
) -> RowOrder:
    return RowOrder(
        tuple(ids),
        row,
        model.version,
        max_new_tokens=length,
        sampling=sampling_of(body),
        n_likeliest=body.logprobs,
        ignores_end=body.ignore_eos,
    )


async def _ask_memory(
    request: Request, body: CompletionBody, model: Model
) -> Response | dict[str, Any]:
    server = server_of(request)
    if body.echo or body.logprobs is not None:
        raise RefusalError(
            "an answer of the bank has no log-probabilities and no echo; ask a module or the base",
            code="unsupported",
            param="logprobs",
        )
    questions = [_text_of(server.bank, prompt) for prompt in body.prompts]
    length = body.length(default=64, most=server.settings.max_new_tokens)
    order = AskOrder(
        "", model.mode, max(1, length), body.lorabank.as_of, explain=body.lorabank.explain
    )
    futures = [server.model.ask(replace(order, question=question)) for question in questions]
    answers = [await wait_for(request, future) for future in futures]
    texts = [cut_at_stops(answer_text(answer), body.stops) for answer in answers]
    details = [answer_details(answer, explain=body.lorabank.explain) for answer in answers]
    n_read = sum(answer.prompt_tokens for answer in answers)
    n_written = sum(count_tokens(server.bank, answer.text) for answer in answers)
    usage, head = usage_of(n_read, n_written), new_head(body.model, "text_completion")
    count_written(request, n_written, n_read)
    if body.stream:

        async def pieces() -> AsyncIterator[dict[str, Any]]:
            yield {"text": texts[0], "lorabank": details[0]}
            yield {"text": "", "finish_reason": "stop", "usage": usage}

        return stream(request, body, head, pieces())
    choices = [
        {"index": i, "text": text, "finish_reason": "stop", "logprobs": None, "lorabank": own}
        for i, (text, own) in enumerate(zip(texts, details, strict=True))
    ]
    return {**head, "choices": choices, "usage": usage, "lorabank": details[0]}


def _ids_of(bank: Bank, prompt: str | list[int]) -> list[int]:
    """Return a prompt as token ids.

    Raises:
        RefusalError: an id that is no token of this model.
    """
    tokenizer = bank.base.chat.tokenizer
    if isinstance(prompt, str):
        return list(tokenizer(prompt)["input_ids"])
    wrong = next((i for i in prompt if not 0 <= i < len(tokenizer)), None)
    if wrong is not None:
        raise RefusalError(
            f"prompt has the token {wrong}, and this model's are 0 to {len(tokenizer) - 1:,}",
            param="prompt",
        )
    return prompt


def _text_of(bank: Bank, prompt: str | list[int]) -> str:
    return prompt if isinstance(prompt, str) else str(bank.base.chat.tokenizer.decode(prompt))
