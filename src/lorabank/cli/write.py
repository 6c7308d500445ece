"""`lorabank write`: examples or documents into modules of the bank."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.bank import DEFAULT_BANK, BankPath, open_bank, passage
from lorabank.cli.options import parse_rank
from lorabank.cli.output import (
    Device,
    Json,
    NoProtect,
    Protect,
    ProtectDirections,
    Reverse,
    Track,
    Wordings,
    print_json,
    say,
)
from lorabank.cli.progress_display import FIRST_REPLY, progress_display, training_display
from lorabank.cli.track import in_turn, tracking
from lorabank.cli.write_documents import report_text, write_documents

if TYPE_CHECKING:
    from lorabank.bank.bank import Bank
    from lorabank.bank.drafts import ModuleDraft
    from lorabank.engine.settings import TrainSettings

DOCUMENT_OPTIONS = (
    "formats", "workers", "timeout", "chunk_tokens", "modules", "held_out", "passes",
    "skip_failed", "no_text", "encoding", "limit_mb", "refused", "by_rule",
    "questions",
)  # fmt: skip
"""The options that go with documents only; None where they were not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """The options of `lorabank write`."""

    name: Annotated[
        str, typer.Argument(help="Name of the module; with --each the first of the files.")
    ]
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Examples (CSV with prompt,answer, or JSONL), or documents (Markdown, text, "
            "HTML, PDF) and folders of them."
        ),
    ] = None
    bank: BankPath = DEFAULT_BANK
    each: Annotated[
        bool, typer.Option("--each", help="One module for each file, named after it, in one fleet.")
    ] = False
    replace: Annotated[
        bool, typer.Option("--replace", help="Add a version to a module that exists.")
    ] = False
    text: Annotated[
        Path | None, typer.Option(help="File with a passage the module is also found by.")
    ] = None
    generator: Annotated[
        str | None,
        typer.Option(
            help="The writer of a document's examples, or of facts' wordings. rules (no model, the "
            "default), local (the base, and rules for what it does not give), openai:MODEL "
            "(OPENAI_BASE_URL, OPENAI_API_KEY), or file:PATH of what is written already."
        ),
    ] = None
    formats: Annotated[
        str | None,
        typer.Option(
            help="For documents: examples made of each passage, by default qa:20 by rule and "
            "qa:20,summary:2,original by a generator; also rewrite:N, implications:N, "
            "paraphrase:N, reverse."
        ),
    ] = None
    questions: Annotated[
        Path | None,
        typer.Option(
            help="With documents: your own questions (CSV with prompt,answer, or JSONL), taught "
            "beside what is made of them."
        ),
    ] = None
    by_rule: Annotated[
        int | None,
        typer.Option(help="For documents: most examples by rule of each, by default 96."),
    ] = None
    workers: Annotated[int | None, typer.Option(help="Requests to the generator at once.")] = None
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds to wait for an endpoint's answer, by default 180."),
    ] = None
    chunk_tokens: Annotated[
        int | None,
        typer.Option(help="For documents: most tokens of a passage, by default 256."),
    ] = None
    modules: Annotated[
        str | None,
        typer.Option(
            help="For documents: per-document, or a number; by default one module for up to 500 "
            "examples, else one for each document."
        ),
    ] = None
    held_out: Annotated[
        Path | None,
        typer.Option(
            help="For documents: your own questions to measure by (CSV, JSONL), none of which is "
            "trained on; by default one in six of those made."
        ),
    ] = None
    passes: Annotated[
        int | None,
        typer.Option(
            help="For documents: most trainings while passages do not stick, by default 2."
        ),
    ] = None
    skip_failed: Annotated[
        bool | None,
        typer.Option(
            "--skip-failed",
            help="For documents: go on without those of which nothing was fit to teach.",
        ),
    ] = None
    no_text: Annotated[
        bool | None,
        typer.Option(
            "--no-text", help="For documents: store the examples made of them, not their text."
        ),
    ] = None
    encoding: Annotated[
        str | None, typer.Option(help="For documents that are not UTF-8, such as latin-1.")
    ] = None
    limit_mb: Annotated[
        float | None, typer.Option(help="For documents: the largest file, by default 20.")
    ] = None
    refused: Annotated[
        Path | None,
        typer.Option(help="For documents: JSONL file for what was not fit to teach."),
    ] = None
    r: Annotated[
        str | None,
        typer.Option(
            help="Rank, or auto: planned, grown while facts miss, then shrunk; by default planned "
            "for documents."
        ),
    ] = None
    layers: Annotated[
        str | None, typer.Option(help="0-15, last-10, first-4 or 3,5,7; by default all.")
    ] = None
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None
    exposures: Annotated[
        int | None, typer.Option(help="Number of times each example is trained on.")
    ] = None
    until_recall: Annotated[float | None, typer.Option(help="Share recalled at which to stop.")] = (
        None
    )
    always_on: Annotated[
        bool,
        typer.Option(
            "--always-on", help="An adapter on every token, not from the assistant's header."
        ),
    ] = False
    margin: Annotated[
        float | None,
        typer.Option(help="Nats by which answers lead all other tokens where training stops."),
    ] = None
    protect: Protect = None
    no_protect: NoProtect = False
    protect_directions: ProtectDirections = None
    wordings: Wordings = None
    reverse: Reverse = False
    seed: Annotated[int, typer.Option(help="Seed of initial weights, order and draws.")] = 0
    device: Device = None
    track: Track = None
    json: Json = False

    @property
    def paths(self) -> list[Path]:
        """Return all files that were named."""
        files = list(self.files or [])
        return [Path(self.name), *files] if self.each else files

    @property
    def settings(self) -> "TrainSettings":
        """Return the settings of training that these options come to."""
        from lorabank.engine.settings import settings_for

        return settings_for(
            "sound",
            **parse_rank(self.r),
            lr=self.lr,
            exposures=self.exposures,
            until_recall=self.until_recall,
            margin=self.margin,
            wordings=self.wordings,
            reverse=self.reverse or None,
            activated=False if self.always_on else None,
            protect_share=0.0 if self.no_protect else self.protect,
            protect_directions=self.protect_directions,
            layers=self.layers,
            seed=self.seed,
        )


def run(options: WriteOptions) -> None:
    """Write examples or documents into a module of the bank, or into many at once.

    Questions, summaries and the like are made of documents first; a write that was broken off
    asks the generator for none of them twice.

    Example: lorabank write team team.csv
    """
    from lorabank.errors import UsageError
    from lorabank.integrations.trackers import check_tracker

    check_tracker(options.track)
    if _are_documents(options.paths):
        if options.each or options.text is not None:
            raise UsageError(
                "--each and --text go with files of examples; documents are found by their own "
                "passages, and --modules per-document gives each its module"
            )
        if (options.wordings is not None and options.questions is None) or options.reverse:
            raise UsageError(
                "--wordings and --reverse are for facts (--wordings for your own --questions too); "
                "what documents are asked in other words is a format, as in --formats "
                "qa:20,paraphrase:2,reverse"
            )
        write_documents(options)
        return
    for name in DOCUMENT_OPTIONS:
        is_of_generator = name in ("workers", "timeout") and options.generator is not None
        if getattr(options, name) is not None and not is_of_generator:
            raise UsageError(
                f"--{name.replace('_', '-')} is for documents, and these are examples; leave it out"
            )
    _write_examples(options)


def _are_documents(paths: Sequence[Path]) -> bool:
    """Return whether these are documents, not examples.

    Raises:
        UsageError: some are and some are not.
    """
    from lorabank.errors import UsageError
    from lorabank.synthesis.prewritten import is_prewritten
    from lorabank.tasks.examples import holds_facts

    examples = [path for path in paths if holds_facts(path) and not is_prewritten(path)]
    documents = [path for path in paths if path not in examples]
    if examples and documents:
        raise UsageError(
            f"{examples[0]} holds examples and {documents[0]} is a document or a folder; give "
            f"the examples as --questions {examples[0]}, or write them by a command of their own"
        )
    return bool(documents)


def _write_examples(options: WriteOptions) -> None:
    from lorabank.bank.write.write import check_free
    from lorabank.errors import UsageError
    from lorabank.store.store import Store
    from lorabank.synthesis.generators import RULES
    from lorabank.synthesis.inputs import check_generator

    drafts, settings = _drafts(options), options.settings
    has_generator = options.generator not in (None, RULES)
    if options.generator is not None:
        kind, _ = check_generator(
            options.generator, workers=options.workers, timeout_s=options.timeout
        )
        if kind == "file":
            raise UsageError(
                "--generator file: holds what was made of documents; write wordings of facts into "
                'the facts file itself, as "also"'
            )
    with Store.open(options.bank) as store:  # refuse what can be, before the base is loaded
        check_free(store, drafts, replace=options.replace)
    with open_bank(options.bank, options.device) as bank:
        if has_generator:
            drafts = _reword(bank, drafts, options)
        if settings.auto_r:
            settings = _plan_largest(bank, drafts, settings, keeps_lr=options.lr is not None)
        with training_display() as display, tracking(options.track, options.name, settings) as run:
            on_round = in_turn(display.on_round, run.on_round)
            reports = bank.write_all(
                drafts, settings=settings, replace=options.replace, on_round=on_round
            )
            run.log_end({report.module: report.as_json() for report in reports})
    if options.json:
        print_json({"modules": [report.as_json() for report in reports]})
    else:
        say("\n".join(map(report_text, reports)), keeps_lines=True)


def _plan_largest(
    bank: "Bank", drafts: "list[ModuleDraft]", settings: "TrainSettings", *, keeps_lr: bool
) -> "TrainSettings":
    """Return settings whose rank is planned for the module with most facts; others are shrunk."""
    from lorabank.planning.planner import plan_rank

    largest = max(drafts, key=lambda draft: len(draft.examples))
    return plan_rank(bank.base, largest.examples, settings, keeps_lr=keeps_lr).settings


def _reword(
    bank: "Bank", drafts: "list[ModuleDraft]", options: WriteOptions
) -> "list[ModuleDraft]":
    """Let the generator that was named write wordings of the facts."""
    from lorabank.bank.write.reworded_drafts import reword_by_generator
    from lorabank.synthesis.inputs import generator_for

    generator = generator_for(
        str(options.generator),
        workers=options.workers,
        timeout_s=options.timeout,
        local=lambda: bank.base,
    )
    with progress_display("making wordings", waiting_for=FIRST_REPLY) as display:
        return reword_by_generator(
            bank.reader, drafts, generator, options.settings, on_reply=display.on_reply
        )


def _drafts(options: WriteOptions) -> "list[ModuleDraft]":
    from lorabank.bank.drafts import draft_from_files
    from lorabank.errors import UsageError

    if not options.each:
        texts = [passage(options.text)] if options.text is not None else []
        return [draft_from_files(options.name, options.paths, texts=texts)]
    if options.text is not None:
        raise UsageError("--text belongs to one module; leave it or --each out")
    return [draft_from_files(path.stem, [path]) for path in options.paths]
