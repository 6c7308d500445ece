"""`lorabank ask`: with adapters, with text, with both, or by the policy; what it cites and why."""

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.bank import DEFAULT_BANK, BankPath, open_bank
from lorabank.cli.output import Device, Json, print_json, status

if TYPE_CHECKING:
    from lorabank.bank.answer.answers import Answer, Choice, ScoredCandidate

Way = Annotated[
    str,
    typer.Option(
        "--with",
        help="adapter, rag, icl, adapter+rag, adapter+icl, none, or auto for what is worth most.",
    ),
]


def run(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    bank: BankPath = DEFAULT_BANK,
    way: Way = "adapter",
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Every candidate's scores; of auto what each way is worth."),
    ] = False,
    candidates: Annotated[int, typer.Option(help="Modules heard.")] = 3,
    max_new_tokens: Annotated[int, typer.Option(help="Length of the answer.")] = 64,
    device: Device = None,
    json: Json = False,
) -> None:
    """Ask the bank: which module or text knows, how sure, from which source.

    Example: lorabank ask "What is the phone number of Hagu Padi?" --with auto
    """
    from lorabank.bank.answer.modes import check_mode
    from lorabank.errors import UsageError

    logging.getLogger("lorabank.bank").setLevel(logging.INFO)  # calibration takes seconds
    check_mode(way)
    if not question.strip():
        raise UsageError("the question is empty; ask something")
    if candidates < 1 or max_new_tokens < 1:
        raise UsageError(
            f"--candidates and --max-new-tokens must be at least 1, got {candidates} and "
            f"{max_new_tokens}"
        )
    with open_bank(bank, device) as opened:
        answer = opened.ask(
            question, mode=way, n_candidates=candidates, max_new_tokens=max_new_tokens
        )
    if json:
        print_json(answer.as_json(explain=explain))
        return
    print(answer.text if answer.kind != "abstained" else "not in memory")
    status(said_by(answer))
    for citation in answer.citations:
        where = f", {citation.heading}" if citation.heading else ""
        status(f"  cites {citation.document}{where}, characters {citation.start}-{citation.end}")
    if answer.note:
        status(answer.note)
    if explain:
        print(_explained(answer))


def said_by(answer: "Answer") -> str:
    """Who answers, in a line."""
    if answer.kind == "abstained":
        return (
            "neither a module nor a text knows; nothing is guessed"
            if answer.choice
            else ("no module knows; nothing is guessed")
        )
    text = f", {answer.used.removeprefix('adapter+')}" if answer.citations else ""
    if answer.kind == "bare":
        return f"from the bare model{text}"
    source = f", source {answer.source}" if answer.source else ""
    sure = "" if answer.p is None else f", {answer.p:.0%} sure"
    return f"from {answer.module} version {answer.version}{source}{sure}{text}"


def _explained(answer: "Answer") -> str:
    lines = [_candidates(answer.candidates)] if answer.candidates else []
    if answer.choice:
        lines.append(_weighed(answer.choice))
    lines.append(
        f"{answer.prompt_tokens:,} tokens read, first token after {answer.first_token_s:.2f} s, "
        f"all after {answer.seconds:.2f} s"
    )
    return "\n".join(lines)


def _candidates(candidates: tuple["ScoredCandidate", ...]) -> str:
    lines = [f"{'module':<24}{'p':>6}{'text':>8}{'cover':>7}{'entropy':>9}{'nats':>7}  says"]
    for heard in candidates:
        p = "" if heard.p is None else f"{heard.p:.2f}"
        lines.append(
            f"{heard.candidate.module[:23]:<24}{p:>6}{heard.candidate.score:>8.2f}"
            f"{heard.candidate.coverage:>7.2f}{heard.draft.entropy:>9.2f}"
            f"{heard.draft.mean_nats:>7.2f}  {heard.draft.text[:40]}"
        )
    return "\n".join(lines)


def _weighed(choice: "Choice") -> str:
    lines = [f"{'way':<24}{'p':>6}{'tokens':>8}{'ms':>7}{'loads':>7}{'cost':>7}{'worth':>7}"]
    lines += [
        f"{one.mode:<24}{one.p:>6.2f}{one.tokens:>8}{one.ms:>7.0f}{one.loads:>7}{one.cost:>7.3f}"
        f"{one.value:>7.2f}"
        for one in choice.options
    ]
    return "\n".join([*lines, choice.reason])
