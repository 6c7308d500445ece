"""`lorabank consolidate --watch`: one line for each event, until Ctrl-C."""

import signal
import sys
import threading
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING, Any

from lorabank.cli.bank import open_bank
from lorabank.cli.output import print_json, say
from lorabank.cli.write_documents import report_text

if TYPE_CHECKING:
    from lorabank.bank.write.consolidation_plan import ConsolidationStep
    from lorabank.bank.write.write import WriteReport
    from lorabank.cli.consolidate import ConsolidateOptions


def watch_bank(options: "ConsolidateOptions") -> None:
    """Consolidate a bank whenever it is due; Ctrl-C ends it after the step under way."""
    from lorabank.bank.write.consolidate import ConsolidateOptions as Choices
    from lorabank.bank.write.watch import WatchListener, WatchSettings, watch

    settings, stop = WatchSettings(every_s=options.every), threading.Event()

    def tell(event: str, text: str, **values: Any) -> None:
        """Print one line, at once, into a pipe too."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        if options.json:
            print_json({"at": at, "event": event, **values})
        else:
            say(f"{at} {event}: {text}")
        sys.stdout.flush()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        tell("stopping", "after the step under way; Ctrl-C again to leave it")

    def on_planned(step: "ConsolidationStep") -> None:
        tell(step.kind, f"{step.module}, {step.why}", module=step.module, why=step.why)

    def on_report(report: "WriteReport") -> None:
        line = report_text(report).splitlines()[0]
        values = {"module": report.module, "version": report.version, "recall": report.recall}
        tell("written", line, **values)

    with open_bank(options.bank, options.device) as bank:
        choices = Choices(pending_limit=options.pending_limit, on_planned=on_planned)
        listener = WatchListener(on_report, lambda why: tell("not kept", why, why=why))
        former = signal.signal(signal.SIGINT, interrupt)
        try:
            tell("watching", f"{options.bank}, from {options.pending_limit} pending facts on")
            watch(bank.store, bank.consolidate, choices, settings, listener, stop)
        finally:
            signal.signal(signal.SIGINT, former)
        tell("ended", "nothing is left half done")
