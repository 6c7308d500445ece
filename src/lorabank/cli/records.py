"""The bank's commands on its records: list, show, history, rollback, prune.

None of these needs the base model.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabank.cli.bank import DEFAULT_BANK, BankPath
from lorabank.cli.fact_history import count_facts, print_fact
from lorabank.cli.output import Json, print_json, print_table, say

if TYPE_CHECKING:
    from lorabank.store.records import Version
    from lorabank.store.trash import Trash

Name = Annotated[str, typer.Argument(help="Name of a module.")]


def list_(bank: BankPath = DEFAULT_BANK, json: Json = False) -> None:
    """List the modules, and how many remembered facts are pending, learnt and superseded.

    Example: lorabank list
    """
    from lorabank.store.store import Store

    with Store.open(bank) as store:
        versions, base, facts = store.current_versions(), store.base, store.facts()
    if json:
        rows = [_row(version) for version in versions]
        print_json({"base": base.name, "modules": rows, "facts": count_facts(facts)})
        return
    say(f"{count_modules(len(versions))} for {base.name} ({base.sha256[:12]})")
    if facts:
        counts = ", ".join(f"{n} {state}" for state, n in count_facts(facts).items())
        say(f"facts remembered: {counts}")
    if versions:
        heads = ["module", "version", "facts", "recall", "bytes", "written"]
        print_table(heads, [_cells(version) for version in versions], left=("module", "written"))
    say_untrained(versions)


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
        say(f"{mark} version {version.number}, written {version.created_at}")
        for key in ("facts", "recall", "exposures_per_fact", "r", "adapter_bytes"):
            if key in record:
                say(f"    {key:<20}{record[key]}")
        for source in version.sources:
            say(f"    source {source.name}, {source.n_examples} examples, {source.sha256}")
        for file, digest in version.files.items():
            say(f"    file {file}, {digest[:16]}")


def history(
    name: Annotated[
        str | None,
        typer.Argument(help="Module, or the question of a remembered fact; by default all."),
    ] = None,
    bank: BankPath = DEFAULT_BANK,
    json: Json = False,
) -> None:
    """Print what was done to the bank or a module, or which values a fact has had, oldest first.

    Example: lorabank history team
    """
    from lorabank.store.store import Store

    with Store.open(bank) as store:
        events = store.history(name)
        if name is not None and not events:
            print_fact(store, name, json=json)
            return
    if json:
        rows = [
            {
                "at": event.at,
                "what": event.what,
                "module": event.module,
                "version": event.version,
                **event.details,
            }
            for event in events
        ]
        print_json({"events": rows})
        return
    for event in events:
        number = "" if event.version is None else event.version
        say(f"{event.at}  {event.what:<9} {event.module or ''} {number}")


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
        current = tx.rollback(name, version)
    if json:
        print_json(_row(current))
    else:
        say(f"{name} is at version {current.number} again, written {current.created_at}")


def prune(
    bank: BankPath = DEFAULT_BANK,
    name: Annotated[str | None, typer.Option(help="Module; by default all of them.")] = None,
    keep: Annotated[int, typer.Option(help="Number of versions each module keeps.")] = 1,
    json: Json = False,
) -> None:
    """Drop old versions, never the current one, and empty the bank's trash.

    Example: lorabank prune --keep 2
    """
    from lorabank.store.store import Store

    with Store.open(bank) as store, store.writing(what="prune", frees=True) as tx:
        dropped = tx.prune(keep=keep, name=name)
    if json:
        print_json(
            {
                "pruned": [{"module": m, "version": v} for m, v in dropped],
                "bytes": tx.freed_bytes,
                "trash": asdict(tx.trash),
            }
        )
    else:
        say(
            f"{len(dropped)} old versions dropped, {tx.freed_bytes:,} bytes; "
            f"trash emptied: {describe_trash(tx.trash)}"
        )


def _row(version: "Version") -> dict[str, Any]:
    record = version.record
    return {
        "module": version.module,
        "version": version.number,
        "created_at": version.created_at,
        "facts": record.get("facts"),
        "recall": record.get("recall"),
        "adapter_bytes": record.get("adapter_bytes"),
        "untrained": version.is_untrained,
        "sources": [
            {"name": s.name, "sha256": s.sha256, "examples": s.n_examples} for s in version.sources
        ],
        "files": dict(version.files),
    }


def _cells(version: "Version") -> list[str]:
    record, recall = version.record, version.record.get("recall")
    n_bytes = record.get("adapter_bytes", 0)
    return [
        version.module,
        str(version.number),
        str(record.get("facts", "")),
        f"{recall:.0%}" if isinstance(recall, int | float) else "",
        f"{n_bytes:,}" if isinstance(n_bytes, int) else "",
        version.created_at,
    ]


def say_untrained(versions: "Sequence[Version]") -> None:
    """Name the modules that wait for their training."""
    for version in versions:
        if version.is_untrained:
            say(
                f"  {version.module} is not trained yet, and answers from its text; "
                "lorabank consolidate trains it"
            )


def describe_trash(trash: "Trash") -> str:
    return f"{trash.n_files} file{'' if trash.n_files == 1 else 's'}, {trash.n_bytes:,} bytes"


def count_modules(n: int) -> str:
    return f"{n} module{'' if n == 1 else 's'}"
