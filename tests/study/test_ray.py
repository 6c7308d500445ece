"""Studies on a Ray cluster: the same cells as in one process, whatever is lost on the way."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorabank.cli.study_plan import require_ray
from lorabank.errors import UnavailableError, UsageError
from lorabank.study.executor import ClusterSettings, parse_executor
from lorabank.study.fleet_schedule import forecast_run
from lorabank.study.folder import StudyFolder
from lorabank.study.kinds import plan_fleets
from lorabank.study.node_state import inspect_node
from lorabank.study.run import run_study
from lorabank.study.spec import StudySpec, load_study

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
pytest.importorskip("ray", reason="needs the extra lorabank[ray]")

import ray
from ray.cluster_utils import Cluster

from lorabank.study import cluster as machines
from lorabank.study import run_on_ray
from lorabank.study.fleet_worker import FleetWorker, WorkerSettings, read_note
from lorabank.study.run_on_ray import run_study_on_ray

NODE = {"object_store_memory": 80 * 1024**2}
CHANGES = ["facts=8,16", "seed=0,1", "width=2", "exposures=40"]
LINE = re.compile(r"fleet (\d) of 4: .*, on (\S+) \(process (\d+)\)")


@pytest.fixture(scope="module")
def cluster(_cache: None) -> Iterator[Cluster]:
    """Three machines, as far as Ray knows: the head without a core, and two with one each."""
    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": False,
            "node_ip_address": "127.0.0.2",
            "_system_config": {"health_check_period_ms": 500, "health_check_failure_threshold": 4},
            **NODE,
        },
    )
    for last in (3, 4):
        made.add_node(num_cpus=1, node_ip_address=f"127.0.0.{last}", **NODE)
    yield made
    made.shutdown()


@pytest.fixture
def settings(cluster: Cluster) -> ClusterSettings:
    return ClusterSettings(address=cluster.address, device="cpu")


@pytest.fixture
def spec() -> StudySpec:
    return load_study("capacity", preset="smoke", changes=CHANGES)


def contents(folder: Path) -> dict[str, dict[str, Any]]:
    """Cells without what they cost: seconds and the peak of memory, and the hash over all."""
    cells = StudyFolder(folder).cells()
    return {cell.name: cell.model_dump(exclude={"cost"}) for cell in cells}


def wait_for(is_so: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < limit
        time.sleep(0.01)


class Misfortune:
    """Kills the first worker once its fleet has a checkpoint, and then takes a machine away."""

    def __init__(self, folder: Path, cluster: Cluster):
        self.folder, self.cluster = folder, cluster
        self.lines: list[str] = []
        self.hit: list[str] = []  # numbers of fleets
        self.spared = ""  # the machine that is left for all

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if len(self.hit) == 2 or not (match := LINE.fullmatch(line)) or match[1] in self.hit:
            return
        number, address, process = match.groups()
        if address == self.spared:
            return
        checkpoint = self.folder / "fleets" / number / "fleet.safetensors"
        wait_for(checkpoint.exists)
        self.hit.append(number)
        if len(self.hit) == 1:
            self.spared = address
            os.kill(int(process), signal.SIGKILL)
            return
        (node,) = (n for n in self.cluster.worker_nodes if n.node_ip_address == address)
        self.cluster.remove_node(node, allow_graceful=False)


def test_a_worker_killed_and_a_machine_lost_change_no_cell(
    cluster: Cluster,
    settings: ClusterSettings,
    spec: StudySpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    run_study(spec, StudyFolder(tmp_path / "local"), device="cpu")
    monkeypatch.setattr(run_on_ray, "_EVERY_S", 0.2)
    misfortune = Misfortune(tmp_path / "ray", cluster)
    report = run_study_on_ray(
        spec,
        StudyFolder(tmp_path / "ray"),
        settings,
        on_line=misfortune,
        checkpoint_every_s=0.0,
    )
    assert report.trained == len(spec.cells)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    resumed = [line for line in misfortune.lines if line.endswith("checkpoint of a lost worker")]
    assert {line.split()[1] for line in resumed} == set(misfortune.hit)
    assert len(misfortune.hit) == 2
    assert not (tmp_path / "ray" / "fleets").exists()
    said = capsys.readouterr()
    assert "Task FleetWorker.run failed" in said.err  # Ray's own words, not among answers
    assert not said.out


def test_a_fleet_whose_workers_keep_dying_is_refused(spec: StudySpec, tmp_path: Path):
    folder, settings = StudyFolder(tmp_path), WorkerSettings("cpu", 1, 60.0, Path.cwd(), 2)
    worker = FleetWorker(replace(spec, base="no-such-base"), tmp_path, settings)
    for tries in (1, 2):
        with pytest.raises(UsageError, match=r"no model .no-such-base."):
            worker.run(1)
        assert read_note(folder, 1)["tries"] == tries
    with pytest.raises(
        UnavailableError, match=r"fleet 1 of 4: started and lost its worker 2 times"
    ):
        worker.run(1)


def test_an_error_of_a_worker_is_raised_here(
    settings: ClusterSettings, spec: StudySpec, tmp_path: Path
):
    class Refusing:
        def run(self, number: int) -> None:
            raise UsageError(f"fleet {number} is refused")

    run = run_on_ray.RayRun(spec, StudyFolder(tmp_path), settings, print, 60.0)
    with machines.connected(settings), pytest.raises(UsageError, match=r"^fleet 3 is refused$"):
        list(run.reports([ray.remote(Refusing).remote()], plan_fleets(spec)[2:]))


def test_more_workers_than_there_is_room_for_are_refused(
    settings: ClusterSettings, spec: StudySpec, tmp_path: Path
):
    many = replace(settings, workers=5)
    with pytest.raises(UsageError, match=r"room for [12] workers with 1 cores, got 5"):
        run_study_on_ray(spec, StudyFolder(tmp_path / "out"), many)
    wide = replace(settings, cores=3)
    with pytest.raises(UsageError, match="room for 0 workers with 3 cores, got 1"):
        run_study_on_ray(spec, StudyFolder(tmp_path / "out"), wide)


def test_a_machine_without_the_base_is_named(
    settings: ClusterSettings, spec: StudySpec, tmp_path: Path
):
    other = replace(spec, base="smollm2-135m")  # the cache of this test has none
    match = r"(?s)machine 127\.0\.0\.[34] .* has no base smollm2-135m: .*lorabank models pull"
    with pytest.raises(UnavailableError, match=match):
        run_study_on_ray(other, StudyFolder(tmp_path / "out"), settings)


def test_a_machine_without_this_lorabank_is_named(
    cluster: Cluster, settings: ClusterSettings, spec: StudySpec, tmp_path: Path
):
    (tmp_path / "old" / "lorabank").mkdir(parents=True)
    (tmp_path / "old" / "lorabank" / "__init__.py").write_text('__version__ = "0.0.1"\n')
    variables = {"PYTHONPATH": str(tmp_path / "old")}
    node = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.5", env_vars=variables, **NODE)
    try:
        match = r"machine 127\.0\.0\.5 .* has no lorabank that can be used \(No module named"
        with pytest.raises(UnavailableError, match=match):
            run_study_on_ray(spec, StudyFolder(tmp_path / "out"), settings)
    finally:
        cluster.remove_node(node)


def test_a_machine_that_does_not_see_the_folder_is_named(tmp_path: Path):
    run = StudyFolder(tmp_path)
    run.claim(load_study("capacity", preset="smoke"))
    seal = (tmp_path / "study.json").read_text()
    state = inspect_node((), tmp_path, seal, tmp_path / "of another machine")
    machines.check_state(state, "machine 1", tmp_path)
    state = inspect_node((), tmp_path, f"{seal} of another run", tmp_path)
    with pytest.raises(UnavailableError, match=r"machine 1 does not see .* share with --out"):
        machines.check_state(state, "machine 1", tmp_path)
    state = replace(state, code="0" * 64)
    with pytest.raises(UnavailableError, match="machine 1 has a lorabank with other source"):
        machines.check_state(state, "machine 1", tmp_path)


def test_an_address_that_does_not_answer_is_told_at_once(spec: StudySpec, tmp_path: Path):
    started = time.monotonic()
    for address, match in (("127.0.0.1:1", "nothing answers"), ("no.such.host:6379", "nothing")):
        with pytest.raises(UnavailableError, match=match):
            run_study_on_ray(spec, StudyFolder(tmp_path / "out"), ClusterSettings(address=address))
    assert time.monotonic() - started < 30


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch):
    for module in ("run_on_ray", "cluster", "fleet_worker"):
        monkeypatch.delitem(sys.modules, f"lorabank.study.{module}")
    monkeypatch.delattr("lorabank.study.run_on_ray")
    monkeypatch.setitem(sys.modules, "ray", None)  # what Python itself does for "not there"
    with pytest.raises(
        UnavailableError, match=r"needs the package ray; pip install 'lorabank\[ray"
    ):
        require_ray()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("local", None),
        ("ray", "local"),
        ("ray:auto", "auto"),
        ("ray:10.0.0.1:6379", "10.0.0.1:6379"),
    ],
)
def test_executors(text: str, address: str | None):
    assert parse_executor(text) == address


@pytest.mark.parametrize("text", ["", "dask", "ray:", "ray:host", "ray:host:0", "ray:host:99999"])
def test_other_executors_are_refused(text: str):
    with pytest.raises(UsageError, match="--executor is local, ray, ray:auto or ray:HOST:PORT"):
        parse_executor(text)


def test_the_client_of_ray_is_refused():
    with pytest.raises(UsageError, match="give HOST:PORT of its head"):
        parse_executor("ray:ray://10.0.0.1:10001")


@pytest.mark.parametrize("options", [{"workers": 0}, {"cores": 0}])
def test_numbers_below_one_are_refused(options: dict[str, int]):
    with pytest.raises(UsageError, match="must be 1 or more, got 0"):
        ClusterSettings(address="auto", **options)


def test_a_forecast_ends_with_the_last_fleet_and_all_workers_are_paid_until_then():
    hour = 3600.0
    forecast = forecast_run(
        [2 * hour, hour, hour, hour], workers=2, flops_per_second=1.0, price_per_hour=3.0
    )
    assert forecast.hours == pytest.approx(3.0)  # 2 + 1 beside 1 + 1
    assert forecast.price == pytest.approx(18.0)
    assert forecast.busy == pytest.approx(5 / 6)
    many = forecast_run([hour], workers=8, flops_per_second=1.0, price_per_hour=None)
    assert (many.hours, many.busy, many.price) == (1.0, 1 / 8, None)
