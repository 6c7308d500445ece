"""A run that was killed goes on where it was and ends as if it had not been."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lorabank.engine.backbone.base import Base, load_info
from lorabank.engine.learn import plan_job
from lorabank.engine.models.registry import find_model
from lorabank.engine.settings import PAPER, SOUND
from lorabank.engine.training.checkpoint import CheckpointSettings
from lorabank.engine.training.job_progress import Progress
from lorabank.engine.training.jobs import Job, Outcome
from lorabank.engine.training.progress import FleetProgress
from lorabank.engine.training.train import FleetSettings, train
from lorabank.errors import StorageError, UsageError
from lorabank.tasks.examples import from_pair

QUICK = replace(SOUND, lr=5e-3, exposures=6, until_recall=None, batch_size=4)
KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from tests.engine import test_checkpoint as here
torch.set_num_threads(1)
base = here.load(Path(sys.argv[1]))
def stop(progress):
    if progress.done == 2 and progress.jobs[2].exposures > 1:
        os.kill(os.getpid(), signal.SIGKILL)
here.train(base, here.jobs_of_all_kinds(base), fleet_settings=here.FleetSettings(2),
           checkpoint=here.CheckpointSettings(Path(sys.argv[2]), every_s=0.0), on_round=stop)
"""


class Cut(Exception):
    """Stands for whatever ends a process half-way."""


def load(folder: Path) -> Base:
    """With nothing on its shelves."""
    return load_info(find_model(str(folder)), dtype="float32", device="cpu")


def jobs_of_all_kinds(base: Base) -> list[Job]:
    """Two share their questions with others; lengths, ranks, layers and recipes differ."""
    kinds = [
        (9, 0, replace(QUICK, r=2, exposures=3)),
        (6, 0, replace(QUICK, variant="pissa", r=3, dropout=0.2)),
        (5, 9, replace(QUICK, layers=(1,), exposures=200, until_recall=0.4)),
        (7, 4, replace(PAPER, steps=9, batch_size=3, lr=1e-3)),
        (4, 20, replace(QUICK, variant="frozen-a", weight_decay=0.1, schedule="cosine")),
    ]
    return [
        plan_job(
            base,
            [from_pair(f"What is{' really' * (i % 3)} {i}?", f"{i * 7}") for i in range(s, s + n)],
            settings,
            name=f"job {number}",
        )
        for number, (n, s, settings) in enumerate(kinds)
    ]


def assert_same(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert replace(one, weights={}) == replace(other, weights={})
        assert one.weights.keys() == other.weights.keys()
        for path, pair in one.weights.items():
            assert all(map(torch.equal, pair, other.weights[path])), (one.job.name, path)


def test_a_killed_run_goes_on_and_ends_the_same(tiny: Base, tmp_path: Path):
    folder, root = tmp_path / "half", Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tiny.info.path), str(folder)],
        cwd=root,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert (folder / "fleet.safetensors").exists()
    seen: list[FleetProgress] = []
    base = load(tiny.info.path)
    resumed = train(
        base,
        jobs_of_all_kinds(base),
        checkpoint=CheckpointSettings(folder, every_s=0),
        on_round=seen.append,
    )
    assert seen[0].done >= 1  # it did not start over
    assert not folder.exists()
    base = load(tiny.info.path)
    jobs = jobs_of_all_kinds(base)
    assert_same(
        resumed,
        [replace(o, job=o.job) for o in train(base, jobs, fleet_settings=FleetSettings(width=2))],
    )


@pytest.mark.parametrize("at", [1, 5, 10, 16])
def test_cut_anywhere_it_ends_the_same(tiny: Base, tmp_path: Path, at: int):
    jobs, rounds = jobs_of_all_kinds(tiny), 0
    whole = train(tiny, jobs, fleet_settings=FleetSettings(width=3))

    def cut(_: FleetProgress) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == at:
            raise Cut

    base = load(tiny.info.path)
    with pytest.raises(Cut):
        train(
            base,
            jobs,
            fleet_settings=FleetSettings(width=3),
            checkpoint=CheckpointSettings(tmp_path, every_s=0),
            on_round=cut,
        )
    base = load(tiny.info.path)
    assert_same(
        train(
            base,
            jobs,
            fleet_settings=FleetSettings(width=3),
            checkpoint=CheckpointSettings(tmp_path),
        ),
        whole,
    )


def test_progress_survives_a_file(tiny: Base):
    progress = Progress(plan_job(tiny, [from_pair(f"{i}?", f"{i}") for i in range(9)], QUICK))
    for _ in range(4):
        progress.record(examples=len(progress.next_batch()), tokens=3, hits=1, loss=0.1 + 0.2)
    copy = Progress.from_json(progress.job, progress.as_json())
    assert copy.as_json() == progress.as_json()
    assert [copy.next_batch() for _ in range(7)] == [progress.next_batch() for _ in range(7)]


def half_way(base: Base, jobs: Sequence[Job], folder: Path) -> None:
    """Leave a checkpoint of the first rounds."""
    rounds: list[FleetProgress] = []

    def cut(progress: FleetProgress) -> None:
        rounds.append(progress)
        if len(rounds) == 3:
            raise Cut

    with pytest.raises(Cut):
        train(
            base,
            jobs,
            fleet_settings=FleetSettings(width=2),
            checkpoint=CheckpointSettings(folder, every_s=0),
            on_round=cut,
        )


def test_a_checkpoint_of_others_is_refused_with_what_differs(tiny: Base, tmp_path: Path):
    jobs = jobs_of_all_kinds(tiny)
    half_way(tiny, jobs, tmp_path)
    faster = replace(jobs[1], settings=replace(jobs[1].settings, lr=0.01))
    other = plan_job(tiny, [from_pair("a", "b")], jobs[0].settings, name="job 0")
    for changed, says in [
        (jobs[:4], "it has 5 jobs, this run 4"),
        ([jobs[0], faster, *jobs[2:]], "its job 'job 1' has lr 0.005, here it is 0.01"),
        ([other, *jobs[1:]], "its job 'job 0' has other examples"),
        ([replace(jobs[0], name="x"), *jobs[1:]], "its job 1 is 'job 0', here it is 'x'"),
        ([jobs[0], replace(jobs[1], paths=jobs[1].paths[:3]), *jobs[2:]], "has other layers"),
    ]:
        with pytest.raises(UsageError, match=f"is of another run: .*{says}"):
            train(tiny, changed, checkpoint=CheckpointSettings(tmp_path))
    with pytest.raises(UsageError, match=r"--width 4: the checkpoint was made with width 2"):
        train(
            tiny,
            jobs,
            fleet_settings=FleetSettings(width=4),
            checkpoint=CheckpointSettings(tmp_path),
        )
    tiny.info = replace(tiny.info, sha256="f" * 64)
    with pytest.raises(UsageError, match=r"it has base [0-9a-f]{12}, this run f{12}"):
        train(tiny, jobs, checkpoint=CheckpointSettings(tmp_path))


def test_a_damaged_checkpoint_is_said_to_be_one(tiny: Base, tmp_path: Path):
    jobs = jobs_of_all_kinds(tiny)
    half_way(tiny, jobs, tmp_path)
    state = tmp_path / "fleet.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(StorageError, match=r"cannot be read: .*remove the folder to start over"):
        train(tiny, jobs, checkpoint=CheckpointSettings(tmp_path))


def test_a_folder_that_cannot_be_made_is_refused(tiny: Base, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        train(tiny, jobs_of_all_kinds(tiny), checkpoint=CheckpointSettings(tmp_path / "file"))


def test_ctrl_c_leaves_the_checkpoint_and_the_end_leaves_others_files(tiny: Base, tmp_path: Path):
    jobs = jobs_of_all_kinds(tiny)[:1]
    (tmp_path / "notes.txt").write_text("mine")

    def stop(progress: Progress) -> None:
        if progress.steps == 4:
            raise KeyboardInterrupt

    stopped = train(tiny, jobs, checkpoint=CheckpointSettings(tmp_path, every_s=0), on_step=stop)
    assert stopped[0].stopped == "interrupted"
    assert (tmp_path / "fleet.safetensors").exists()
    assert train(tiny, jobs, checkpoint=CheckpointSettings(tmp_path))[0].stopped == "budget"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("kind", [Path, str])
def test_a_checkpoint_may_be_a_plain_path(tiny: Base, tmp_path: Path, kind: type):
    jobs = jobs_of_all_kinds(tiny)[:1]
    outcomes = train(tiny, jobs, checkpoint=CheckpointSettings(tmp_path / "run", keep=True))
    steps: list[Progress] = []
    resumed = train(tiny, jobs, checkpoint=kind(tmp_path / "run"), on_step=steps.append)
    assert not steps  # the outcomes were read from the folder
    assert_same(resumed, outcomes)
    assert not (tmp_path / "run").exists()
