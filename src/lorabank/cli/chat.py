"""`lorabank chat`: questions in the terminal, each understood by those before it.

With a file or a pipe as input, every line is a question: it is repeated on stderr, and nothing but
answers goes to stdout.
"""

import contextlib
import io
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.ask import (
    AnswerLength,
    AnswerMode,
    CandidateCount,
    Explain,
    FalseActivation,
    check_options,
    print_answer,
    print_explanation,
)
from lorabank.cli.bank import DEFAULT_BANK, open_bank
from lorabank.cli.output import Device, print_json, status
from lorabank.errors import LorabankError

if TYPE_CHECKING:
    from lorabank.bank.answer.answers import Answer
    from lorabank.bank.bank import Bank

_COMMANDS = {
    "/help": "what can be typed",
    "/why": "how the last answer was chosen",
    "/new": "forget the questions before",
    "/quit": "end, as Ctrl-D does",
}
_TURNS = 16  # turns that are kept; a follow-up needs the last few


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """The options of `lorabank chat`."""

    bank: Annotated[Path, typer.Argument(envvar="LORABANK_BANK", help="The bank's folder.")] = (
        DEFAULT_BANK
    )
    mode: AnswerMode = None
    explain: Explain = False
    candidates: CandidateCount = 3
    max_new_tokens: AnswerLength = 64
    false_activation: FalseActivation = 0.05
    device: Device = None
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout for each answer.")
    ] = False


@dataclass(slots=True)
class _Chat:
    """A bank that is talked to."""

    bank: "Bank"
    options: ChatOptions
    turns: list[dict[str, str]] = field(default_factory=list)
    last: "Answer | None" = None

    def ask(self, question: str) -> None:
        """Answer a question and keep it, as it was understood, for those that follow."""
        options = self.options
        turns = [*self.turns, {"role": "user", "content": question}]
        answer = self.bank.ask(
            turns,
            mode=options.mode,
            n_candidates=options.candidates,
            max_new_tokens=options.max_new_tokens,
        )
        turns[-1] = {"role": "user", "content": answer.question}
        self.turns = [*turns, {"role": "assistant", "content": answer.text}][-_TURNS:]
        self.last = answer
        if options.json:
            print_json(answer.as_json(explain=options.explain))
            return
        print_answer(answer)
        if options.explain:
            print_explanation(answer)

    def obey(self, command: str) -> None:
        """Do what a line that begins with a slash says."""
        if command == "/why" and self.last is not None:
            print_explanation(self.last)
        elif command == "/why":
            status("nothing was asked yet")
        elif command == "/new":
            self.turns, self.last = [], None
            status("the questions before are forgotten")
        else:
            if command != "/help":
                status(f"there is no {command}; a question does not begin with a slash")
            for name, meaning in _COMMANDS.items():
                status(f"{name:<6} {meaning}")


def run(options: ChatOptions) -> None:
    """Talk to a bank: "and her address?" is understood by the question before.

    /help lists what else can be typed, /why explains the last answer, /quit or Ctrl-D ends.

    Example: lorabank chat bank
    """
    check_options(
        options.mode, options.candidates, options.max_new_tokens, options.false_activation
    )
    is_typed = sys.stdin.isatty()
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # told of as a question that is no text
    if is_typed:
        with contextlib.suppress(ImportError):  # there is none on Windows
            import readline  # noqa: F401 - gives `input` a history and keys to edit a line
    with open_bank(options.bank, options.device) as bank:
        bank.false_activation = options.false_activation
        chat = _Chat(bank, options)
        if is_typed:
            status("ask something; /help lists what else can be typed")
        with contextlib.suppress(EOFError, KeyboardInterrupt):
            while (line := input("> " if is_typed else "").strip()) not in ("/quit", "/exit"):
                if line and not is_typed:
                    status(f"> {line.encode(errors='replace').decode()}")
                try:
                    if line.startswith("/"):
                        chat.obey(line)
                    elif line:
                        chat.ask(line)
                except LorabankError as error:
                    status(f"error: {error}")
                sys.stdout.flush()
        if is_typed:
            status("")  # the prompt has left the cursor in its line
