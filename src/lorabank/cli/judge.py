"""`lorabank judge`: answers scored by a model, and how far to trust the scores."""

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabank.cli.output import (
    DEFAULT_BASE,
    BaseName,
    Device,
    Json,
    Timeout,
    print_json,
    print_rows,
    say,
)
from lorabank.cli.progress_display import FIRST_REPLY, progress_display

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabank.synthesis.answer_judge import JudgedAnswer
    from lorabank.synthesis.cache import ReplyCache
    from lorabank.synthesis.generators import Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeOptions:
    """The options of `lorabank judge`."""

    answers: Annotated[
        Path,
        typer.Argument(
            help="JSONL with question, gold (a text or a list) and answer; document, to tell which "
            "answers are alike, and gain (nats per token) if you have them."
        ),
    ]
    judge: Annotated[
        str,
        typer.Option(
            help="openai:MODEL (OPENAI_BASE_URL, OPENAI_API_KEY), or local (--base), a poor judge "
            "if it is small: the default one gives no score at all."
        ),
    ]
    second: Annotated[
        str | None, typer.Option(help="Another judge, to compare the first one with.")
    ] = None
    out: Annotated[
        Path | None, typer.Option(help="JSONL file for every answer's scores and reasons.")
    ] = None
    cache: Annotated[
        Path | None, typer.Option(help="Cache of replies; by default beside ANSWERS.")
    ] = None
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what it would take, and stop.")
    ] = False
    budget_tokens: Annotated[
        int | None, typer.Option(help="Most tokens for each judge; cached replies are free.")
    ] = None
    budget_calls: Annotated[int | None, typer.Option(help="Most requests for each judge.")] = None
    judge_tokens: Annotated[
        int, typer.Option(help="Most tokens of a reply; a judge that thinks first needs more.")
    ] = 256
    workers: Annotated[int | None, typer.Option(help="Requests at once.")] = None
    timeout: Timeout = None
    base: BaseName = DEFAULT_BASE
    device: Device = None
    json: Json = False


def run(options: JudgeOptions) -> None:
    """Have a model score answers from 0 to 10; what it cannot score is missing, never 0.

    Example: lorabank judge answers.jsonl --judge openai:gpt-4.1 --second openai:gpt-4.1-mini
    """
    from lorabank.errors import UsageError
    from lorabank.synthesis.answer_judge import judge_answers
    from lorabank.synthesis.budget import Budget
    from lorabank.synthesis.cache import ReplyCache
    from lorabank.synthesis.judge_summary import read_answers, summarise
    from lorabank.synthesis.results import write_lines

    if options.judge == options.second:
        raise UsageError(
            f"--second {options.second} is the first judge; take another, or leave it out"
        )
    if options.out is not None:
        _check_out(options.out, options.answers)
    budget = Budget(options.budget_tokens, options.budget_calls)
    answers = read_answers(options.answers)
    judges = [_judge(name, options) for name in (options.judge, options.second) if name]
    cache_path = options.cache or options.answers.with_name("judge-cache.sqlite")
    with contextlib.ExitStack() as stack:
        cache = None
        if cache_path.exists() or not options.estimate:
            cache = stack.enter_context(ReplyCache(cache_path))
        if options.estimate:
            _print_estimate(answers, judges, cache, options)
            return
        outcomes = []
        for judge in judges:
            with progress_display(f"asking {judge.name}", waiting_for=FIRST_REPLY) as display:
                outcome = judge_answers(
                    answers,
                    judge,
                    cache,
                    budget=budget,
                    reply_tokens=options.judge_tokens,
                    on_reply=display.on_reply,
                )
            outcomes.append(outcome)
    summary = summarise(answers, *outcomes)
    if options.out is not None:
        scored = zip(answers, *(outcome.judgements for outcome in outcomes), strict=True)
        write_lines(
            options.out,
            (
                {**asdict(answer), "marks": [asdict(mark) for mark in marks]}
                for answer, *marks in scored
            ),
        )
    if options.json:
        print_json(summary)
    else:
        print_rows(_summary_rows(summary), width=16)


def _check_out(out: Path, answers: Path) -> None:
    """Refuse an output file that cannot be written, before anything is paid for."""
    from lorabank.errors import UsageError

    if out.suffix != ".jsonl" or out.is_dir() or not out.absolute().parent.is_dir():
        raise UsageError(f"--out must be a .jsonl file in a folder that exists, got {out}")
    if out.resolve() == answers.resolve():
        raise UsageError(f"--out {out} is the file of answers itself; name another")


def _judge(name: str, options: JudgeOptions) -> "Generator":
    from lorabank.engine.backbone.base import load_base
    from lorabank.errors import UsageError
    from lorabank.synthesis.inputs import generator_for

    if name.startswith("file:"):
        raise UsageError("--judge must be openai:MODEL or local; a file of texts cannot judge")
    if not name.startswith("openai:") and name != "local":
        raise UsageError(f"--judge must be openai:MODEL or local, got {name!r}")
    return generator_for(
        name,
        workers=options.workers,
        timeout_s=options.timeout,
        local=lambda: load_base(options.base, device=options.device),
    )


def _print_estimate(
    answers: "Sequence[JudgedAnswer]",
    judges: "Sequence[Generator]",
    cache: "ReplyCache | None",
    options: JudgeOptions,
) -> None:
    from lorabank.synthesis.answer_judge import request_for
    from lorabank.synthesis.generators import estimate_prompt_tokens

    n_calls = n_cached = n_tokens = 0
    for judge in judges:
        for request in {
            request_for(
                answer, as_json=judge.writes_json, seed=0, reply_tokens=options.judge_tokens
            )
            for answer in answers
        }:
            if cache is not None and cache.get(judge, request):
                n_cached += 1
            else:
                n_calls += 1
                n_tokens += estimate_prompt_tokens(request)
    if options.json:
        print_json({"calls": n_calls, "kept": n_cached, "prompt_tokens": n_tokens})
    else:
        say(
            f"{n_calls} calls, about {n_tokens:,} tokens in prompts by the length of texts; "
            f"{n_cached} cached from before"
        )


def _summary_rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("judge", f"{summary['judge']}: {_mean(summary['score'])} of 10"),
        (
            "answers",
            f"{summary['answers']} about {summary['documents']} documents{_missing(summary)}",
        ),
    ]
    if summary["documents"] < 3:
        rows.append(("", "fewer than three documents named in the answers: no intervals"))
    rows += [(name.replace("_", " "), _mean(mean)) for name, mean in summary["metrics"].items()]
    rows.append(("agrees with F1", _agreement(summary["agreement"]["token_f1"])))
    if second := summary.get("second"):
        rows += [
            ("second judge", f"{second['judge']}: {_mean(second['score'])}{_missing(second)}"),
            ("agrees with F1", _agreement(second["agreement"]["token_f1"])),
            ("the two agree", _agreement(summary["agreement"]["second"])),
        ]
    return rows


def _mean(mean: dict[str, Any]) -> str:
    interval = "" if mean["low"] is None else f" ({mean['low']:.3g} to {mean['high']:.3g})"
    return f"{mean['mean']:.3g}{interval}, n = {mean['n']}"


def _missing(summary: dict[str, Any]) -> str:
    reasons = ", ".join(f"{n} {reason}" for reason, n in summary["missing"].items())
    return f"; without a score: {reasons}" if reasons else ""


def _agreement(agreement: dict[str, Any]) -> str:
    spearman = agreement["spearman"]
    parts = [f"rank correlation {'not defined' if spearman is None else format(spearman, '.2f')}"]
    if agreement["kappa"] is not None:
        parts.append(f"weighted kappa {agreement['kappa']:.2f}")
    if agreement["mean_difference"] is not None:
        parts.append(f"{agreement['mean_difference']:.2f} points apart")
    return f"{', '.join(parts)}, n = {agreement['n']}"
