"""`lorabank study`: lists studies, runs and resumes them, draws their results."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabank.cli.options import command
from lorabank.cli.output import Device, Json, print_json, print_table, say, status

if TYPE_CHECKING:
    from lorabank.study.plan import StudySpec

app = typer.Typer(
    help="Studies: list, run, resume, report.", no_args_is_help=True, rich_markup_mode=None
)
Name = Annotated[str, typer.Argument(help="A study's name (study list) or a .toml file.")]
Folder = Annotated[Path, typer.Argument(help="Results folder of a study.")]


@app.command("list")
def list_(json: Json = False) -> None:
    """List the studies that come with lorabank, and their presets.

    Example: lorabank study list
    """
    from lorabank.study.catalogue import list_studies

    studies = list_studies()
    if json:
        print_json({"studies": studies})
        return
    for name, study in studies.items():
        say(f"{name:<14}{study['title']}  ({', '.join(study['presets'])})")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOptions:
    """The options of `lorabank study run`."""

    study: Name
    preset: Annotated[
        str | None, typer.Option(help="Scale: smoke, cpu, gpu or paper; by default cpu.")
    ] = None
    base: Annotated[str | None, typer.Option(help="Another base model than the preset's.")] = None
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value, or key=v1,v2 for an axis; may be repeated."),
    ] = None
    out: Annotated[
        Path | None, typer.Option(help="Results folder; by default out/studies/NAME-PRESET.")
    ] = None
    only_plan: Annotated[bool, typer.Option("--plan", help="Print the cells and stop.")] = False
    search: Annotated[
        float | None,
        typer.Option(help="Find where recall falls below this by bisection, not by the grid."),
    ] = None
    against: Annotated[
        Path | None, typer.Option(help="With --search: results of the whole grid to check with.")
    ] = None
    device: Device = None
    json: Json = False


def run(options: StudyOptions) -> None:
    """Run a study, or what is missing of it.

    Example: lorabank study run capacity --preset smoke
    """
    from lorabank.study.spec import load_study

    changes = options.changes or []
    spec = load_study(options.study, preset=options.preset, base=options.base, changes=changes)
    if options.only_plan:
        _show_plan(spec, as_json=options.json)
        return
    name = f"{spec.name}-{spec.preset}" + ("" if options.search is None else "-search")
    folder = options.out or Path("out") / "studies" / name
    if options.search is None:
        _run(spec, folder, device=options.device, as_json=options.json)
    else:
        _search(spec, folder, options.search, options)


app.command("run")(command(run))


@app.command()
def resume(folder: Folder, device: Device = None, json: Json = False) -> None:
    """Continue the study in a folder, with the spec it was started with.

    Example: lorabank study resume out/studies/capacity-smoke
    """
    from lorabank.study.folder import StudyFolder

    _run(StudyFolder(folder).study(), folder, device=device, as_json=json)


@app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Results folders; several become one page.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the page; by default report in the first.")
    ] = None,
    points: Annotated[
        Path | None, typer.Option(help="Also write what `lorabank plan` goes by, as JSON.")
    ] = None,
    json: Json = False,
) -> None:
    """Draw a study's results: one HTML page, PNGs, and all their numbers as JSON.

    Example: lorabank study report out/studies/capacity-smoke
    """
    from lorabank.report.page import write_report
    from lorabank.report.study_results import read_results
    from lorabank.study.capacity.condense import condense
    from lorabank.study.folder import StudyFolder
    from lorabank.study.sealed_json import write_json

    studies = [StudyFolder(folder) for folder in folders]
    planned = [(study, cell.name) for study in studies for cell in study.study().cells]
    missing = [name for study, name in planned if study.read(name) is None]
    if missing:
        status(f"{len(missing)} of {len(planned)} cells are missing, such as {missing[0]}")
    results = read_results(studies)
    n_cells = sum(len(study.cells) for study in results)
    page = write_report(results, out or folders[0] / "report")
    if points is not None:
        write_json(points, condense(*studies).as_json())
    if json:
        print_json({"page": str(page), "cells": n_cells, "missing": missing})
    else:
        say(f"{n_cells} cells in {page}")


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="A folder of committed studies, or one study.")],
    json: Json = False,
) -> None:
    """Compare report.json with the cells, and the numbers that README.md quotes with report.json.

    Ends with status 1 where any differ. Example: lorabank study check studies
    """
    from lorabank.report.study_check import check_studies

    checks = check_studies(folder)
    if json:
        print_json({"studies": [asdict(check) for check in checks]})
    else:
        print_table(
            ["study", "reports", "numbers checked", "without a reference", "faults"],
            [
                [c.study, *map(str, counts), str(len(c.faults))]
                for c in checks
                for counts in [(c.n_reports, c.n_checked, len(c.without_reference))]
            ],
            left=["study"],
        )
        for result in checks:
            for fault in result.faults:
                say(f"{result.study}: {fault}")
    if any(result.faults for result in checks):
        raise typer.Exit(1)


def _run(spec: "StudySpec", folder: Path, *, device: str | None, as_json: bool) -> None:
    from lorabank.study.folder import StudyFolder
    from lorabank.study.run import run_study

    _show_start(spec, folder)
    outcome = run_study(spec, StudyFolder(folder), device=device, on_line=status)
    text = f"{outcome.trained} of {outcome.cells} cells trained now, in {outcome.seconds:.0f} s"
    _show_end(folder, asdict(outcome), text, as_json=as_json)


def _search(spec: "StudySpec", folder: Path, threshold: float, options: StudyOptions) -> None:
    from lorabank.study.capacity.search import search_study
    from lorabank.study.folder import StudyFolder

    _show_start(spec, folder)
    outcome = search_study(
        spec,
        StudyFolder(folder),
        threshold=threshold,
        against=options.against,
        device=options.device,
        on_line=status,
    )
    n_trained, n_cells = outcome["trained"], outcome["grid"]
    text = f"{n_trained} of {n_cells} cells show where recall falls below {threshold}"
    _show_end(folder, outcome, text, as_json=options.json)


def _show_start(spec: "StudySpec", folder: Path) -> None:
    status(f"{spec.name} ({spec.preset}): {len(spec.cells)} cells on {spec.base}, in {folder}")


def _show_end(folder: Path, outcome: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"folder": str(folder), **outcome})
    else:
        say(text)
        say(f"report: lorabank study report {folder}")


def _show_plan(spec: "StudySpec", *, as_json: bool) -> None:
    from lorabank.engine.models.registry import find_model
    from lorabank.planning.cost import read_shape
    from lorabank.study.kinds import find_kind, plan_fleets

    started = time.perf_counter()
    fleets, kind = plan_fleets(spec), find_kind(spec.kind)
    planning_s = time.perf_counter() - started
    shape = read_shape(find_model(spec.base).path)
    seconds = [None if shape is None else kind.estimate(fleet.cells, shape) for fleet in fleets]
    total = None if shape is None else sum(s for s in seconds if s is not None)
    if as_json:
        print_json(
            {
                **spec.as_json(),
                "fleets": [[cell.name for cell in fleet.cells] for fleet in fleets],
                "estimated_seconds": total,
                "planned_in_seconds": planning_s,
            }
        )
        return
    for fleet, fleet_s in zip(fleets, seconds, strict=True):
        estimate = "" if fleet_s is None else f", about {fleet_s / 60:.1f} min"
        say(f"fleet {fleet.number}: {len(fleet.cells)} cells{estimate}")
        for cell in fleet.cells:
            say(f"  {cell.name}")
    if total is not None:
        say(f"{len(spec.cells)} cells, about {total / 60:.0f} min on two CPU cores")
