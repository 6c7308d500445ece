"""`lorabank consolidate`: remembered facts are taught to modules."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.bank import DEFAULT_BANK, BankPath, open_bank
from lorabank.cli.output import Device, Json, print_json, print_table, say, status
from lorabank.cli.progress_display import training_display
from lorabank.cli.write_documents import report_text

if TYPE_CHECKING:
    from lorabank.bank.write.consolidation_plan import ConsolidationStep


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolidateOptions:
    """The options of `lorabank consolidate`."""

    bank: BankPath = DEFAULT_BANK
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what would be done, why, and what it costs.")
    ] = False
    pending_limit: Annotated[
        int, typer.Option(help="Teach pending facts only where there are this many.")
    ] = 1
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Stay, and teach when --pending-limit is reached."),
    ] = False
    every: Annotated[
        float,
        typer.Option(help="With --watch: seconds after which to teach however few are pending."),
    ] = 0.0
    device: Device = None
    json: Json = False


def run(options: ConsolidateOptions) -> None:
    """Teach pending facts to a module, merge small modules, remove values that hold no longer.

    Facts can be remembered meanwhile. A killed consolidation changes nothing but the steps before.
    With --watch, Ctrl-C ends it after the step under way, and a second Ctrl-C at once.

    Example: lorabank consolidate --plan
    """
    from lorabank.bank.write.consolidation_plan import check_pending_limit, plan_consolidation
    from lorabank.errors import UsageError
    from lorabank.store.store import Store

    check_pending_limit(options.pending_limit)
    if options.every and not options.watch:
        raise UsageError("--every goes with --watch; leave it out")
    if options.watch and options.plan:
        raise UsageError("--plan prints what one consolidation would do; leave --watch out")
    if options.watch:
        from lorabank.cli.watch import watch_bank

        watch_bank(options)
        return
    with Store.open(options.bank) as store:
        steps = plan_consolidation(store, pending_limit=options.pending_limit)
    if options.plan or not steps:
        _print_plan(steps, json=options.json)
        return
    from lorabank.bank.write.consolidate import ConsolidateOptions as Choices

    with open_bank(options.bank, options.device) as bank, training_display() as display:
        choices = Choices(
            pending_limit=options.pending_limit,
            on_planned=lambda step: status(f"{step.kind} {step.module}: {step.why}"),
            on_round=display.on_round,
        )
        reports = bank.consolidate(choices)
    if options.json:
        print_json({"modules": [report.as_json() for report in reports]})
    else:
        say("\n".join(map(report_text, reports)), keeps_lines=True)


def _print_plan(steps: "list[ConsolidationStep]", *, json: bool) -> None:
    if json:
        print_json({"steps": [step.as_json() for step in steps]})
        return
    if not steps:
        say("nothing to do")
        return
    heads = ["step", "module", "facts", "minutes", "bytes", "why", "instead of"]
    rows = [
        [
            step.kind,
            step.module,
            str(step.n_facts),
            "not known" if step.seconds is None else f"{step.seconds / 60:.1f}",
            "not known" if step.n_bytes is None else f"{step.n_bytes:+,}",
            step.why,
            ", ".join(version.module for version in step.replaces),
        ]
        for step in steps
    ]
    print_table(heads, rows, left=("step", "module", "why", "instead of"))
