"""What a bank holds and has been through: list, show, verify, history, rollback, prune, export.

None of these needs the base model, but for `verify --recall`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabank.cli.bank import DEFAULT_BANK, BankPath
from lorabank.cli.output import Device, Json, print_json

if TYPE_CHECKING:
    from lorabank.store.records import Version

Name = Annotated[str, typer.Argument(help="Name of a module.")]


def list_(bank: BankPath = DEFAULT_BANK, json: Json = False) -> None:
    """List the modules.

    Example: lorabank list
    """
    from lorabank.store.store import Store

    with Store.open(bank) as store:
        versions, base = store.currents(), store.base
    if json:
        print_json({"base": base.name, "modules": [_row(version) for version in versions]})
        return
    print(f"{_modules(len(versions))} for {base.name} ({base.sha256[:12]})")
    if versions:
        print(f"{'module':<28}{'version':>8}{'facts':>7}{'recall':>8}{'bytes':>12}  written")
    for version in versions:
        record = version.record
        recall = record.get("recall")
        print(
            f"{version.module[:27]:<28}{version.number:>8}{record.get('facts', ''):>7}"
            f"{'' if recall is None else format(recall, '.0%'):>8}"
            f"{record.get('adapter_bytes', 0):>12,}  {version.created_at}"
        )


def show(name: Name, bank: BankPath = DEFAULT_BANK, json: Json = False) -> None:
    """Show a module: its versions, sources, files, what was measured.

    Example: lorabank show team
    """
    from lorabank.store.store import Store

    with Store.open(bank) as store:
        current, versions = store.current(name), store.versions(name)
    if json:
        print_json(
            {
                "module": name,
                "current": current.number,
                "versions": [{**_row(v), "record": v.record} for v in versions],
            }
        )
        return
    for version in versions:
        mark = "*" if version.number == current.number else " "
        record = version.record
        print(f"{mark} version {version.number}, written {version.created_at}")
        for key in ("facts", "recall", "exposures_per_fact", "r", "adapter_bytes"):
            if key in record:
                print(f"    {key:<20}{record[key]}")
        for source in version.sources:
            print(f"    source {source.name}, {source.n_examples} examples, {source.sha256}")
        for file, digest in version.files.items():
            print(f"    file {file}, {digest[:16]}")


def verify(
    bank: BankPath = DEFAULT_BANK,
    recall: Annotated[
        bool, typer.Option("--recall", help="Ask every module its facts again.")
    ] = False,
    device: Device = None,
    json: Json = False,
) -> None:
    """Check every file of the bank against its hash; with --recall ask again. Damage: exit 1.

    Example: lorabank verify --recall
    """
    from lorabank.store.store import Store

    measured: dict[str, float | None] = {}
    with Store.open(bank) as store:
        damage = store.verify()
        # What a damaged database names is not to be relied on, if it can be read at all.
        names = [] if any(d.kind == "database" for d in damage) else store.names()
    if recall and not damage:
        from lorabank.cli.bank import open_bank

        with open_bank(bank, device) as opened:
            measured = {name: opened.recall(name) for name in names}
    if json:
        found = [
            {
                "module": d.module,
                "version": d.version,
                "file": d.file,
                "kind": d.kind,
                "lost": d.lost,
            }
            for d in damage
        ]
        print_json({"modules": len(names), "damage": found, "recall": measured})
    else:
        print(f"{_modules(len(names))}, {'no damage' if not damage else f'{len(damage)} damaged'}")
        for d in damage:
            where = " ".join(str(part) for part in (d.module, d.version, d.file) if part)
            print(f"  {d.kind}: {where}: {d.lost}")
        for name, share in measured.items():
            print(f"  {name}: {'no examples' if share is None else f'recall {share:.0%}'}")
    if damage:
        raise typer.Exit(1)


def history(
    name: Annotated[str | None, typer.Argument(help="Of one module.")] = None,
    bank: BankPath = DEFAULT_BANK,
    json: Json = False,
) -> None:
    """What was done to the bank, oldest first.

    Example: lorabank history team
    """
    from lorabank.store.store import Store

    with Store.open(bank) as store:
        events = store.history(name)
    if json:
        rows = [
            {"at": e.at, "what": e.what, "module": e.module, "version": e.version, **e.details}
            for e in events
        ]
        print_json({"events": rows})
        return
    for e in events:
        print(f"{e.at}  {e.what:<9} {e.module or ''} {'' if e.version is None else e.version}")


def rollback(
    name: Name,
    version: Annotated[int | None, typer.Argument(help="By default the one before.")] = None,
    bank: BankPath = DEFAULT_BANK,
    json: Json = False,
) -> None:
    """Make an earlier version of a module the current one.

    Example: lorabank rollback team 1
    """
    from lorabank.store.store import Store

    with Store.open(bank) as store, store.writing(what=f"rollback {name}"[:80]) as tx:
        now = tx.rollback(name, version)
    if json:
        print_json(_row(now))
    else:
        print(f"{name} is at version {now.number} again, written {now.created_at}")


def prune(
    bank: BankPath = DEFAULT_BANK,
    name: Annotated[str | None, typer.Option(help="Of one module only.")] = None,
    keep: Annotated[int, typer.Option(help="Versions kept of each module.")] = 1,
    json: Json = False,
) -> None:
    """Drop old versions; the current one always stays.

    Example: lorabank prune --keep 2
    """
    from lorabank.store.store import Store

    with Store.open(bank) as store, store.writing(what="prune") as tx:
        gone = tx.prune(keep=keep, name=name)
    if json:
        print_json({"pruned": [{"module": m, "version": v} for m, v in gone]})
    else:
        print(f"{len(gone)} old versions dropped")


def export(
    name: Name,
    folder: Annotated[Path, typer.Argument(help="New or empty folder.")],
    version: Annotated[int | None, typer.Option(help="By default the current one.")] = None,
    bank: BankPath = DEFAULT_BANK,
    json: Json = False,
) -> None:
    """Write a module as a folder that PEFT loads, with its examples and keys.

    Example: lorabank export team out/team
    """
    from lorabank.bank.write.transfer import export_module
    from lorabank.store.store import Store

    with Store.open(bank) as store:
        chosen = store.version(name, version) if version else store.current(name)
        export_module(store, chosen, folder)
    if json:
        print_json({"module": name, "version": chosen.number, "folder": str(folder)})
    else:
        print(f"{name} version {chosen.number} in {folder}")


def _row(version: "Version") -> dict[str, Any]:
    record = version.record
    return {
        "module": version.module,
        "version": version.number,
        "created_at": version.created_at,
        "facts": record.get("facts"),
        "recall": record.get("recall"),
        "adapter_bytes": record.get("adapter_bytes"),
        "sources": [
            {"name": s.name, "sha256": s.sha256, "examples": s.n_examples} for s in version.sources
        ],
        "files": dict(version.files),
    }


def _modules(n: int) -> str:
    return f"{n} module{'' if n == 1 else 's'}"
