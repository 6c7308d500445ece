"""`lorabank remember`: facts that are answered at once and taught to a module later."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.bank import DEFAULT_BANK, BankPath
from lorabank.cli.output import Json, print_json, say

if TYPE_CHECKING:
    from lorabank.bank.write.given_facts import GivenFact
    from lorabank.bank.write.remember import Remembered, RememberReport


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberOptions:
    """The options of `lorabank remember`."""

    text: Annotated[
        str | None,
        typer.Argument(help="A sentence that states one fact, such as “The door code is 4217”."),
    ] = None
    bank: BankPath = DEFAULT_BANK
    question: Annotated[
        str | None, typer.Option(help="The question, where no rule makes one of a sentence.")
    ] = None
    answer: Annotated[str | None, typer.Option(help="The answer to --question.")] = None
    facts: Annotated[
        Path | None,
        typer.Option(
            help="File of facts: CSV with prompt,answer or JSONL, which may have key (or subject "
            "and relation) and valid_at, or .txt with a sentence on each line."
        ),
    ] = None
    key: Annotated[
        str | None,
        typer.Option(help="What the fact is known by; by default what its question asks for."),
    ] = None
    valid_at: Annotated[
        str | None, typer.Option(help="Date from which it holds, as 2026-03-01; by default now.")
    ] = None
    json: Json = False


def run(options: RememberOptions) -> None:
    """Remember facts: stored at once as text, and answered; consolidate teaches them to a module.

    A fact that is known with another value supersedes it. No model is loaded.

    Example: lorabank remember "The phone number of Kimu Gugu is 519-017-5311"
    """
    from lorabank.bank.write.remember import remember
    from lorabank.store.store import Store

    facts = _read(options)
    with Store.open(options.bank) as store:
        report = remember(store, facts, key=options.key or "", valid_at=options.valid_at or "")
    if options.json:
        print_json(report.as_json())
        return
    for fact in report.facts:
        say(_line(fact))
    for question, other, answer in report.may_contradict:
        say(
            f"{question!r} has the words of {other!r}, whose answer is {answer!r}: if they are one "
            "fact, give both one --key; nothing was decided"
        )
    say(_pending(report))


def _read(options: RememberOptions) -> "list[GivenFact]":
    """Return the facts that were given in one of the three ways.

    Raises:
        UsageError: none of them, or more than one.
    """
    from lorabank.bank.write.given_facts import given_facts, read_given_facts
    from lorabank.errors import UsageError

    is_pair = options.question is not None or options.answer is not None
    if (options.text is not None) + is_pair + (options.facts is not None) != 1:
        raise UsageError(
            "remember takes a sentence, or --question with --answer, or --facts FILE; give one of "
            "the three"
        )
    if options.facts is not None:
        return read_given_facts(options.facts)
    if options.text is not None:
        return given_facts(options.text)
    if options.question is None or not (options.answer or "").strip():
        raise UsageError(
            "--question and --answer make a fact together, and one of them is missing or empty; "
            "give both"
        )
    return given_facts([(options.question, str(options.answer))])


def _line(fact: "Remembered") -> str:
    text = f"{fact.question} {fact.answer}"
    if fact.is_known:
        return f"known already: {text}"
    if fact.is_past:
        return f"remembered as history: {text}"
    if fact.replaces is None:
        return f"remembered: {text}"
    held = f", which {fact.held_by} was taught and is not asked for any more" * bool(fact.held_by)
    return f"changed: {text}, no longer {fact.replaces}{held}"


def _pending(report: "RememberReport") -> str:
    n = report.pending
    return f"{n} fact{'' if n == 1 else 's'} pending; lorabank consolidate teaches them"
