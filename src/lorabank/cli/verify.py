"""`lorabank verify`: whether every file is what was written, what is recalled, how the gate judges.

Only `--recall` and `--gate` need the base model.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabank.cli.bank import DEFAULT_BANK, BankPath
from lorabank.cli.output import Device, Json, print_json, print_table, say
from lorabank.cli.records import count_modules, describe_trash, say_untrained

if TYPE_CHECKING:
    from lorabank.bank.answer.gate import Gate
    from lorabank.store.check import Damage
    from lorabank.store.trash import Trash


def verify(
    bank: BankPath = DEFAULT_BANK,
    recall: Annotated[
        bool, typer.Option("--recall", help="Ask every module its facts again.")
    ] = False,
    gate: Annotated[
        bool,
        typer.Option("--gate", help="Print how often the gate is wrong, by its rate."),
    ] = False,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept", help="Keep a database that is older than the last write or altered."
        ),
    ] = False,
    device: Device = None,
    json: Json = False,
) -> None:
    """Check every file of the bank against its hash; with --recall ask again. Damage: exit 1.

    Example: lorabank verify --recall --gate
    """
    from lorabank.store.store import Store

    measured: dict[str, dict[str, float]] = {}
    judge: Gate | None = None
    with Store(bank) if accept else Store.open(bank) as store:
        if accept and store.problem:
            store.accept()
        damage, trash = store.verify(), store.trash()
        # What a damaged database names is not to be relied on, if it can be read at all.
        is_readable = all(fault.kind != "database" for fault in damage)
        versions = store.current_versions() if is_readable else []
        names = [version.module for version in versions]
    if (recall or gate) and not damage:
        from lorabank.cli.bank import open_bank

        with open_bank(bank, device) as opened:
            measured = {n: opened.recall_by_rendering(n) for n in names} if recall else {}
            judge = opened.gate() if gate else None
    untrained = [version.module for version in versions if version.is_untrained]
    if json:
        print_json({**_as_json(names, damage, trash, measured, judge), "untrained": untrained})
    else:
        _print_files(names, damage, trash)
        say_untrained(versions)
        for name, module_recall in measured.items():
            if name in untrained:
                continue
            shares = [f"{share:.0%} ({form})" for form, share in module_recall.items()]
            text = f"recall {', '.join(shares)}" if shares else "no examples"
            say(f"  {name}: {text}")
        if gate and not damage:
            _print_gate(judge)
    if damage:
        raise typer.Exit(1)


def _as_json(
    names: "list[str]",
    damage: "list[Damage]",
    trash: "Trash",
    measured: dict[str, dict[str, float]],
    gate: "Gate | None",
) -> dict[str, Any]:
    curve = [
        {"false_activation": rate, "measured": false, "misses": misses}
        for rate, false, misses in (gate.curve() if gate else [])
    ]
    return {
        "modules": len(names),
        "damage": [asdict(fault) for fault in damage],
        "recall": {name: next(iter(shares.values()), None) for name, shares in measured.items()},
        "recall_by_rendering": measured,
        "gate": {"questions": gate.questions, "curve": curve} if gate else None,
        "trash": asdict(trash),
    }


def _print_files(names: "list[str]", damage: "list[Damage]", trash: "Trash") -> None:
    n_damaged = f"{len(damage)} damaged" if damage else "no damage"
    say(f"{count_modules(len(names))}, {n_damaged}")
    for fault in damage:
        place = " ".join(str(p) for p in (fault.module, fault.version, fault.file) if p)
        say(f"  {fault.kind}: {place}: {fault.lost}")
    if trash.n_files:
        say(f"  trash: {describe_trash(trash)}; lorabank prune empties it")


def _print_gate(gate: "Gate | None") -> None:
    if gate is None:
        say("no gate: the bank has no questions to fit one on")
        return
    say(f"gate on {gate.questions} held-out questions, {len(gate.known)} of them known to a module")
    print_table(
        ("--false-activation", "passed, unknown", "refused, known"),
        [(f"{rate:g}", f"{false:.1%}", f"{misses:.1%}") for rate, false, misses in gate.curve()],
        left=(),
    )
