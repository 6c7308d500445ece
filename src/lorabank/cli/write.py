"""`lorabank write`: examples or documents into modules of the bank."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.bank import DEFAULT_BANK, BankPath, open_bank, passage
from lorabank.cli.output import Device, Json, fleet_line, print_json
from lorabank.cli.write_documents import Options, Training, told, write_documents

if TYPE_CHECKING:
    from lorabank.bank.write.drafts import ModuleDraft


def run(
    name: Annotated[
        str, typer.Argument(help="Name of the module; with --each the first of the files.")
    ],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Examples (CSV with prompt,answer, or JSONL), or documents (Markdown, text, "
            "HTML, PDF) and folders of them."
        ),
    ] = None,
    bank: BankPath = DEFAULT_BANK,
    each: Annotated[
        bool, typer.Option("--each", help="One module for each file, named after it, in one fleet.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="A new version of a module that exists.")
    ] = False,
    text: Annotated[
        Path | None, typer.Option(help="A passage the module is also to be found by.")
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option(
            help="Of documents: who writes the examples. local (the base, the default), "
            "openai:MODEL (OPENAI_BASE_URL, OPENAI_API_KEY), or file:PATH of texts written already."
        ),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            help="Of documents: what to make of each passage, by default qa:20,summary:2,original; "
            "also rewrite:N, implications:N, paraphrase:N, reverse."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Of documents: requests to the generator at once.")
    ] = None,
    chunk_tokens: Annotated[
        int | None, typer.Option(help="Of documents: tokens of a passage, by default at most 256.")
    ] = None,
    modules: Annotated[
        str | None,
        typer.Option(
            help="Of documents: per-document, or a number; by default one module for up to 500 "
            "examples, else one for each document."
        ),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            help="Of documents: your own questions to measure by (CSV, JSONL), none of which is "
            "trained on; by default one in six of those made."
        ),
    ] = None,
    passes: Annotated[
        int | None,
        typer.Option(help="Of documents: trainings at most while passages do not stick, or 2."),
    ] = None,
    skip_failed: Annotated[
        bool | None,
        typer.Option(
            "--skip-failed", help="Of documents: only name those of which nothing was fit to teach."
        ),
    ] = None,
    no_text: Annotated[
        bool | None,
        typer.Option("--no-text", help="Of documents: keep what was made of them, not their text."),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of documents that are not UTF-8: latin-1.")
    ] = None,
    limit_mb: Annotated[float | None, typer.Option(help="Largest document, or 20.")] = None,
    refused: Annotated[
        Path | None, typer.Option(help="Of documents: JSONL file for what was not fit to teach.")
    ] = None,
    r: Annotated[int | None, typer.Option(help="Rank.")] = None,
    layers: Annotated[
        str | None, typer.Option(help="0-15, last-10, first-4 or 3,5,7; by default all.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    exposures: Annotated[int | None, typer.Option(help="Train on each example this often.")] = None,
    until_recall: Annotated[
        float | None, typer.Option(help="Stop once this share is recalled.")
    ] = None,
    always_on: Annotated[
        bool, typer.Option("--always-on", help="Adapter on every token of the prompt too.")
    ] = False,
    protect: Annotated[
        float | None,
        typer.Option(help="Share of ordinary text trained beside them, as 0.2; keeps the base."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of initial weights, order and draws.")] = 0,
    device: Device = None,
    json: Json = False,
) -> None:
    """Write examples or documents into a module of the bank, or into many at once.

    Of documents, questions, summaries and the like are made first; a write that was broken off
    asks for none of them twice.

    Example: lorabank write team team.csv
    """
    from lorabank.engine.training.settings import settings_for
    from lorabank.errors import UsageError

    options = Options(
        generator, formats, workers, chunk_tokens, modules, held_out, passes, skip_failed, no_text,
        encoding, limit_mb, refused,
    )  # fmt: skip
    settings = settings_for(
        "sound",
        r=r,
        lr=lr,
        exposures=exposures,
        until_recall=until_recall,
        activated=False if always_on else None,
        protect_share=protect,
        layers=layers,
        seed=seed,
    )
    training = Training(settings, r is None, lr is not None, replace)
    paths = [Path(name), *(files or [])] if each else list(files or [])
    if not _are_documents(paths):
        given = [flag for flag, value in asdict(options).items() if value is not None]
        if given:
            raise UsageError(
                f"--{given[0].replace('_', '-')} is for documents, and these are examples; "
                "leave it out"
            )
        parcels = _examples(name, paths, each=each, text=text)
        _write_examples(bank, parcels, training, device=device, json=json)
        return
    if each or text is not None:
        raise UsageError(
            "--each and --text go with files of examples; documents are found by their own "
            "passages, and --modules per-document gives each its module"
        )
    write_documents(bank, name, paths, options, training, device=device, json=json)


def _are_documents(paths: Sequence[Path]) -> bool:
    """Whether these are documents, not examples.

    Raises:
        UsageError: some are and some are not.
    """
    from lorabank.errors import UsageError
    from lorabank.synthesis.prewritten import is_prewritten

    suffixes = (".csv", ".jsonl", ".ndjson")
    examples = [p for p in paths if p.suffix.lower() in suffixes and not is_prewritten(p)]
    documents = [path for path in paths if path not in examples]
    if examples and documents:
        raise UsageError(
            f"{examples[0]} holds examples and {documents[0]} is a document or a folder; write "
            "them by two commands, into two modules"
        )
    return bool(documents)


def _examples(
    name: str, paths: Sequence[Path], *, each: bool, text: Path | None
) -> "list[ModuleDraft]":
    from lorabank.bank.write.drafts import draft_from_files
    from lorabank.errors import UsageError

    if each and text is not None:
        raise UsageError("--text belongs to one module; leave it or --each out")
    texts = [passage(text)] if text is not None else []
    if each:
        return [draft_from_files(path.stem, [path]) for path in paths]
    return [draft_from_files(name, paths, texts=texts)]


def _write_examples(
    bank: Path,
    parcels: "list[ModuleDraft]",
    training: Training,
    *,
    device: str | None,
    json: bool,
) -> None:
    from lorabank.bank.write.write import check_free
    from lorabank.store.store import Store

    with Store.open(bank) as store:  # what can be refused is, before the base is loaded
        check_free(store, parcels, replace=training.replace)
    with open_bank(bank, device) as opened:
        reports = opened.write_all(
            parcels,
            settings=training.settings,
            replace=training.replace,
            on_round=fleet_line(),
        )
    if json:
        print_json({"modules": [report.as_json() for report in reports]})
        return
    print("\n".join(map(told, reports)))
