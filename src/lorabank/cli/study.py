"""`lorabank study`: questions in, results and a page out."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.output import Device, Json, print_json, status

if TYPE_CHECKING:
    from lorabank.study.plan import StudySpec

app = typer.Typer(
    help="Studies: list, run, resume, report.", no_args_is_help=True, rich_markup_mode=None
)
Name = Annotated[str, typer.Argument(help="A study's name (study list) or a .toml file.")]
Folder = Annotated[Path, typer.Argument(help="Results folder of a study.")]


@app.command("list")
def list_(json: Json = False) -> None:
    """Studies that come with lorabank, and their presets.

    Example: lorabank study list
    """
    from lorabank.study.spec import list_studies

    found = list_studies()
    if json:
        print_json({"studies": found})
        return
    for name, one in found.items():
        print(f"{name:<14}{one['title']}  ({', '.join(one['presets'])})")


@app.command()
def run(
    study: Name,
    preset: Annotated[
        str | None, typer.Option(help="Scale: smoke, cpu, gpu or paper; by default cpu.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="Another base model than the preset's.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value, or key=v1,v2 for an axis; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Results folder; by default out/studies/NAME-PRESET.")
    ] = None,
    only_plan: Annotated[bool, typer.Option("--plan", help="Print the cells and stop.")] = False,
    search: Annotated[
        float | None,
        typer.Option(help="Find where recall falls below this by bisection, not by the grid."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="With --search: results of the whole grid to check with.")
    ] = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Run a study, or what is missing of it.

    Example: lorabank study run capacity --preset smoke
    """
    from lorabank.study.spec import load_study

    spec = load_study(study, preset=preset, base=base, changes=changes or [])
    if only_plan:
        _show_plan(spec, as_json=json)
        return
    folder = out or Path("out") / "studies" / (
        f"{spec.name}-{spec.preset}" + ("" if search is None else "-search")
    )
    _run(spec, folder, search=search, against=against, device=device, as_json=json)


@app.command()
def resume(folder: Folder, device: Device = None, json: Json = False) -> None:
    """Go on with the study in a folder, with the spec it was started with.

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
    from lorabank.study.folder import StudyFolder, write_json

    studies = [StudyFolder(folder) for folder in folders]
    specs = [study.study() for study in studies]
    names = [
        (study, cell.name)
        for study, spec in zip(studies, specs, strict=True)
        for cell in spec.cells
    ]
    missing = [name for study, name in names if study.read(name) is None]
    if missing:
        status(f"{len(missing)} of {len(names)} cells are missing, such as {missing[0]}")
    results = read_results(studies)
    n_cells = sum(len(study.cells) for study in results)
    page = write_report(results, out or folders[0] / "report")
    if points is not None:
        write_json(points, condense(*studies).as_json())
    if json:
        print_json({"page": str(page), "cells": n_cells, "missing": missing})
    else:
        print(f"{n_cells} cells in {page}")


def _run(
    spec: "StudySpec",
    folder: Path,
    *,
    device: str | None,
    as_json: bool,
    search: float | None = None,
    against: Path | None = None,
) -> None:
    from lorabank.study.capacity.search import search_study
    from lorabank.study.folder import StudyFolder
    from lorabank.study.run import run_study

    status(f"{spec.name} ({spec.preset}): {len(spec.cells)} cells on {spec.base}, in {folder}")
    if search is None:
        done = run_study(spec, StudyFolder(folder), device=device, on_line=status)
        answer = asdict(done)
        text = f"{done.trained} of {done.cells} cells trained now, in {done.seconds:.0f} s"
    else:
        found = search_study(
            spec,
            StudyFolder(folder),
            threshold=search,
            against=against,
            device=device,
            on_line=status,
        )
        answer = found
        text = f"{found['trained']} of {found['grid']} cells told where recall falls below {search}"
    if as_json:
        print_json({"folder": str(folder), **answer})
    else:
        print(f"{text}\nreport: lorabank study report {folder}")


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
    for fleet, about in zip(fleets, seconds, strict=True):
        guess = "" if about is None else f", about {about / 60:.1f} min"
        print(f"fleet {fleet.number}: {len(fleet.cells)} cells{guess}")
        for cell in fleet.cells:
            print(f"  {cell.name}")
    if total is not None:
        print(f"{len(spec.cells)} cells, about {total / 60:.0f} min on two CPU cores")
