"""`lorabank study`: lists studies, runs and resumes them, draws their results."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabank.cli.options import command
from lorabank.cli.output import Device, Json, Track, print_json, print_table, say, status
from lorabank.cli.study_plan import PlanOptions, require_ray, show_plan
from lorabank.cli.track import study_tracking

if TYPE_CHECKING:
    from lorabank.study.executor import ClusterSettings
    from lorabank.study.plan import StudySpec

app = typer.Typer(
    help="Studies: list, run, resume, report.", no_args_is_help=True, rich_markup_mode=None
)
Name = Annotated[str, typer.Argument(help="A study's name (study list) or a .toml file.")]
Folder = Annotated[Path, typer.Argument(help="Results folder of a study.")]
Executor = Annotated[
    str,
    typer.Option(
        help="local, or workers of Ray: ray (started here), ray:auto, ray:HOST:PORT. Needs "
        "lorabank[ray] and --out on a folder that all machines share."
    ),
]
Workers = Annotated[
    int | None, typer.Option(help="Workers of Ray; by default as many as there is room for.")
]
Cores = Annotated[
    int | None,
    typer.Option("--cores-per-worker", help="Cores, and threads, of a worker; by default 1."),
]


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
    executor: Executor = "local"
    workers: Workers = None
    cores: Cores = None
    price: Annotated[
        float | None,
        typer.Option("--price-per-hour", help="With --plan: price of a worker's device."),
    ] = None
    tflops: Annotated[
        float | None,
        typer.Option(help="With --plan: what a worker computes in training, in TFLOP/s."),
    ] = None
    track: Track = None
    json: Json = False


def run(options: StudyOptions) -> None:
    """Run a study, or what is missing of it.

    Example: lorabank study run capacity --preset smoke
    """
    from lorabank.errors import UsageError
    from lorabank.integrations.trackers import check_tracker
    from lorabank.study.spec import load_study

    changes = options.changes or []
    spec = load_study(options.study, preset=options.preset, base=options.base, changes=changes)
    cluster = _cluster(options.executor, options.workers, options.cores, options.device)
    if options.only_plan:
        show_plan(spec, PlanOptions(cluster, options.price, options.tflops), as_json=options.json)
        return
    if options.price is not None or options.tflops is not None:
        raise UsageError("--price-per-hour and --tflops are for --plan; add it, or leave them out")
    if options.search is not None and cluster is not None:
        raise UsageError("--search runs in this process; leave --executor out, or run the grid")
    if options.search is not None and options.track is not None:
        raise UsageError("--track is told the cells of the grid; leave out --search or --track")
    check_tracker(options.track)
    name = f"{spec.name}-{spec.preset}" + ("" if options.search is None else "-search")
    folder = options.out or Path("out") / "studies" / name
    if options.search is None:
        how = {"device": options.device, "track": options.track}
        _run(spec, folder, cluster, **how, as_json=options.json)
    else:
        _search(spec, folder, options.search, options)


app.command("run")(command(run))


@app.command()
def resume(
    folder: Folder,
    device: Device = None,
    executor: Executor = "local",
    workers: Workers = None,
    cores: Cores = None,
    json: Json = False,
) -> None:
    """Continue the study in a folder, with the spec it was started with.

    Example: lorabank study resume out/studies/capacity-smoke
    """
    from lorabank.study.folder import StudyFolder

    cluster = _cluster(executor, workers, cores, device)
    spec = StudyFolder(folder).study()
    _run(spec, folder, cluster, device=device, track=None, as_json=json)


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


@app.command()
def guide(
    folder: Annotated[
        Path, typer.Argument(help="A folder of studies, one study, or its results.")
    ] = Path("studies"),
    out: Annotated[
        Path | None, typer.Option(help="Write the page, as Markdown, to this file.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what the cells of studies decide in practice: each choice with its evidence.

    Example: lorabank study guide studies --out docs/guidance.md
    """
    from lorabank.files import storage_errors, write_atomically
    from lorabank.report.guidance.page import as_json, compare_all, guidance_page, read_cells

    comparisons = compare_all(read_cells(folder))
    page = guidance_page(comparisons)
    if out is not None:
        with storage_errors(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(out, page)
    if json:
        print_json({"comparisons": [as_json(comparison) for comparison in comparisons]})
    elif out is None:
        say(page)
    else:
        n_decided = sum(comparison.winner is not None for comparison in comparisons)
        say(f"{n_decided} of {len(comparisons)} comparisons decide, in {out}")


def _cluster(
    executor: str, workers: int | None, cores: int | None, device: str | None
) -> "ClusterSettings | None":
    """Return the cluster that the options name, None for this process.

    Raises:
        UsageError: an executor of no known form, or options of Ray without it.
    """
    from lorabank.errors import UsageError
    from lorabank.study.executor import ClusterSettings, parse_executor

    address = parse_executor(executor)
    if address is not None:
        more = {} if cores is None else {"cores": cores}
        return ClusterSettings(address=address, workers=workers, device=device, **more)
    if workers is not None or cores is not None:
        raise UsageError("--workers and --cores-per-worker are for --executor ray; add it")
    return None


def _run(
    spec: "StudySpec",
    folder: Path,
    cluster: "ClusterSettings | None",
    *,
    device: str | None,
    track: str | None,
    as_json: bool,
) -> None:
    from lorabank.study.folder import StudyFolder
    from lorabank.study.run import run_study

    study = StudyFolder(folder)
    run_on_ray = None if cluster is None else require_ray().run_study_on_ray
    _show_start(spec, folder)
    with study_tracking(track, spec, study) as on_line:
        if cluster is not None and run_on_ray is not None:
            outcome = run_on_ray(spec, study, cluster, on_line=on_line)
        else:
            outcome = run_study(spec, study, device=device, on_line=on_line)
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
