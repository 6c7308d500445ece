"""Documents on their way into the bank, as `lorabank write` shows them: made, planned, taught.

What can be refused is refused before the base is loaded; what was made is told before the training
begins, and which passages did not stick after it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorabank.cli.bank import open_bank
from lorabank.cli.output import fleet_line, print_json
from lorabank.cli.synthesise import outcome_rows, reply_line

if TYPE_CHECKING:
    from lorabank.bank.write.document_drafts import DocumentDrafts, DraftOptions
    from lorabank.bank.write.write import WriteReport
    from lorabank.engine.training.settings import TrainSettings
    from lorabank.planning.forecast import Forecast
    from lorabank.retrieval.documents import Document

_PASSES = 2
_SHOWN = 10  # passages that did not stick


@dataclass(frozen=True, slots=True)
class Options:
    """What is for documents alone; None where it was not given."""

    generator: str | None
    formats: str | None
    workers: int | None
    chunk_tokens: int | None
    modules: str | None
    held_out: Path | None
    passes: int | None
    skip_failed: bool | None
    no_text: bool | None
    encoding: str | None
    limit_mb: float | None
    refused: Path | None


@dataclass(frozen=True, slots=True)
class Training:
    """How it is to be trained and put into the bank."""

    settings: "TrainSettings"
    plans_rank: bool
    """Whether the rank of documents' modules is planned, because none was given."""
    keeps_lr: bool
    """Whether a learning rate was given."""
    replace: bool


def write_documents(
    bank: Path,
    name: str,
    paths: Sequence[Path],
    options: Options,
    training: Training,
    *,
    device: str | None,
    json: bool,
) -> None:
    """Write, and tell what came of it.

    Raises:
        LorabankError: whatever could not be done; the bank is what it was before.
    """
    from lorabank.planning.plan import RankPlan, forecast_write, plan_rank
    from lorabank.synthesis.inputs import generator_for
    from lorabank.synthesis.results import write_lines

    passes = _PASSES if options.passes is None else options.passes
    making, documents = _checked(bank, name, paths, options, training, passes)
    by = options.generator or "local"
    with open_bank(bank, device) as opened:
        generator = generator_for(by, workers=options.workers, local=lambda: opened.base)
        material = opened.make_drafts(
            name, documents, generator=generator, options=making, on_reply=reply_line()
        )
        if options.refused is not None:
            write_lines(options.refused, map(asdict, material.synthesis.refused))
        if not json:
            print(_made(material, options.refused), flush=True)
        examples, settings = material.fullest.examples, training.settings
        if training.plans_rank:
            planned = plan_rank(opened.base, examples, settings, keeps_lr=training.keeps_lr)
        else:
            planned = RankPlan(settings, forecast_write(opened.base, examples, settings))
        settings, forecast = planned.settings, planned.forecast
        if not json:
            print(_plan(material, settings, forecast), flush=True)
        reports = opened.write_all(
            material.modules,
            settings=settings,
            replace=training.replace,
            passes=passes,
            on_round=fleet_line(),
        )
    if json:
        plan = {"r": settings.r, "forecast": forecast.as_json() if forecast else None}
        modules = [report.as_json() for report in reports]
        print_json({"made": material.synthesis.as_json(), "plan": plan, "modules": modules})
    else:
        print("\n".join(map(told, reports)))


def told(report: "WriteReport") -> str:
    """A module as it was written."""
    missing = f"; missing: {'; '.join(report.missing[:3])}" if report.missing else ""
    lines = [
        f"{report.module} version {report.version}: recall {report.recall_before:.0%} before, "
        f"{report.recall:.0%} after, of {report.facts} facts{missing}"
    ]
    if held := report.held_out:
        lines.append(
            f"  held out: {held['questions']} questions, gold answers {held['gain_nats']:+.2f} "
            f"nats per token over the bare model; token F1 {held['token_f1_bare']:.2f} before, "
            f"{held['token_f1']:.2f} after, of {held['written']} answers written out"
        )
    for number, one in enumerate(report.passes, start=1):
        gain = "" if one["gain_nats"] is None else f", held out {one['gain_nats']:+.2f} nats"
        lines.append(
            f"  pass {number}: recall {one['recall']:.0%} after {one['exposures_per_fact']:.0f} "
            f"exposures{gain}; {one['not_stuck']} of {report.passages} passages did not stick"
            f"{'' if one['kept'] else '; not kept'}"
        )
    for one in report.not_stuck[:_SHOWN]:
        recall = "nothing taught" if one["recall"] is None else f"recall {one['recall']:.0%}"
        gain = "" if one["gain_nats"] is None else f", held out {one['gain_nats']:+.2f} nats"
        where = " > ".join(part for part in (one["document"], one["heading"]) if part)
        lines.append(f"  did not stick: {where}: “{one['words']} …” ({recall}{gain})")
    if (more := len(report.not_stuck) - _SHOWN) > 0:
        lines.append(f"  and {more} more, which lorabank show {report.module} --json names")
    return "\n".join(lines)


def _checked(
    bank: Path,
    name: str,
    paths: Sequence[Path],
    options: Options,
    training: Training,
    passes: int,
) -> "tuple[DraftOptions, list[Document]]":
    """The documents, once everything was looked at that needs no model."""
    from lorabank.bank.write.document_drafts import DraftOptions, check_documents
    from lorabank.bank.write.training import check_passes
    from lorabank.bank.write.write import check_free
    from lorabank.errors import UsageError
    from lorabank.retrieval.documents import LIMIT_MB
    from lorabank.store.store import Store
    from lorabank.synthesis.inputs import check_generator, read_source_documents
    from lorabank.tasks.examples import read_examples

    given = {
        "formats": options.formats,
        "chunk_tokens": options.chunk_tokens,
        "modules": options.modules,
        "held_out": tuple(read_examples(options.held_out)) if options.held_out else None,
    }
    making = DraftOptions(
        **{field: value for field, value in given.items() if value is not None},  # type: ignore[arg-type]
        skip_failed=bool(options.skip_failed),
        with_text=not options.no_text,
        seed=training.settings.seed,
    )
    check_passes(passes)
    check_generator(options.generator or "local", workers=options.workers)
    refused = options.refused
    if refused is not None and not refused.absolute().parent.is_dir():
        raise UsageError(f"--refused {refused} must be a file in a folder that exists")
    limit = LIMIT_MB if options.limit_mb is None else options.limit_mb
    documents = read_source_documents(paths, encoding=options.encoding, limit_mb=limit)
    planned = check_documents(name, documents, making)
    with Store.open(bank) as store:
        if not training.replace:  # what is replaced may have been dealt out in another way
            check_free(store, planned, replace=False)
    return making, documents


def _made(material: "DocumentDrafts", refused: Path | None) -> str:
    outcome = material.synthesis
    rows = outcome_rows(outcome, None, refused)
    return "\n".join(f"{name:<18}{value}" for name, value in rows)


def _plan(
    material: "DocumentDrafts", settings: "TrainSettings", forecast: "Forecast | None"
) -> str:
    asked = sum(len(p.held_out) for parcel in material.modules for p in parcel.passages)
    names = ", ".join(parcel.name for parcel in material.modules[:5])
    more = ", …" if len(material.modules) > 5 else ""
    counts = [len(parcel.examples) for parcel in material.modules]
    recall = ""
    if forecast is not None:
        out = ", beyond what was measured" if forecast.extrapolated else ""
        recall = f", recall {forecast.recall:.0%} foreseen{out}"
    rows = [
        ("modules", f"{len(counts)} ({names}{more}), {sum(counts)} examples"),
        ("rank", f"{settings.r}{recall}"),
        ("held out", f"{asked} questions"),
    ]
    return "\n".join(f"{name:<18}{value}" for name, value in rows)
