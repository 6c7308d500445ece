"""/v1/models and /v1/chat/completions: the bank, a module alone or the base, as models."""

import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from lorabank.bank.answer.conversation import read_turns
from lorabank.bank.bank import Bank
from lorabank.engine.inference.running_batch import WrittenToken
from lorabank.engine.inference.sampling import Sampling
from lorabank.errors import LorabankError
from lorabank.server.access import ASK
from lorabank.server.answer_bodies import annotations, answer_details, answer_text
from lorabank.server.candidate_outcomes import explain_candidates
from lorabank.server.json_log import tell_error
from lorabank.server.model_names import Model, find_model, model_cards
from lorabank.server.model_thread import AskOrder
from lorabank.server.openai_bodies import ChatBody, GenerationBody
from lorabank.server.refusals import RefusalError, internal, refusal_of
from lorabank.server.requests import needs, server_of, wait_for
from lorabank.server.row_writer import RowOrder
from lorabank.server.rows_as_streams import Piece, RowStream, follow_row

router = APIRouter(tags=["openai"], dependencies=[needs(ASK)])
_MEMORY_TOKENS = 64  # of an answer, unless more are asked for
_ROW_TOKENS = 256
_SEED_BITS = 31


@router.get("/v1/models")
def list_models(request: Request) -> dict[str, Any]:
    """List the bank with its modes, the base, and every version of every module."""
    return {"object": "list", "data": model_cards(server_of(request).bank)}


@router.get("/v1/models/{name:path}")
def show_model(request: Request, name: str) -> dict[str, Any]:
    """Return one of them."""
    bank = server_of(request).bank
    find_model(bank, name)
    return next(card for card in model_cards(bank) if card["id"] == name)


@router.post("/v1/chat/completions", response_model=None)
async def chat(request: Request, body: ChatBody) -> Response | dict[str, Any]:
    """Answer a conversation."""
    bank = server_of(request).bank
    model = find_model(bank, body.model)
    if model.is_memory:
        return await _ask_memory(request, body, model)
    return await _write_chat(request, body, model)


async def _ask_memory(request: Request, body: ChatBody, model: Model) -> Response | dict[str, Any]:
    if body.logprobs:
        raise RefusalError(
            "an answer of the bank has no log-probabilities, since it may be a stored one; ask a "
            "module or the base for them",
            code="unsupported",
            param="logprobs",
        )
    server = server_of(request)
    length = body.length(default=_MEMORY_TOKENS, most=server.settings.max_new_tokens)
    turns = [message.as_turn() for message in body.messages]
    read_turns(turns)
    order = AskOrder(turns, model.mode, length, body.lorabank.as_of, body.lorabank.explain)
    answer = await wait_for(request, server.model.ask(order))
    text = cut_at_stops(answer_text(answer), body.stops)
    details = answer_details(answer, explain=body.lorabank.explain)
    if body.lorabank.explain:
        details |= explain_candidates(server.bank, answer)
    n_written = count_tokens(server.bank, answer.text)
    count_written(request, n_written, answer.prompt_tokens)
    usage = usage_of(answer.prompt_tokens, n_written)
    head = new_head(body.model, "chat.completion")
    if body.stream:

        async def pieces() -> AsyncIterator[dict[str, Any]]:
            yield {"delta": {"role": "assistant", "content": ""}}
            yield {"delta": {"content": text}, "lorabank": details}
            yield {"delta": {}, "finish_reason": "stop", "usage": usage}

        return stream(request, body, {**head, "object": "chat.completion.chunk"}, pieces())
    message = {"role": "assistant", "content": text, "refusal": None}
    message["annotations"] = annotations(answer, text)  # type: ignore[assignment]
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return {**head, "choices": [choice], "usage": usage, "lorabank": details}


async def _write_chat(request: Request, body: ChatBody, model: Model) -> Response | dict[str, Any]:
    server = server_of(request)
    if body.lorabank.as_of:
        raise RefusalError(
            "as_of is answered by the bank; ask the model 'memory'", param="lorabank.as_of"
        )
    turns = read_turns([message.as_turn() for message in body.messages])
    prompt = tuple(server.bank.base.chat.direct_prompt_ids(turns))
    check_room(server.bank, len(prompt), param="messages")
    n_likeliest = (body.top_logprobs or 0) if body.logprobs else None
    row = RowStream(server.bank.base.chat.decode, body.stops)
    order = RowOrder(
        prompt,
        row,
        model.version,
        max_new_tokens=body.length(default=_ROW_TOKENS, most=server.settings.max_new_tokens),
        sampling=sampling_of(body),
        n_likeliest=n_likeliest,
        ignores_end=body.ignore_eos,
    )
    head = new_head(body.model, "chat.completion")
    details = row_details(model)
    server.model.write_row(order)
    if body.stream:

        async def pieces() -> AsyncIterator[dict[str, Any]]:
            yield {"delta": {"role": "assistant", "content": ""}, "lorabank": details}
            async for piece in follow_row(request, order, row):
                log_ps = chat_log_ps(server.bank, [piece.token]) if piece.token else None
                if piece.text or log_ps:
                    yield {"delta": {"content": piece.text}, "logprobs": log_ps}
                if piece.finish:
                    usage = usage_of(len(prompt), len(row.text.ids))
                    count_written(request, len(row.text.ids), len(prompt))
                    yield {"delta": {}, "finish_reason": piece.finish, "usage": usage}

        return stream(request, body, {**head, "object": "chat.completion.chunk"}, pieces())
    tokens, last = await read_whole(request, order, row)
    count_written(request, len(row.text.ids), len(prompt))
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": row.text.text, "refusal": None},
        "finish_reason": last.finish,
        "logprobs": chat_log_ps(server.bank, tokens),
    }
    usage = usage_of(len(prompt), len(row.text.ids))
    return {**head, "choices": [choice], "usage": usage, "lorabank": details}


async def read_whole(
    request: Request, order: RowOrder, row: RowStream
) -> tuple[list[WrittenToken], Piece]:
    """Wait for a whole row; return its tokens and its last piece."""
    tokens: list[WrittenToken] = []
    last = Piece("", None, None)
    async for piece in follow_row(request, order, row):
        last = piece
        if piece.token:
            tokens.append(piece.token)
    if last.finish is None:
        raise RefusalError("the client has gone", status=499, code="client_gone")
    return tokens, last


def stream(
    request: Request,
    body: GenerationBody,
    head: dict[str, Any],
    pieces: AsyncIterator[dict[str, Any]],
) -> StreamingResponse:
    """Return pieces of an answer as server-sent events."""
    with_usage = body.stream_options is not None and body.stream_options.include_usage

    async def events() -> AsyncIterator[str]:
        try:
            async for piece in pieces:
                usage = piece.pop("usage", None)
                details = piece.pop("lorabank", None)
                choice = {"index": 0, "finish_reason": None, "logprobs": None, **piece}
                chunk = {**head, "choices": [choice]}
                if details is not None:
                    chunk["lorabank"] = details
                yield _event(chunk)
                if usage and with_usage:
                    yield _event({**head, "choices": [], "usage": usage})
        except LorabankError as error:
            yield _event(refusal_of(error).as_json())
        except Exception as error:  # the reply has begun: its end can only be told in the stream
            tell_error("fault", error, id=request.state.request_id)
            yield _event(internal(request.state.request_id).as_json())
        yield "data: [DONE]\n\n"

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def new_head(model: str, kind: str) -> dict[str, Any]:
    """Return what all objects of an answer begin with."""
    short = "chatcmpl" if kind.startswith("chat") else "cmpl"
    return {
        "id": f"{short}-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
    }


def row_details(model: Model) -> dict[str, Any]:
    """Return who answers without the bank's gate."""
    version = model.version
    return {
        "kind": "module" if version else "bare",
        "module": version.module if version else None,
        "version": version.number if version else None,
    }


def sampling_of(body: GenerationBody) -> Sampling | None:
    """Return how tokens are drawn; greedily, unless a temperature is given."""
    if not body.temperature:
        return None
    seed = secrets.randbits(_SEED_BITS) if body.seed is None else body.seed % 2**63
    return Sampling(body.temperature, 1.0 if body.top_p is None else body.top_p, seed)


def check_room(bank: Bank, n_tokens: int, *, param: str) -> None:
    """Refuse a prompt that leaves no room for an answer.

    Raises:
        RefusalError: says how long it is and how long it may be.
    """
    most = bank.base.max_tokens - 1
    if not 1 <= n_tokens <= most:
        raise RefusalError(
            f"the prompt has {n_tokens:,} tokens, and this model takes 1 to {most:,}",
            code="context_length_exceeded",
            param=param,
        )


def count_written(request: Request, n_written: int, n_read: int) -> None:
    metrics = server_of(request).metrics
    text = "Tokens read and written."
    metrics.count("lorabank_tokens_total", text, by=n_written, kind="written")
    metrics.count("lorabank_tokens_total", text, by=n_read, kind="read")


def usage_of(n_read: int, n_written: int) -> dict[str, int]:
    return {
        "prompt_tokens": n_read,
        "completion_tokens": n_written,
        "total_tokens": n_read + n_written,
    }


def count_tokens(bank: Bank, text: str) -> int:
    return len(bank.base.chat.tokenizer(text, add_special_tokens=False)["input_ids"])


def cut_at_stops(text: str, stops: tuple[str, ...]) -> str:
    ends = [text.find(stop) for stop in stops if stop in text]
    return text[: min(ends)] if ends else text


def chat_log_ps(bank: Bank, tokens: list[WrittenToken]) -> dict[str, Any] | None:
    """Return log-probabilities as chat completions have them; None where none were asked for."""
    if not tokens or tokens[0].log_p is None:
        return None
    return {
        "content": [
            {
                **_token(bank, token.token, token.log_p or 0.0),
                "top_logprobs": [_token(bank, other, log_p) for other, log_p in token.likeliest],
            }
            for token in tokens
        ],
        "refusal": None,
    }


def _token(bank: Bank, token: int, log_p: float) -> dict[str, Any]:
    text = bank.base.chat.tokenizer.decode([token])
    return {"token": text, "logprob": log_p, "bytes": list(text.encode())}
