"""`lorabank judge`: answers scored by a model, with how far to trust it."""

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabank.cli.output import DEFAULT_BASE, BaseName, Device, Json, print_json
from lorabank.cli.synthesise import reply_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabank.synthesis.cache import ReplyCache
    from lorabank.synthesis.generators import Generator
    from lorabank.synthesis.judge import Answer


def run(
    answers: Annotated[
        Path,
        typer.Argument(
            help="JSONL with question, gold (a text or a list) and answer; document, to tell which "
            "answers are alike, and gain (nats per token) if you have them."
        ),
    ],
    judge: Annotated[
        str,
        typer.Option(
            help="openai:MODEL (OPENAI_BASE_URL, OPENAI_API_KEY), or local (--base), a poor judge "
            "if it is small: the default one gives no score at all."
        ),
    ],
    second: Annotated[
        str | None, typer.Option(help="Another judge, to hold the first against.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="JSONL file for every answer's marks and reasons.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Replies that are kept; by default beside ANSWERS.")
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what it would take, and stop.")
    ] = False,
    budget_tokens: Annotated[
        int | None, typer.Option(help="For each judge; what is kept is free.")
    ] = None,
    budget_calls: Annotated[int | None, typer.Option(help="Requests at most, each judge.")] = None,
    workers: Annotated[int | None, typer.Option(help="Requests at once.")] = None,
    base: BaseName = DEFAULT_BASE,
    device: Device = None,
    json: Json = False,
) -> None:
    """Have a model score answers from 0 to 10; what it cannot score is missing, never 0.

    Example: lorabank judge answers.jsonl --judge openai:gpt-4.1 --second openai:gpt-4.1-mini
    """
    from lorabank.errors import UsageError
    from lorabank.synthesis.budget import Budget
    from lorabank.synthesis.cache import ReplyCache
    from lorabank.synthesis.judge import judge as judged_by
    from lorabank.synthesis.judging import read_answers, summarise
    from lorabank.synthesis.results import write_lines

    if judge == second:
        raise UsageError(f"--second {second} is the first judge; take another, or leave it out")
    if out is not None:
        _check_out(out, answers)
    budget = Budget(budget_tokens, budget_calls)
    found = read_answers(answers)
    judges = [_judge(name, workers, base=base, device=device) for name in (judge, second) if name]
    where = cache or answers.with_name("judge-cache.sqlite")
    with contextlib.ExitStack() as stack:
        kept = None
        if where.exists() or not estimate:
            kept = stack.enter_context(ReplyCache(where))
        if estimate:
            _show_estimate(found, judges, kept, as_json=json)
            return
        results = [
            judged_by(found, one, kept, budget=budget, on_reply=reply_line()) for one in judges
        ]
    told = summarise(found, *results)
    if out is not None:
        rows = zip(found, *(one.marks for one in results), strict=True)
        write_lines(
            out, ({**asdict(row[0]), "marks": [asdict(m) for m in row[1:]]} for row in rows)
        )
    if json:
        print_json(told)
    else:
        print(_shown(told))


def _check_out(out: Path, answers: Path) -> None:
    """Before anything is paid for."""
    from lorabank.errors import UsageError

    if out.suffix != ".jsonl" or out.is_dir() or not out.absolute().parent.is_dir():
        raise UsageError(f"--out must be a .jsonl file in a folder that exists, got {out}")
    if out.resolve() == answers.resolve():
        raise UsageError(f"--out {out} is the file of answers itself; name another")


def _judge(name: str, workers: int | None, *, base: str, device: str | None) -> "Generator":
    from lorabank.engine.backbone.base import load_base
    from lorabank.errors import UsageError
    from lorabank.synthesis.inputs import generator_for

    if name.startswith("file:"):
        raise UsageError("--judge must be openai:MODEL or local; a file of texts cannot judge")
    if not name.startswith("openai:") and name != "local":
        raise UsageError(f"--judge must be openai:MODEL or local, got {name!r}")
    return generator_for(name, workers=workers, local=lambda: load_base(base, device=device))


def _show_estimate(
    answers: "Sequence[Answer]",
    judges: "Sequence[Generator]",
    cache: "ReplyCache | None",
    *,
    as_json: bool,
) -> None:
    from lorabank.synthesis.generators import estimate_prompt
    from lorabank.synthesis.judge import request_for

    n_asked = n_kept = tokens = 0
    for one in judges:
        for request in {request_for(a, as_json=one.writes_json, seed=0) for a in answers}:
            if cache is not None and cache.get(one, request):
                n_kept += 1
            else:
                n_asked += 1
                tokens += estimate_prompt(request)
    if as_json:
        print_json({"calls": n_asked, "kept": n_kept, "prompt_tokens": tokens})
    else:
        print(
            f"{n_asked} calls, about {tokens:,} tokens in prompts by the length of texts; "
            f"{n_kept} kept from before"
        )


def _shown(told: dict[str, Any]) -> str:
    rows = [
        ("judge", f"{told['judge']}: {_mean(told['score'])} of 10"),
        ("answers", f"{told['answers']} about {told['documents']} documents{_missing(told)}"),
    ]
    if told["documents"] < 3:
        rows.append(("", "fewer than three documents named in the answers: no intervals"))
    rows += [(name.replace("_", " "), _mean(found)) for name, found in told["metrics"].items()]
    rows.append(("agrees with F1", _agreement(told["agreement"]["token_f1"])))
    if second := told.get("second"):
        rows += [
            ("second judge", f"{second['judge']}: {_mean(second['score'])}{_missing(second)}"),
            ("agrees with F1", _agreement(second["agreement"]["token_f1"])),
            ("the two agree", _agreement(told["agreement"]["second"])),
        ]
    return "\n".join(f"{name:<16}{value}" for name, value in rows)


def _mean(found: dict[str, Any]) -> str:
    ends = "" if found["low"] is None else f" ({found['low']:.3g} to {found['high']:.3g})"
    return f"{found['mean']:.3g}{ends}, n = {found['n']}"


def _missing(told: dict[str, Any]) -> str:
    reasons = ", ".join(f"{n} {reason}" for reason, n in told["missing"].items())
    return f"; without a score: {reasons}" if reasons else ""


def _agreement(found: dict[str, Any]) -> str:
    rank = "not defined" if found["spearman"] is None else f"{found['spearman']:.2f}"
    parts = [f"rank correlation {rank}"]
    if found["kappa"] is not None:
        parts.append(f"weighted kappa {found['kappa']:.2f}")
    if found["mean_difference"] is not None:
        parts.append(f"{found['mean_difference']:.2f} points apart")
    return f"{', '.join(parts)}, n = {found['n']}"
