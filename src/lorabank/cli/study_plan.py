"""The output of `lorabank study run --plan`: cells, fleets, and the time and money they take."""

import time
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from lorabank.cli.output import print_json, say

if TYPE_CHECKING:
    from lorabank.study.executor import ClusterSettings
    from lorabank.study.fleet_schedule import Forecast
    from lorabank.study.plan import StudySpec


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """The machines that a study is planned for."""

    cluster: "ClusterSettings | None"
    """None for this machine."""
    price_per_hour: float | None = None
    """Price of a worker's device, in any currency."""
    tflops: float | None = None
    """TFLOP/s of a worker in training; None for what is known of its kind."""


def require_ray() -> ModuleType:
    """Return the module that runs studies on Ray.

    Raises:
        UnavailableError: the package is not there.
    """
    from lorabank.errors import UnavailableError

    try:
        from lorabank.study import run_on_ray
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"--executor ray needs the package {error.name}; pip install 'lorabank[ray]' on every "
            "machine of the cluster"
        ) from None
    return run_on_ray


def show_plan(spec: "StudySpec", options: PlanOptions, *, as_json: bool) -> None:
    """Print what a study consists of, how long it takes, and on a cluster what that costs."""
    from lorabank.engine.models.registry import find_model
    from lorabank.planning.cost import FLOPS_PER_SECOND, read_shape
    from lorabank.study.kinds import find_kind, plan_fleets

    started = time.perf_counter()
    fleets, kind = plan_fleets(spec), find_kind(spec.kind)
    planning_s = time.perf_counter() - started
    shape = read_shape(find_model(spec.base).path)
    flops = [] if shape is None else [kind.flops(fleet.cells, shape) for fleet in fleets]
    total = sum(flops) / FLOPS_PER_SECOND if flops else None
    device, forecast = _forecast(flops, options)
    if as_json:
        print_json(
            {
                **spec.as_json(),
                "fleets": [[cell.name for cell in fleet.cells] for fleet in fleets],
                "estimated_seconds": total,
                "planned_in_seconds": planning_s,
                **({"device": device, "cluster": asdict(forecast)} if forecast else {}),
            }
        )
        return
    for number, fleet in enumerate(fleets):
        estimate = f", about {flops[number] / FLOPS_PER_SECOND / 60:.1f} min" if flops else ""
        say(f"fleet {fleet.number}: {len(fleet.cells)} cells{'' if forecast else estimate}")
        for cell in fleet.cells:
            say(f"  {cell.name}")
    if forecast is not None:
        _say_forecast(forecast, device, f"{len(spec.cells)} cells in {len(fleets)} fleets")
    elif total is not None:
        say(f"{len(spec.cells)} cells, about {total / 60:.0f} min on two CPU cores")


def _forecast(flops: list[float], options: PlanOptions) -> "tuple[str, Forecast | None]":
    """Return the device of a worker in words, and what a cluster takes; None without one."""
    from lorabank.errors import UsageError
    from lorabank.study.fleet_schedule import CORE_FLOPS, GPU_FLOPS, forecast_run

    for option, number in (
        ("--price-per-hour", options.price_per_hour),
        ("--tflops", options.tflops),
    ):
        if number is not None and options.cluster is None:
            raise UsageError(f"{option} is for --executor ray; add it, or leave {option} out")
        if number is not None and not 0 < number < float("inf"):
            raise UsageError(f"{option} takes a number above 0, got {number}")
    if options.cluster is None or not flops:
        return "", None
    workers, has_gpus = _workers(options.cluster)
    known = GPU_FLOPS if has_gpus else CORE_FLOPS * options.cluster.cores
    forecast = forecast_run(
        flops,
        workers=workers,
        flops_per_second=known if options.tflops is None else options.tflops * 1e12,
        price_per_hour=options.price_per_hour,
    )
    cores = options.cluster.cores
    return "1 GPU" if has_gpus else f"{cores} core{'' if cores == 1 else 's'}", forecast


def _workers(cluster: "ClusterSettings") -> tuple[int, bool]:
    """Return the number of workers and whether they have GPUs, by the options or by the cluster."""
    if cluster.workers is not None and cluster.device is not None:
        return cluster.workers, cluster.device.startswith("cuda")
    require_ray()
    from lorabank.study.cluster import connected, count_workers, uses_gpus

    with connected(cluster):
        return count_workers(cluster), uses_gpus(cluster)


def _say_forecast(forecast: "Forecast", device: str, what: str) -> None:
    price = "" if forecast.price is None else f", {forecast.price:,.2f} in money"
    say(
        f"{what}, {forecast.workers} workers of {device}: about {forecast.hours:.2f} h, "
        f"{forecast.hours * forecast.workers:.2f} device-hours ({forecast.busy:.0%} of them "
        f"busy){price}"
    )
