"""Bodies of requests of the OpenAI API, as far as they mean something here.

Fields that change what is answered and that are not known here are refused; others are left
unread, as clients send many.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lorabank.server.refusals import RefusalError

_UNKNOWN = (
    "tools",
    "functions",
    "response_format",
    "audio",
    "prediction",
    "logit_bias",
    "suffix",
    "best_of",
    "frequency_penalty",
    "presence_penalty",
)
_PLAIN: tuple[Any, ...] = (None, [], {}, 0, 0.0, 1, "", {"type": "text"})
"""Values of such fields that ask for nothing."""


class TextPart(BaseModel):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    def as_turn(self) -> dict[str, str]:
        """Return the turn as the bank reads it."""
        content = self.content
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class StreamOptions(BaseModel):
    """The choice of what a stream has besides the answer."""

    include_usage: bool = False


class LorabankOptions(BaseModel):
    """Fields that only this server knows; clients send it as `extra_body={"lorabank": {…}}`."""

    model_config = ConfigDict(extra="forbid")
    as_of: str | None = Field(default=None, description="Date whose values are wanted.")
    explain: bool = Field(default=False, description="Return every candidate and why.")


class GenerationBody(BaseModel):
    """Fields that bodies of chat and of completions share."""

    model_config = ConfigDict(extra="allow", strict=True)
    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=0)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = None
    stop: str | list[str] | None = None
    n: int | None = Field(default=None, ge=1, le=1)
    ignore_eos: bool = Field(default=False, description="Write on after the end of the turn.")
    lorabank: LorabankOptions = LorabankOptions()

    @model_validator(mode="after")
    def _refuse_unknown(self) -> "GenerationBody":
        extra: dict[str, Any] = self.model_extra or {}
        for name in _UNKNOWN:
            if extra.get(name) not in _PLAIN:
                raise ValueError(f"{name} is not supported here; leave it out")
        return self

    @field_validator("stop")
    @classmethod
    def _check_stop(cls, stop: str | list[str] | None) -> str | list[str] | None:
        texts = [stop] if isinstance(stop, str) else stop or []
        if len(texts) > 8 or any(len(text) > 256 for text in texts):
            raise ValueError("at most 8 texts of 256 characters")
        return stop

    @property
    def stops(self) -> tuple[str, ...]:
        stop = self.stop or ()
        return (stop,) if isinstance(stop, str) else tuple(text for text in stop if text)

    def length(self, *, default: int, most: int) -> int:
        """Return how many tokens may be written.

        Raises:
            RefusalError: more than the server allows.
        """
        wanted = self.max_tokens
        if wanted is None:
            return min(default, most)
        if wanted > most:
            raise RefusalError(
                f"max_tokens may be at most {most:,} on this server, got {wanted:,}",
                code="too_many_tokens",
                param="max_tokens",
            )
        return wanted


class ChatBody(GenerationBody):
    """The body of /v1/chat/completions."""

    model_config = ConfigDict(
        extra="allow",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "model": "memory",
                    "messages": [
                        {"role": "user", "content": "What is the phone number of Kimu Gugu?"}
                    ],
                }
            ]
        },
    )
    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    @model_validator(mode="after")
    def _check_length(self) -> "ChatBody":
        if self.max_completion_tokens is not None:
            self.max_tokens = self.max_completion_tokens
        if self.max_tokens == 0:
            raise ValueError("max_tokens must be at least 1")
        return self


class CompletionBody(GenerationBody):
    """The body of /v1/completions."""

    model_config = ConfigDict(
        extra="allow",
        strict=True,
        json_schema_extra={
            "examples": [{"model": "smollm2-135m", "prompt": "Nebo is", "max_tokens": 8}]
        },
    )
    prompt: str | list[str] | list[int] | list[list[int]]
    echo: bool = False
    logprobs: int | None = Field(default=None, ge=0, le=20)

    @property
    def prompts(self) -> list[str | list[int]]:
        """Return the prompts one by one, texts or token ids."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        ids = [part for part in prompt if isinstance(part, int)]
        return [ids] if ids else [part for part in prompt if not isinstance(part, int)]


class EmbeddingBody(BaseModel):
    """The body of /v1/embeddings."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [{"model": "all-minilm-l6-v2", "input": "the keeper of the lighthouse"}]
        },
    )
    model: str
    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input
