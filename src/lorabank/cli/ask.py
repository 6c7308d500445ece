"""`lorabank ask`: an answer by adapters, by text, by both or by the policy, with its source."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.bank import DEFAULT_BANK, BankPath, open_bank
from lorabank.cli.output import Device, Json, print_json, print_table, say, status

if TYPE_CHECKING:
    from lorabank.bank.answer.answers import Answer, Choice, ScoredCandidate
    from lorabank.bank.answer.lookup import Lookup

AnswerMode = Annotated[
    str | None,
    typer.Option(
        "--with",
        help="Answer mode: adapter, exact (a stored example or nothing), quote (a sentence of the "
        "documents or nothing), rag, icl, adapter+rag, adapter+icl, none, or auto for the one that "
        "is worth most; by default auto where the bank keeps documents, and adapter elsewhere.",
    ),
]

Explain = Annotated[
    bool,
    typer.Option(
        "--explain",
        help="Print every candidate's scores and, with auto, what each mode is worth.",
    ),
]
CandidateCount = Annotated[int, typer.Option("--candidates", help="Modules that draft an answer.")]
FalseActivation = Annotated[
    float,
    typer.Option(
        "--false-activation",
        help="Share of questions no module knows that may pass the gate; lower refuses more.",
    ),
]
AnswerLength = Annotated[int, typer.Option("--max-new-tokens", help="Longest answer, in tokens.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskOptions:
    """The options of `lorabank ask`."""

    question: Annotated[str, typer.Argument(help="What you want to know.")]
    bank: BankPath = DEFAULT_BANK
    mode: AnswerMode = None
    explain: Explain = False
    candidates: CandidateCount = 3
    max_new_tokens: AnswerLength = 64
    false_activation: FalseActivation = 0.05
    as_of: Annotated[
        str | None,
        typer.Option(help="Date, as 2026-03-01: what held then, answered by the store."),
    ] = None
    device: Device = None
    json: Json = False


def run(options: AskOptions) -> None:
    """Ask the bank: which module or text knows, how sure, from which source.

    Example: lorabank ask "What is the phone number of Hagu Padi?" --with auto
    """
    from lorabank.bank.answer.modes import check_questions

    check_options(
        options.mode, options.candidates, options.max_new_tokens, options.false_activation
    )
    check_questions([options.question])
    with open_bank(options.bank, options.device) as bank:
        bank.false_activation = options.false_activation
        answer = bank.ask(
            options.question,
            mode=options.mode,
            n_candidates=options.candidates,
            max_new_tokens=options.max_new_tokens,
            as_of=options.as_of,
            explain=options.explain,
        )
    if options.json:
        print_json(answer.as_json(explain=options.explain))
        return
    print_answer(answer)
    if options.explain:
        print_explanation(answer)


def check_options(
    mode: str | None, candidates: int, max_new_tokens: int, false_activation: float
) -> None:
    """Refuse options of an answer before a model is loaded, and let calibration be heard.

    Raises:
        UsageError: an unknown mode, a count below 1, or a rate that is not between 0 and 1.
    """
    from lorabank.bank.answer.gate import check_rate
    from lorabank.bank.answer.modes import check_mode
    from lorabank.errors import UsageError

    logging.getLogger("lorabank.bank").setLevel(logging.INFO)  # calibration takes seconds
    if mode is not None:
        check_mode(mode)
    check_rate(false_activation)
    if candidates < 1 or max_new_tokens < 1:
        raise UsageError(
            f"--candidates and --max-new-tokens must be at least 1, got {candidates} and "
            f"{max_new_tokens}"
        )


def print_answer(answer: "Answer") -> None:
    """Print an answer on stdout and where it comes from on stderr."""
    if answer.typed:
        status(f"understood as: {answer.question}")
    say(answer.text if answer.kind != "abstained" else "not in memory", keeps_lines=True)
    status(provenance(answer))
    for citation in answer.citations:
        heading = f", {citation.heading}" if citation.heading else ""
        status(f"  cites {citation.document}{heading}, characters {citation.start}-{citation.end}")
    if answer.note:
        status(answer.note)


def provenance(answer: "Answer") -> str:
    """Return one line that says who answered, from which source and how sure."""
    if answer.example:
        source = f", source {answer.source}" if answer.source else ""
        if answer.module is None:
            return f'{answer.source}, stored fact "{answer.example.question}", {answer.p:.0%} sure'
        return (
            f"from {answer.module} version {answer.version}{source}, stored example "
            f'"{answer.example.question}", {answer.p:.0%} sure'
        )
    if answer.kind == "abstained":
        return (
            "neither a module nor a text knows; nothing is guessed"
            if answer.choice
            else "no module knows; nothing is guessed"
        )
    text = f", {answer.used.removeprefix('adapter+')}" if answer.citations else ""
    if answer.kind == "quote":
        return f"quoted from {answer.source} in {answer.module}, {answer.p:.0%} sure"
    if answer.kind == "bare":
        return f"from the bare model{text}"
    source = f", source {answer.source}" if answer.source else ""
    probability = "" if answer.p is None else f", {answer.p:.0%} sure"
    return f"from {answer.module} version {answer.version}{source}{probability}{text}"


def print_explanation(answer: "Answer") -> None:
    """Print what an answer was chosen by."""
    if answer.typed:
        say(f"{answer.typed!r} was understood as {answer.question!r}")
    if answer.lookup.nearest:
        _print_nearest(answer.lookup)
    if answer.candidates:
        _print_candidates(answer.candidates)
    if answer.choice:
        _print_choice(answer.choice)
    say(
        f"{answer.prompt_tokens:,} tokens read, first token after {answer.first_token_s:.2f} s, "
        f"all after {answer.seconds:.2f} s"
    )


def _print_nearest(lookup: "Lookup") -> None:
    shown = ("trigrams", "name_new", "name_missing", "word_new", "word_missing", "cosine")
    print_table(
        ["nearest stored question", "answer", "p", *(name.replace("_", " ") for name in shown)],
        [
            [
                example.question[:60],
                example.answer[:30],
                f"{example.p:.3f}",
                *(f"{example.features[n]:.2f}" if n in example.features else "" for n in shown),
            ]
            for example in lookup.nearest
        ],
        left=("nearest stored question", "answer"),
    )


def _print_candidates(candidates: tuple["ScoredCandidate", ...]) -> None:
    print_table(
        ["module", "p", "text", "coverage", "entropy", "nats", "draft"],
        [
            [
                scored.candidate.module,
                "" if scored.p is None else f"{scored.p:.2f}",
                f"{scored.candidate.score:.2f}",
                f"{scored.candidate.coverage:.2f}",
                f"{scored.draft.entropy:.2f}",
                f"{scored.draft.mean_nats:.2f}",
                scored.draft.text[:40],
            ]
            for scored in candidates
        ],
        left=("module", "draft"),
    )


def _print_choice(choice: "Choice") -> None:
    print_table(
        ["mode", "p", "tokens", "ms", "loads", "cost", "worth"],
        [
            [
                option.mode,
                f"{option.p:.2f}",
                str(option.tokens),
                f"{option.ms:.0f}",
                str(option.loads),
                f"{option.cost:.3f}",
                f"{option.value:.2f}",
            ]
            for option in choice.options
        ],
        left=("mode",),
    )
    say(choice.reason)
