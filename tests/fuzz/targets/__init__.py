"""What is fuzzed: every parser of something that comes from outside, by room."""

from collections.abc import Iterator

from tests.fuzz.runner import Target

from . import adapters, banks, bases, checkpoints, endpoints, facts, pages, studies


def all_targets() -> Iterator[Target]:
    for room in (endpoints, facts, studies, pages, adapters, bases, checkpoints, banks):
        yield from room.targets()
