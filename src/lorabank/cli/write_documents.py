"""Documents on their way into the bank, as `lorabank write` prints it.

What can be refused is refused before the base is loaded. The examples made are printed before the
training begins, and the passages that did not stick after it.
"""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lorabank.cli.bank import open_bank
from lorabank.cli.output import (
    counts_by_rendering,
    left_out,
    print_json,
    print_rows,
    rewording_rows,
    say,
    visible,
)
from lorabank.cli.progress_display import FIRST_REPLY, progress_display, training_display
from lorabank.cli.synthesise import outcome_rows
from lorabank.cli.track import in_turn, tracking

if TYPE_CHECKING:
    from lorabank.bank.write.document_drafts import DocumentDrafts, DraftOptions
    from lorabank.bank.write.write import WriteReport
    from lorabank.cli.write import WriteOptions
    from lorabank.engine.backbone.base import Base
    from lorabank.planning.planner import RankPlan
    from lorabank.retrieval.documents import Document

_PASSES = 2
_N_SHOWN = 10  # passages that did not stick
_WIDTH = 18  # of the names in front of values


def write_documents(options: "WriteOptions") -> None:
    """Write documents into the bank, and print what came of it.

    Raises:
        LorabankError: whatever could not be done; the bank is what it was before.
    """
    from lorabank.synthesis.generators import RULES
    from lorabank.synthesis.inputs import generator_for
    from lorabank.synthesis.results import write_lines

    passes = _PASSES if options.passes is None else options.passes
    draft_options, documents = _check(options, passes)
    with open_bank(options.bank, options.device) as bank:
        generator = None
        if options.generator not in (None, RULES):
            generator = generator_for(
                str(options.generator),
                workers=options.workers,
                timeout_s=options.timeout,
                local=lambda: bank.base,
            )
        with progress_display("making examples", waiting_for=FIRST_REPLY) as display:
            drafts = bank.make_drafts(
                options.name,
                documents,
                generator=generator,
                options=draft_options,
                on_reply=display.on_reply,
            )
        if options.refused is not None:
            write_lines(options.refused, map(asdict, drafts.synthesis.refused))
        if not options.json:
            print_rows(outcome_rows(drafts.synthesis, None, options.refused), width=_WIDTH)
            sys.stdout.flush()  # into a pipe too: what follows takes minutes
        plan = _plan(bank.base, drafts, options)
        if not options.json:
            print_rows(_plan_rows(bank.base, drafts, plan), width=_WIDTH)
            sys.stdout.flush()
        with (
            training_display() as display,
            tracking(options.track, options.name, plan.settings) as run,
        ):
            reports = bank.write_all(
                drafts.modules,
                settings=plan.settings,
                replace=options.replace,
                passes=passes,
                on_round=in_turn(display.on_round, run.on_round),
            )
            run.log_end({report.module: report.as_json() for report in reports})
    _print_written(drafts, plan, reports, as_json=options.json)


def _print_written(
    drafts: "DocumentDrafts", plan: "RankPlan", reports: "list[WriteReport]", *, as_json: bool
) -> None:
    if not as_json:
        say("\n".join(map(report_text, reports)), keeps_lines=True)
        return
    forecast = plan.forecast.as_json() if plan.forecast else None
    print_json(
        {
            "made": drafts.synthesis.as_json(),
            "plan": {"r": plan.settings.r, "forecast": forecast},
            "modules": [report.as_json() for report in reports],
        }
    )


def report_text(report: "WriteReport") -> str:
    """Return the lines that say how a module was written."""
    missing = f"; missing: {'; '.join(report.missing[:3])}" if report.missing else ""
    lines = [
        f"{report.module} version {report.version}: recall {report.recall_before:.0%} before, "
        f"{report.recall:.0%} after, of {report.facts} facts{missing}"
    ]
    if len(report.recall_by_rendering) > 1:
        by_rendering = counts_by_rendering(report.recall_by_rendering, report.facts)
        lines.append(f"  by rendering: {by_rendering}")
    reworded = rewording_rows(report.recall_reworded, report.reworded, report.recall_reversed)
    lines += [f"  {title}: {text}" for title, text in reworded]
    if report.margin:
        lines.append(
            f"  smallest lead: {report.smallest_lead:.2f} nats; "
            f"{report.below_margin} of {report.facts} facts below the margin of {report.margin:g}"
        )
    if cannot_adapt := left_out(report.adaptable_share):
        lines.append(f"  not adapted: {cannot_adapt}")
    if held_out := report.held_out:
        lines.append(
            f"  held out: {held_out['questions']} questions, gold answers "
            f"{held_out['gain_nats']:+.2f} nats per token over the bare model; token F1 "
            f"{held_out['token_f1_bare']:.2f} before, {held_out['token_f1']:.2f} after, of "
            f"{held_out['written']} answers written out"
        )
    for number, training in enumerate(report.passes, start=1):
        lines.append(
            f"  pass {number}: recall {training['recall']:.0%} after "
            f"{training['exposures_per_fact']:.0f} exposures{_gain(training)}; "
            f"{training['not_stuck']} of {report.passages} passages did not stick"
            f"{'' if training['kept'] else '; not kept'}"
        )
    for passage in report.not_stuck[:_N_SHOWN]:
        recall = passage["recall"]
        taught = "nothing taught" if recall is None else f"recall {recall:.0%}"
        place = " > ".join(part for part in (passage["document"], passage["heading"]) if part)
        lines.append(f"  did not stick: {place}: “{passage['words']} …” ({taught}{_gain(passage)})")
    if (n_more := len(report.not_stuck) - _N_SHOWN) > 0:
        lines.append(f"  and {n_more} more, which lorabank show {report.module} --json names")
    return "\n".join(map(visible, lines))


def _gain(measured: Mapping[str, Any]) -> str:
    gain = measured["gain_nats"]
    return "" if gain is None else f", held out {gain:+.2f} nats"


def _check(options: "WriteOptions", passes: int) -> "tuple[DraftOptions, list[Document]]":
    """Read the documents, and refuse everything that can be refused without a model."""
    from lorabank.bank.drafts import draft_from_files
    from lorabank.bank.write.document_drafts import DraftOptions, check_documents
    from lorabank.bank.write.training import check_passes
    from lorabank.bank.write.write import check_free
    from lorabank.errors import UsageError
    from lorabank.retrieval.documents import LIMIT_MB
    from lorabank.store.store import Store
    from lorabank.synthesis.generators import RULES
    from lorabank.synthesis.inputs import check_generator, read_source_documents
    from lorabank.tasks.examples import read_examples

    held_out = tuple(read_examples(options.held_out)) if options.held_out else None
    own = draft_from_files("questions", [options.questions]).parts if options.questions else None
    chosen = {
        "formats": options.formats,
        "chunk_tokens": options.chunk_tokens,
        "modules": options.modules,
        "held_out": held_out,
        "most_by_rule": options.by_rule,
        "own": own,
    }
    draft_options = DraftOptions(
        **{name: value for name, value in chosen.items() if value is not None},  # type: ignore[arg-type]
        skip_failed=bool(options.skip_failed),
        with_text=not options.no_text,
        seed=options.seed,
    )
    _ = options.settings  # wrong ones are refused here
    check_passes(passes)
    check_generator(options.generator or RULES, workers=options.workers, timeout_s=options.timeout)
    refused = options.refused
    if refused is not None and not refused.absolute().parent.is_dir():
        raise UsageError(f"--refused {refused} must be a file in a folder that exists")
    limit_mb = LIMIT_MB if options.limit_mb is None else options.limit_mb
    documents = read_source_documents(options.paths, encoding=options.encoding, limit_mb=limit_mb)
    planned = check_documents(options.name, documents, draft_options)
    if not options.replace:  # what is replaced may be split into other modules now
        with Store.open(options.bank) as store:
            check_free(store, planned, replace=False)
    return draft_options, documents


def _plan(base: "Base", drafts: "DocumentDrafts", options: "WriteOptions") -> "RankPlan":
    """Return the settings to train with: the rank is planned unless it was given."""
    from lorabank.planning.planner import RankPlan, forecast_write, plan_rank

    examples, settings = drafts.fullest.examples, options.settings
    if options.r is None or settings.auto_r:
        return plan_rank(base, examples, settings, keeps_lr=options.lr is not None)
    return RankPlan(settings, forecast_write(base, examples, settings))


def _plan_rows(base: "Base", drafts: "DocumentDrafts", plan: "RankPlan") -> list[tuple[str, str]]:
    modules, forecast = drafts.modules, plan.forecast
    names = ", ".join(draft.name for draft in modules[:5]) + (", …" if len(modules) > 5 else "")
    n_examples = sum(len(draft.examples) for draft in modules)
    n_held_out = sum(len(p.held_out) for draft in modules for p in draft.passages)
    recall = ""
    if forecast is not None:
        caveat = ", beyond what was measured" if forecast.extrapolated else ""
        recall = f", recall {forecast.recall:.0%} foreseen{caveat}"
    return [
        ("modules", f"{len(modules)} ({names}), {n_examples} examples"),
        ("rank", f"{plan.settings.r}{recall}"),
        ("held out", f"{n_held_out} questions"),
        ("training takes", _training_time(base, n_examples, plan)),
    ]


def _training_time(base: "Base", n_examples: int, plan: "RankPlan") -> str:
    """Return how long training should take, in words."""
    from lorabank.planning.forecast import LIGHT_EXPOSURES, estimate_write_seconds

    exposures = plan.forecast.exposures_per_fact if plan.forecast else LIGHT_EXPOSURES
    if plan.settings.until_recall is None:
        exposures = plan.settings.exposures
    seconds = estimate_write_seconds(base, n_examples, exposures)
    if seconds is None:
        return "a time that cannot be foreseen for this base"
    length = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    return f"about {length} on two cores, to a factor of two"
