"""`lorabank synthesise`: documents into examples to train on."""

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.output import (
    DEFAULT_BASE,
    BaseName,
    Device,
    Json,
    Quantize,
    Timeout,
    print_json,
    print_rows,
    say,
    status,
)
from lorabank.cli.progress_display import FIRST_REPLY, progress_display

if TYPE_CHECKING:
    from lorabank.engine.backbone.base import Base
    from lorabank.synthesis.example_synthesis import CostEstimate
    from lorabank.synthesis.generators import Generator
    from lorabank.synthesis.results import SynthesisOutcome
    from lorabank.synthesis.sources import SourceText

_CACHE = "synthesis-cache.sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesiseOptions:
    """The options of `lorabank synthesise`."""

    docs: Annotated[
        list[Path],
        typer.Argument(
            help="Documents or folders of them; or one facts file (.csv, .jsonl), or one folder "
            "or file of written texts (PaperQA, SQuAD)."
        ),
    ]
    formats: Annotated[
        str | None,
        typer.Option(
            help="For each passage: qa:N, summary:N, rewrite:N, implications:N, original; for "
            "each question or fact: paraphrase:N, reverse. By default qa:20,summary:2,original, "
            "and qa:20 by rule."
        ),
    ] = None
    generator: Annotated[
        str,
        typer.Option(
            help="local (the base model), rules (no model), openai:MODEL (OPENAI_BASE_URL, "
            "OPENAI_API_KEY), or file:PATH of texts written already."
        ),
    ] = "local"
    out: Annotated[Path | None, typer.Option(help="JSONL file for the examples.")] = None
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what it would take, and stop.")
    ] = False
    by_rule: Annotated[int, typer.Option(help="Most examples that rules make of a document.")] = 96
    budget_tokens: Annotated[
        int | None,
        typer.Option(help="Most tokens of prompts and replies; cached replies are free."),
    ] = None
    budget_calls: Annotated[int | None, typer.Option(help="Most requests.")] = None
    workers: Annotated[
        int | None,
        typer.Option(help="Requests at once: 16 rows of a batch locally, 8 at an endpoint."),
    ] = None
    timeout: Timeout = None
    held_out: Annotated[
        Path | None,
        typer.Option(help="Facts file with questions for measuring; none of them is made."),
    ] = None
    skip_failed: Annotated[
        bool,
        typer.Option(
            "--skip-failed", help="Go on without documents of which nothing was fit to teach."
        ),
    ] = False
    chunk_words: Annotated[int, typer.Option(help="Most words of a passage.")] = 400
    cache: Annotated[
        Path | None,
        typer.Option(help=f"Cache of replies; by default {_CACHE} beside --out."),
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of the generator's draws.")] = 0
    base: BaseName = DEFAULT_BASE
    device: Device = None
    quantize: Quantize = None
    json: Json = False


def run(options: SynthesiseOptions) -> None:
    """Write questions, summaries and rewrites of documents, check them, and save what is fit.

    A run that was broken off, or met its budget, goes on where it was when started again.

    Example: lorabank synthesise docs/ --formats qa:20,original --out examples.jsonl
    """
    from lorabank.errors import UsageError
    from lorabank.synthesis.budget import Budget
    from lorabank.synthesis.cache import ReplyCache
    from lorabank.synthesis.example_synthesis import SynthesisOptions, estimate_cost, synthesise
    from lorabank.synthesis.formats import parse_formats
    from lorabank.synthesis.generators import RULES, SamplingOptions
    from lorabank.synthesis.inputs import DEFAULT_FORMATS, RULE_FORMATS
    from lorabank.synthesis.results import write_lines
    from lorabank.tasks.examples import read_examples

    is_by_rule = options.generator == RULES
    formats = parse_formats(options.formats or (RULE_FORMATS if is_by_rule else DEFAULT_FORMATS))
    budget = Budget(options.budget_tokens, options.budget_calls)
    sampling, out, held_out = SamplingOptions(seed=options.seed), options.out, options.held_out
    _check_out(options)
    questions = [example.question for example in read_examples(held_out)] if held_out else []
    pieces = _pieces(options.docs, options.chunk_words)
    if is_by_rule and options.estimate:
        raise UsageError("--estimate is for generators; rules cost nothing")
    generator = None if is_by_rule else _generator(options)
    cache_path = options.cache or (out.parent / _CACHE if out else None)
    with contextlib.ExitStack() as stack:
        cache = None
        may_create = not options.estimate
        if (
            cache_path
            and generator
            and not generator.is_file
            and (cache_path.exists() or may_create)
        ):
            cache = stack.enter_context(ReplyCache(cache_path))
        if options.estimate and generator is not None:
            calls = estimate_cost(pieces, formats, generator, cache, sampling=sampling)
            _print_estimate(calls, as_json=options.json)
            return
        display = stack.enter_context(progress_display("making examples", waiting_for=FIRST_REPLY))
        outcome = synthesise(
            pieces,
            formats,
            generator,
            cache,
            SynthesisOptions(
                sampling, budget, questions, options.skip_failed, most_by_rule=options.by_rule
            ),
            on_reply=display.on_reply,
        )
    assert out is not None
    log = out.with_name(f"{out.stem}.refused.jsonl")
    write_lines(log, map(asdict, outcome.refused))
    write_lines(out, map(asdict, outcome.made))
    _print_outcome(outcome, out, log, as_json=options.json)


def _check_out(options: SynthesiseOptions) -> None:
    from lorabank.errors import UsageError

    out, read = options.out, [*options.docs, *([options.held_out] if options.held_out else [])]
    if out is None:
        if options.estimate:
            return
        raise UsageError("--out is missing: name a .jsonl file for the examples")
    if out.suffix != ".jsonl" or out.is_dir() or not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out} must be a .jsonl file in a folder that exists")
    for path in read:
        if path.absolute() == out.absolute() or path.absolute() in out.absolute().parents:
            raise UsageError(f"--out {out} would become part of what is read from {path}")


def _pieces(docs: list[Path], chunk_words: int) -> "list[SourceText]":
    from lorabank.synthesis.facts import sources_from_facts
    from lorabank.synthesis.inputs import chunk_documents, read_source_documents
    from lorabank.synthesis.prewritten import is_prewritten
    from lorabank.synthesis.sources import sources_from_chunks
    from lorabank.tasks.examples import read_examples

    if len(docs) == 1 and docs[0].suffix in (".csv", ".jsonl") and not is_prewritten(docs[0]):
        return sources_from_facts(docs[0].name, read_examples(docs[0]))
    return sources_from_chunks(
        chunk_documents(read_source_documents(docs), size_tokens=chunk_words)
    )


def _generator(options: SynthesiseOptions) -> "Generator":
    from lorabank.synthesis.inputs import generator_for

    def load() -> "Base":
        from lorabank.engine.backbone.base import load_info
        from lorabank.engine.models.registry import find_model

        info = find_model(options.base, progress=status)
        return load_info(info, device=options.device, quantize=options.quantize)

    return generator_for(
        options.generator, workers=options.workers, timeout_s=options.timeout, local=load
    )


def _print_estimate(estimate: "CostEstimate", *, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(estimate), "kept": estimate.cached})
        return
    say(
        f"{estimate.calls} calls, about {estimate.prompt_tokens:,} tokens in prompts and "
        f"{estimate.completion_tokens:,} in replies; {estimate.cached} cached from before.\n"
        "By the length of texts, for the first round; later rounds ask for what is missing then.",
        keeps_lines=True,
    )


def _print_outcome(outcome: "SynthesisOutcome", out: Path, log: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({**outcome.as_json(), "out": str(out), "refused_log": str(log)})
        return
    print_rows(outcome_rows(outcome, out, log), width=18)
    if outcome.over_budget:
        status(
            f"the budget is spent: {outcome.over_budget} requests were not made; the same command "
            "with a larger budget goes on from here"
        )


def outcome_rows(
    outcome: "SynthesisOutcome", out: Path | None, log: Path | None
) -> list[tuple[str, str]]:
    """Return what a synthesis made and refused as names and values.

    Args:
        out: file the examples are in; log: file of what was refused; None for no file.
    """
    from lorabank.synthesis.generators import RULES

    summary, coverage = outcome.as_json(), outcome.coverage
    has_generator = outcome.generator != RULES
    made = ", ".join(f"{n} {name}" for name, n in summary["by_format"].items()) or "none"
    tokens = f"{outcome.prompt_tokens:,} + {outcome.completion_tokens:,} tokens"
    wanted = f" of {outcome.wanted}" if has_generator else ""
    examples = f"{len(outcome.made)}{wanted}{f' in {out}' if out else ''} ({made})"
    rows = [
        ("examples", examples),
        ("made of", f"{outcome.passages} passages in {outcome.documents} documents"),
    ]
    if summary["by_rule"]:
        rules = ", ".join(f"{n} {name}" for name, n in summary["by_rule"].items())
        more = (
            f"; --by-rule would allow {outcome.left_by_rule} more" if outcome.left_by_rule else ""
        )
        n_by_rule = sum(summary["by_rule"].values())
        rows.append(("made by rule", f"{n_by_rule}, without a model ({rules}){more}"))
    if has_generator:
        replies = f"{outcome.calls} calls, {tokens}; {outcome.cached_replies} cached from before"
        rows.append(("asked", replies))
    rows.append(("refused", f"{len(outcome.refused)}{f', all in {log}' if log else ''}"))
    for reason, n in summary["refused"].items():
        rows.append((f"  {n} times", f"{reason}: {' | '.join(summary['samples'][reason])}"))
    if outcome.documents_without_examples:
        rows.append(("nothing made of", ", ".join(outcome.documents_without_examples)))
    if coverage.sentences:
        rows.append(
            (
                "questions cover",
                f"{coverage.sentences_covered} of {coverage.sentences} sentences, "
                f"{coverage.names_covered} of {coverage.names} names",
            )
        )
    for contradiction in outcome.contradictions:
        answers = zip(contradiction.answers, contradiction.sources, strict=True)
        texts = " | ".join(f"{answer!r} in {source}" for answer, source in answers)
        rows.append(("contradiction", f"{contradiction.question} {texts}"))
    return rows
