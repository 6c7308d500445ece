"""A killed run resumes where it was, to the result it would have had."""

import os
import shutil
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
from lorabank.engine.settings import PAPER, PLAIN
from lorabank.engine.training.checkpoint import CheckpointSettings
from lorabank.engine.training.job_progress import Progress
from lorabank.engine.training.jobs import Job, Outcome
from lorabank.engine.training.progress import FleetProgress
from lorabank.engine.training.train import FleetSettings, train
from lorabank.errors import StorageError, UsageError
from lorabank.tasks.examples import from_pair

QUICK = replace(PLAIN, lr=5e-3, exposures=6, until_recall=None, batch_size=4)
RUN_UNTIL_KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from tests.engine import test_checkpoint as tests
torch.set_num_threads(1)
base = tests.load(Path(sys.argv[1]))
def stop(progress):
    if progress.done == 2 and progress.jobs[2].exposures > 1:
        os.kill(os.getpid(), signal.SIGKILL)
tests.train(base, tests.jobs_of_all_kinds(base), fleet_settings=tests.FleetSettings(2),
            checkpoint=tests.CheckpointSettings(Path(sys.argv[2]), every_s=0.0), on_round=stop)
"""


class Crash(Exception):
    """An exception that stands for whatever ends a process half-way."""


def load(folder: Path) -> Base:
    """Load the model with empty caches."""
    return load_info(find_model(str(folder)), dtype="float32", device="cpu")


def jobs_of_all_kinds(base: Base) -> list[Job]:
    """Plan jobs of different lengths, ranks, layers and recipes; two share questions."""
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
            [
                from_pair(f"What is{' really' * (i % 3)} {i}?", f"{i * 7}")
                for i in range(first, first + n)
            ],
            settings,
            name=f"job {number}",
        )
        for number, (n, first, settings) in enumerate(kinds)
    ]


def assert_same(outcomes: Sequence[Outcome], expected_outcomes: Sequence[Outcome]) -> None:
    assert len(outcomes) == len(expected_outcomes)
    for outcome, expected in zip(outcomes, expected_outcomes, strict=True):
        assert replace(outcome, weights={}) == replace(expected, weights={})
        assert outcome.weights.keys() == expected.weights.keys()
        for path, pair in outcome.weights.items():
            assert all(map(torch.equal, pair, expected.weights[path])), (outcome.job.name, path)


def test_a_killed_run_resumes_to_the_same_result(tiny: Base, tmp_path: Path):
    folder, root = tmp_path / "half", Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", RUN_UNTIL_KILLED, str(tiny.info.path), str(folder)],
        cwd=root,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert (folder / "fleet.safetensors").exists()
    rounds: list[FleetProgress] = []
    base = load(tiny.info.path)
    resumed = train(
        base,
        jobs_of_all_kinds(base),
        checkpoint=CheckpointSettings(folder, every_s=0),
        on_round=rounds.append,
    )
    assert rounds[0].done >= 1  # the run did not start over
    assert not folder.exists()
    base = load(tiny.info.path)
    jobs = jobs_of_all_kinds(base)
    assert_same(
        resumed,
        train(base, jobs, fleet_settings=FleetSettings(width=2)),
    )


@pytest.mark.parametrize("round_number", [1, 5, 10, 16])
def test_a_run_that_ends_in_any_round_resumes_to_the_same_result(
    tiny: Base, tmp_path: Path, round_number: int
):
    jobs, rounds = jobs_of_all_kinds(tiny), 0
    uninterrupted = train(tiny, jobs, fleet_settings=FleetSettings(width=3))

    def crash(_: FleetProgress) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == round_number:
            raise Crash

    base = load(tiny.info.path)
    with pytest.raises(Crash):
        train(
            base,
            jobs,
            fleet_settings=FleetSettings(width=3),
            checkpoint=CheckpointSettings(tmp_path, every_s=0),
            on_round=crash,
        )
    base = load(tiny.info.path)
    assert_same(
        train(
            base,
            jobs,
            fleet_settings=FleetSettings(width=3),
            checkpoint=CheckpointSettings(tmp_path),
        ),
        uninterrupted,
    )


def test_progress_as_json_is_restored_exactly(tiny: Base):
    progress = Progress(plan_job(tiny, [from_pair(f"{i}?", f"{i}") for i in range(9)], QUICK))
    for _ in range(4):
        progress.record(examples=len(progress.next_batch()), tokens=3, hits=1, loss=0.1 + 0.2)
    copy = Progress.from_json(progress.job, progress.as_json())
    assert copy.as_json() == progress.as_json()
    assert [copy.next_batch() for _ in range(7)] == [progress.next_batch() for _ in range(7)]


def save_half_a_run(base: Base, jobs: Sequence[Job], folder: Path, *, n_rounds: int = 3) -> None:
    """Save a checkpoint of the first rounds, then end the run."""
    rounds: list[FleetProgress] = []

    def crash(progress: FleetProgress) -> None:
        rounds.append(progress)
        if len(rounds) == n_rounds:
            raise Crash

    with pytest.raises(Crash):
        train(
            base,
            jobs,
            fleet_settings=FleetSettings(width=2),
            checkpoint=CheckpointSettings(folder, every_s=0),
            on_round=crash,
        )


def test_a_checkpoint_of_other_jobs_is_refused_with_the_difference(tiny: Base, tmp_path: Path):
    jobs = jobs_of_all_kinds(tiny)
    save_half_a_run(tiny, jobs, tmp_path)
    faster = replace(jobs[1], settings=replace(jobs[1].settings, lr=0.01))
    other = plan_job(tiny, [from_pair("a", "b")], jobs[0].settings, name="job 0")
    for changed, message in [
        (jobs[:4], "it has 5 jobs, this run 4"),
        ([jobs[0], faster, *jobs[2:]], "its job 'job 1' has lr 0.005, here it is 0.01"),
        ([other, *jobs[1:]], "its job 'job 0' has other examples"),
        ([replace(jobs[0], name="x"), *jobs[1:]], "its job 1 is 'job 0', here it is 'x'"),
        ([jobs[0], replace(jobs[1], paths=jobs[1].paths[:3]), *jobs[2:]], "has other layers"),
    ]:
        with pytest.raises(UsageError, match=f"is of another run: .*{message}"):
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


@pytest.mark.parametrize("name", ["fleet.safetensors", "done-*.safetensors"])
def test_training_starts_anew_where_a_checkpoint_is_damaged(
    tiny: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
):
    jobs = jobs_of_all_kinds(tiny)[:3]
    right = train(load(tiny.info.path), jobs, fleet_settings=FleetSettings(width=2))
    save_half_a_run(tiny, jobs, tmp_path / "half", n_rounds=11)
    (tmp_path / "half" / ".tmpA1b2C3").write_bytes(b"of a killed run")
    for number, damage in enumerate((cut, flip_a_weight, unhash, empty, as_pipe)):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "half", folder)
        damage(next(folder.glob(name)))
        caplog.clear()
        base, settings = load(tiny.info.path), CheckpointSettings(folder)
        again = train(base, jobs, fleet_settings=FleetSettings(width=2), checkpoint=settings)
        assert_same(again, right)
        assert [record.message.split(":")[0] for record in caplog.records] == [
            "a checkpoint is damaged, so training starts anew"
        ]
        assert not folder.exists()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def flip_a_weight(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-10] ^= 4
    file.write_bytes(content)


def unhash(file: Path) -> None:
    flip_a_weight(file)
    file.write_bytes(file.read_bytes().replace(b'"sha256"', b'"sha259"'))


def empty(file: Path) -> None:
    file.write_bytes(b"")


def as_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def test_a_folder_that_cannot_be_made_is_refused(tiny: Base, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        train(tiny, jobs_of_all_kinds(tiny), checkpoint=CheckpointSettings(tmp_path / "file"))


def test_ctrl_c_keeps_the_checkpoint_and_a_finished_run_removes_only_its_own_files(
    tiny: Base, tmp_path: Path
):
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
