"""The bank's commands that need its base model: init, forget, import."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.output import (
    DEFAULT_BASE,
    BaseName,
    Device,
    Json,
    print_json,
    say,
)

if TYPE_CHECKING:
    from lorabank.bank.bank import Bank

BankPath = Annotated[
    Path, typer.Option("--bank", envvar="LORABANK_BANK", help="The bank's folder.")
]
DEFAULT_BANK = Path("bank")


def init(
    path: Annotated[Path, typer.Argument(help="New or empty folder.")] = DEFAULT_BANK,
    base: BaseName = DEFAULT_BASE,
    json: Json = False,
) -> None:
    """Make an empty bank for one base model.

    Example: lorabank init bank --base smollm2-135m
    """
    from lorabank.bank.opening import identify_base
    from lorabank.engine.models.registry import find_model
    from lorabank.store.store import Store

    info = find_model(base)
    Store.create(path, base=identify_base(info)).close()
    if json:
        print_json({"bank": str(path), "base": info.name, "base_sha256": info.sha256})
    else:
        say(f"{path}: an empty bank for {info.name} ({info.sha256[:12]})")


def forget(
    what: Annotated[
        str | None, typer.Argument(help="A module, or a source by name or sha256.")
    ] = None,
    fact: Annotated[
        str | None,
        typer.Option(help="Question of one fact: it leaves its module, which keeps the others."),
    ] = None,
    bank: BankPath = DEFAULT_BANK,
    device: Device = None,
    json: Json = False,
) -> None:
    """Forget a module, a source or one fact, with proof that it is gone.

    Example: lorabank forget team
    """
    from lorabank.errors import UsageError

    if (what is None) == (fact is None):
        raise UsageError("forget takes a module or a source, or --fact QUESTION; give one of them")
    with open_bank(bank, device) as memory:
        proof = memory.forget(what or fact or "", is_fact=fact is not None)
    if json:
        print_json(proof.as_json())
        return
    facts = f"{proof.facts} fact{'' if proof.facts == 1 else 's'}"
    say(
        f"forgot {proof.what}: {facts}, recall {proof.recall_before:.0%} before, "
        f"{proof.recall_after:.0%} after; {len(proof.removed)} files removed, "
        f"{len(proof.remaining) or 'none'} left with its weights"
    )
    if proof.unchecked:
        say(f"cannot be read, so not checked: {', '.join(proof.unchecked)}")
    if proof.kept_recall is not None:
        say(f"written anew without it: {', '.join(proof.rewritten)}, {proof.kept_recall:.0%}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """The options of `lorabank import`."""

    folder: Annotated[Path, typer.Argument(help="A LoRA folder written by PEFT or by export.")]
    name: Annotated[
        str | None, typer.Argument(help="Name of the module; by default the folder's.")
    ] = None
    bank: BankPath = DEFAULT_BANK
    text: Annotated[
        Path | None, typer.Option(help="File with a passage the module is found by.")
    ] = None
    replace: Annotated[
        bool, typer.Option("--replace", help="Add a version to a module that exists.")
    ] = False
    device: Device = None
    json: Json = False


def import_(options: ImportOptions) -> None:
    """Take an adapter folder into the bank.

    Example: lorabank import out/facts facts
    """
    texts = [passage(options.text)] if options.text is not None else []
    with open_bank(options.bank, options.device) as bank:
        version = bank.import_(options.folder, options.name, replace=options.replace, texts=texts)
    if options.json:
        print_json({"module": version.module, "version": version.number})
    else:
        say(f"{version.module} version {version.number}")


def open_bank(path: Path, device: str | None) -> "Bank":
    from lorabank.bank.bank import Bank

    return Bank.open(path, device=device)


def passage(path: Path) -> str:
    """Return the text of the file that --text names.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    from lorabank.tasks import fields

    text = fields.read_text(path, max_bytes=fields.MAX_TEXT_BYTES)
    return text.replace("\r\n", "\n").replace("\r", "\n")
