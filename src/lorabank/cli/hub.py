"""`lorabank push` and `lorabank pull`: modules on the Hugging Face hub."""

from dataclasses import dataclass
from typing import Annotated

import typer

from lorabank.cli.bank import DEFAULT_BANK, BankPath, open_bank
from lorabank.cli.output import Device, Json, print_json, say

Repository = Annotated[str, typer.Argument(help="Repository of the hub, OWNER/NAME.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """The options of `lorabank push`."""

    name: Annotated[str, typer.Argument(help="Name of a module.")]
    repository: Repository
    license: Annotated[
        str | None, typer.Option(help="Licence of what was taught, as apache-2.0.")
    ] = None
    public: Annotated[
        bool, typer.Option("--public", help="A repository that everybody reads, facts included.")
    ] = False
    version: Annotated[int | None, typer.Option(help="By default the current one.")] = None
    bank: BankPath = DEFAULT_BANK
    json: Json = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """The options of `lorabank pull`."""

    repository: Repository
    name: Annotated[
        str | None, typer.Argument(help="Name of the module; by default the repository's.")
    ] = None
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None
    replace: Annotated[
        bool, typer.Option("--replace", help="Add a version to a module that exists.")
    ] = False
    bank: BankPath = DEFAULT_BANK
    device: Device = None
    json: Json = False


def push(options: PushOptions) -> None:
    """Push a module to the hub, with a model card of what was measured.

    Questions and answers go with it; the repository is private unless --public is given.

    Example: lorabank push team me/team --license cc-by-4.0
    """
    from lorabank.bank.write.hub_transfer import push_module
    from lorabank.store.store import Store

    name, number = options.name, options.version
    with Store.open(options.bank) as store:
        version = store.version(name, number) if number else store.current(name)
        report = push_module(
            store,
            version,
            options.repository,
            licence=options.license,
            is_public=options.public,
        )
    if options.json:
        print_json(report.as_json())
    else:
        shown = "public" if report.is_public else "private"
        say(f"{report.module} version {report.version} in {report.url} ({shown})")


def pull(options: PullOptions) -> None:
    """Pull an adapter from the hub into the bank, as `import` takes a folder.

    Example: lorabank pull me/team
    """
    from lorabank.bank.write.hub_transfer import pulled_folder

    pulled = pulled_folder(options.repository, revision=options.revision)
    with pulled as folder, open_bank(options.bank, options.device) as bank:
        version = bank.import_(folder, options.name, replace=options.replace)
    if options.json:
        print_json({"module": version.module, "version": version.number})
    else:
        say(f"{version.module} version {version.number}")
