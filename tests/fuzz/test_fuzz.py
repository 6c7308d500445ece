"""That the fuzz runner sees faults, and that its targets read what is whole."""

import os
from pathlib import Path

import pytest

from lorabank.errors import DataError

from .runner import Target, make_input, run
from .targets import all_targets


def fail_on_odd(data: bytes, folder: Path) -> object:
    match data[-1] if data else 0:
        case 1:
            raise KeyError("not ours")
        case 2:
            raise DataError("ours")
        case 3:
            os._exit(3)
        case 4:
            return bytearray(2**31)
    return data


def test_the_runner_finds_errors_that_are_not_ours_and_ends_of_the_process():
    target = Target("odd", [b"\x01", b"\x02", b"\x03", b"\x00", b"\x04"], fail_on_odd)
    faults = run(target, 5, seed=0)
    assert [fault.number for fault in faults] == [0, 2, 4]
    assert [word in fault.problem for fault, word in zip(
        faults, ("KeyError", "ends the process", "MemoryError"), strict=True
    )] == [True] * 3  # fmt: skip


def test_an_input_follows_from_its_seed_and_number():
    target = Target("t", [b'{"a": [1, 2]}', b"x,y\n"], fail_on_odd)
    inputs = [make_input(target, number, seed=1) for number in range(60)]
    assert inputs == [make_input(target, number, seed=1) for number in range(60)]
    assert inputs != [make_input(target, number, seed=2) for number in range(60)]
    assert len(set(inputs)) > 40


@pytest.mark.parametrize("target", list(all_targets()), ids=lambda target: target.name)
def test_whole_inputs_are_read(target: Target, tmp_path: Path):
    for number, sample in enumerate(target.samples[:3]):
        folder = tmp_path / str(number)
        folder.mkdir()
        target.read(sample, folder)
