"""`lorabank synthesise`: documents into examples to train on."""

import contextlib
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.output import (
    DEFAULT_BASE,
    BaseName,
    Device,
    Json,
    Quantize,
    print_json,
    status,
)

if TYPE_CHECKING:
    from lorabank.synthesis.generators import Generator
    from lorabank.synthesis.pieces import Piece
    from lorabank.synthesis.results import SynthesisOutcome
    from lorabank.synthesis.rounds import OnReply
    from lorabank.synthesis.synthesise import Estimate

_CACHE = "synthesis-cache.sqlite"
_EVERY_S = 10.0


def run(
    docs: Annotated[
        list[Path],
        typer.Argument(
            help="Documents or folders of them; or one facts file (.csv, .jsonl), or one folder "
            "or file of written texts (PaperQA, SQuAD)."
        ),
    ],
    formats: Annotated[
        str,
        typer.Option(
            help="Of each passage: qa:N, summary:N, rewrite:N, implications:N, original; of each "
            "question or fact: paraphrase:N, reverse."
        ),
    ] = "qa:20,summary:2,original",
    generator: Annotated[
        str,
        typer.Option(
            help="local (the base model), openai:MODEL (OPENAI_BASE_URL, OPENAI_API_KEY), or "
            "file:PATH of texts written already."
        ),
    ] = "local",
    out: Annotated[Path | None, typer.Option(help="JSONL file for the examples.")] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what it would take, and stop.")
    ] = False,
    budget_tokens: Annotated[
        int | None, typer.Option(help="Of prompts and replies together; what is kept is free.")
    ] = None,
    budget_calls: Annotated[int | None, typer.Option(help="Requests at most.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Requests at once: 16 rows of a batch locally, 8 at an endpoint."),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(help="Facts file with questions for measuring; none of them is made."),
    ] = None,
    skip_failed: Annotated[
        bool,
        typer.Option("--skip-failed", help="Only name documents of which nothing was fit."),
    ] = False,
    chunk_words: Annotated[int, typer.Option(help="Words of a passage at most.")] = 400,
    cache: Annotated[
        Path | None,
        typer.Option(help=f"Replies that are kept; by default {_CACHE} beside --out."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the generator's draws.")] = 0,
    base: BaseName = DEFAULT_BASE,
    device: Device = None,
    quantize: Quantize = None,
    json: Json = False,
) -> None:
    """Write questions, summaries and rewrites of documents, check them, and save what is fit.

    A run that was broken off, or met its budget, goes on where it was when started again.

    Example: lorabank synthesise docs/ --formats qa:20,original --out examples.jsonl
    """
    from lorabank.errors import UsageError
    from lorabank.synthesis.budget import Budget
    from lorabank.synthesis.cache import ReplyCache
    from lorabank.synthesis.formats import parse_formats
    from lorabank.synthesis.results import write_lines
    from lorabank.synthesis.synthesise import estimate as estimated
    from lorabank.synthesis.synthesise import synthesise
    from lorabank.synthesis.tasks import SamplingOptions
    from lorabank.tasks.examples import read_examples

    wanted = parse_formats(formats)
    budget, way = Budget(budget_tokens, budget_calls), SamplingOptions(seed=seed)
    if out is None and not estimate:
        raise UsageError("--out is missing: name a .jsonl file for the examples")
    if out is not None:
        _check_out(out, [*docs, *([held_out] if held_out else [])])
    questions = [example.question for example in read_examples(held_out)] if held_out else []
    pieces = _pieces(docs, chunk_words)
    writer = _generator(generator, workers, base=base, device=device, quantize=quantize)
    where = cache or (out.parent / _CACHE if out else None)
    with contextlib.ExitStack() as stack:
        keeps = None
        if where is not None and not writer.is_file and (where.exists() or not estimate):
            keeps = stack.enter_context(ReplyCache(where))
        if estimate:
            _show_estimate(estimated(pieces, wanted, writer, keeps, way=way), as_json=json)
            return
        outcome = synthesise(
            pieces,
            wanted,
            writer,
            keeps,
            way=way,
            budget=budget,
            held_out=questions,
            skip_failed=skip_failed,
            on_reply=reply_line(),
        )
    assert out is not None
    log = out.with_name(f"{out.stem}.refused.jsonl")
    write_lines(log, map(asdict, outcome.refused))
    write_lines(out, map(asdict, outcome.made))
    _answer(outcome, out, log, as_json=json)


def _check_out(out: Path, read: list[Path]) -> None:
    from lorabank.errors import UsageError

    if out.suffix != ".jsonl" or out.is_dir() or not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out} must be a .jsonl file in a folder that exists")
    for path in read:
        if path.absolute() == out.absolute() or path.absolute() in out.absolute().parents:
            raise UsageError(f"--out {out} would become part of what is read from {path}")


def _pieces(docs: list[Path], chunk_words: int) -> "list[Piece]":
    from lorabank.synthesis.facts import from_facts
    from lorabank.synthesis.inputs import cut_all, read_sources
    from lorabank.synthesis.pieces import from_chunks
    from lorabank.synthesis.written import is_written
    from lorabank.tasks.examples import read_examples

    if len(docs) == 1 and docs[0].suffix in (".csv", ".jsonl") and not is_written(docs[0]):
        return from_facts(docs[0].name, read_examples(docs[0]))
    return from_chunks(cut_all(read_sources(docs), size_tokens=chunk_words))


def _generator(
    name: str, workers: int | None, *, base: str, device: str | None, quantize: str | None
) -> "Generator":
    from lorabank.engine.backbone.base import load_info
    from lorabank.engine.models.registry import find_model
    from lorabank.synthesis.inputs import generator_for

    return generator_for(
        name,
        workers=workers,
        local=lambda: load_info(
            find_model(base, progress=status), device=device, quantize=quantize
        ),
    )


def reply_line() -> "OnReply":
    """How many replies there are, now and then."""
    last = time.monotonic()

    def on_reply(n: int, known: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY_S:
            last = time.monotonic()
            status(f"{n} of {known} replies")

    return on_reply


def _show_estimate(found: "Estimate", *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(found))
        return
    print(
        f"{found.calls} calls, about {found.prompt_tokens:,} tokens in prompts and "
        f"{found.completion_tokens:,} in replies; {found.kept} kept from before.\n"
        "By the length of texts, for the first round; later rounds ask for what is missing then."
    )


def _answer(outcome: "SynthesisOutcome", out: Path, log: Path, *, as_json: bool) -> None:
    told = outcome.as_json()
    if as_json:
        print_json({**told, "out": str(out), "refused_log": str(log)})
        return
    rows = outcome_rows(outcome, out, log)
    print("\n".join(f"{name:<18}{value}" for name, value in rows))
    if outcome.not_asked:
        status(
            f"the budget is spent: {outcome.not_asked} requests were not made; the same command "
            "with a larger budget goes on from here"
        )


def outcome_rows(
    outcome: "SynthesisOutcome", out: Path | None, log: Path | None
) -> list[tuple[str, str]]:
    """A synthesis for people: what, and how much of it.

    Args:
        out: where the examples are; log: where what was refused is; None for nowhere.
    """
    told = outcome.as_json()
    covered = outcome.coverage
    made = ", ".join(f"{n} {name}" for name, n in told["by_format"].items()) or "none"
    tokens = f"{outcome.prompt_tokens:,} + {outcome.completion_tokens:,} tokens"
    rows = [
        (
            "examples",
            f"{len(outcome.made)} of {outcome.wanted}{f' in {out}' if out else ''} ({made})",
        ),
        ("made of", f"{outcome.passages} passages in {outcome.documents} documents"),
        ("asked", f"{outcome.calls} calls, {tokens}; {outcome.cached_replies} kept from before"),
        ("refused", f"{len(outcome.refused)}{f', all in {log}' if log else ''}"),
    ]
    for reason, n in told["refused"].items():
        rows.append((f"  {n} times", f"{reason}: {' | '.join(told['samples'][reason])}"))
    if outcome.without:
        rows.append(("nothing made of", ", ".join(outcome.without)))
    if covered.sentences:
        rows.append(
            (
                "questions cover",
                f"{covered.sentences_covered} of {covered.sentences} sentences, "
                f"{covered.names_covered} of {covered.names} names",
            )
        )
    for one in outcome.contradictions:
        told_by = " | ".join(f"{a!r} in {s}" for a, s in zip(one.answers, one.sources, strict=True))
        rows.append(("contradiction", f"{one.question} {told_by}"))
    return rows
