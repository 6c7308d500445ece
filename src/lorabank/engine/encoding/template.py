"""Rendering by a tokenizer's chat template, which comes with the model and may fail in any way."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, final

from lorabank.errors import DataError, ModelError
from lorabank.tasks.examples import Message

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

_STATM = Path("/proc/self/statm")  # its first number is the pages of this process
_SECONDS = 5.0
_EXTRA_CHARACTERS = 1_000_000  # that a template may add to a conversation
_EXTRA_BYTES = 1 << 30  # that rendering a question may take


class _TooSlow(Exception):
    """A template was still running after `_SECONDS`."""


@final
class Template:
    """The chat template of a tokenizer."""

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer

    def render(
        self, messages: Sequence[Message], header: bool, thinking: bool | None = None
    ) -> str:
        """Return a conversation as the template renders it.

        Args:
            header: whether to end with the assistant's header.
            thinking: `enable_thinking` as passed to the template; None for not passed.

        Raises:
            DataError: the template takes no conversation of this form.
        """
        turns = [{"role": message.role, "content": message.content} for message in messages]
        options = {} if thinking is None else {"enable_thinking": thinking}
        try:
            text = str(
                self._tokenizer.apply_chat_template(
                    turns, tokenize=False, add_generation_prompt=header, **options
                )
            )
        except Exception as error:  # a template is a program: it can raise anything
            roles = ", ".join(message.role for message in messages)
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"the base's chat template takes no conversation of the turns {roles}: "
                f"{reason[:200]}; leave turns out, or take another base"
            ) from error
        n_given = sum(len(message.content) for message in messages)
        if len(text) > _EXTRA_CHARACTERS + 10 * n_given:
            raise DataError(
                f"the base's chat template makes {len(text):,} characters of {n_given:,}; take "
                "another base, or mend the template"
            )
        return text

    def check(self) -> None:
        """Render a question once, to find templates that are broken or do not end.

        Raises:
            ModelError: the template does not compile, fails, or takes too long or too much memory.
        """
        try:
            with _time_limit(_SECONDS), _memory_limit(_EXTRA_BYTES):
                self.render([Message("user", "?")], True)
                self.render([Message("user", "?"), Message("assistant", "!")], False)
        except DataError as error:
            reason = str(error.__cause__ or error)
            if isinstance(error.__cause__, _TooSlow):
                reason = f"it was still running after {_SECONDS:.0f} s"
            if isinstance(error.__cause__, MemoryError):
                reason = f"it asks for more than {_EXTRA_BYTES:,} bytes"
            raise ModelError(
                "the base's chat template does not render a question and its answer: "
                f"{' '.join(reason.split())[:200]}; mend the template, or take another base"
            ) from error


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Stop Python code that runs in the block when its time is up."""
    end, before = time.monotonic() + seconds, sys.gettrace()

    def trace(_: FrameType, event: str, __: Any) -> Any:
        if event == "line" and time.monotonic() > end:
            raise _TooSlow
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def _memory_limit(n_bytes: int) -> Iterator[None]:
    """Let allocations in the block fail that are together larger than this, where systems can."""
    if resource is None or not _STATM.exists():
        yield
        return
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = int(_STATM.read_text().split()[0]) * resource.getpagesize() + n_bytes
    lower = [bound for bound in (before, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([limit, *lower]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))
