"""The command line: `lorabank <command>`, one file per command.

Imports of the engine stand inside the commands, so that `--help` answers at once. What a command
reports goes to stdout (one JSON object with `--json`), how it is getting on to stderr. An error
of the tree in `errors.py` is one or two lines and exit code 2; Ctrl-C is 130. Any other error is
a fault of ours: one line that names the file with its traceback, and exit code 70.
"""

import io
import logging
import sys
from typing import NoReturn

import typer

from lorabank.cli import (
    ask,
    bank,
    bench,
    chat,
    compare,
    consolidate,
    export,
    export_eval,
    hub,
    judge,
    last_catch,
    learn,
    mcp,
    models,
    plan,
    quickstart,
    recall,
    records,
    remember,
    serve,
    shrink,
    study,
    synthesise,
    verify,
    write,
)
from lorabank.cli.options import command
from lorabank.cli.output import VisibleFormatter, print_json, status
from lorabank.errors import LorabankError

app = typer.Typer(
    name="lorabank",
    help="LoRA adapters as modular knowledge memory for language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("quickstart")(command(quickstart.run))
app.command("learn")(command(learn.run))
app.command("recall")(command(recall.run))
app.command("plan")(command(plan.run))
app.command("init")(bank.init)
app.command("write")(command(write.run))
app.command("remember")(command(remember.run))
app.command("consolidate")(command(consolidate.run))
app.command("shrink")(command(shrink.run))
app.command("ask")(command(ask.run))
app.command("chat")(command(chat.run))
app.command("compare")(command(compare.run))
app.command("list")(records.list_)
app.command("show")(records.show)
app.command("verify")(verify.verify)
app.command("history")(records.history)
app.command("rollback")(records.rollback)
app.command("forget")(bank.forget)
app.command("prune")(records.prune)
app.command("export")(command(export.run))
app.command("export-eval")(command(export_eval.run))
app.command("push")(command(hub.push))
app.command("pull")(command(hub.pull))
app.command("import")(command(bank.import_))
app.command("synthesise")(command(synthesise.run))
app.command("judge")(command(judge.run))
app.command("serve")(command(serve.run))
app.command("mcp")(command(mcp.run))
app.command("key")(command(serve.make_key))
app.command("bench")(command(bench.run))
app.add_typer(models.app, name="models")
app.add_typer(study.app, name="study")


def main() -> None:
    """Run the command line; every error ends here, ours as its message, others in a file."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(VisibleFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may hold what no text can
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except LorabankError as error:
        _fail(str(error), type(error).__name__, exit_code=2)
    except KeyboardInterrupt:
        status("interrupted; nothing was written")
        sys.exit(130)
    except Exception as error:  # the last catch: a fault of ours is told in one line, too
        _fail(last_catch.explain(error), "InternalError", exit_code=last_catch.EXIT_CODE)


def _fail(message: str, kind: str, *, exit_code: int) -> NoReturn:
    if "--json" in sys.argv:
        print_json({"error": message, "kind": kind})
    status(f"error: {message}")
    sys.exit(exit_code)
