"""The tracker of a command's `--track`, beside its progress display."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from lorabank.cli.output import status

if TYPE_CHECKING:
    from lorabank.engine.settings import TrainSettings
    from lorabank.integrations.tracking import Tracked
    from lorabank.study.folder import StudyFolder
    from lorabank.study.plan import StudySpec

_T = TypeVar("_T")


@contextmanager
def tracking(kind: str | None, name: str, settings: "TrainSettings") -> "Iterator[Tracked]":
    """Yield the run of a training; without a tracker it does nothing."""
    from lorabank.integrations.tracking import tracked

    with tracked(kind, name, settings.as_json(), tell=status) as run:
        yield run


@contextmanager
def study_tracking(
    kind: str | None, spec: "StudySpec", folder: "StudyFolder"
) -> Iterator[Callable[[str], None]]:
    """Yield what shows a study's lines of progress; the cells in its folder go to the tracker.

    Each cell is a step, in the order of their names where several are new at once.
    """
    from lorabank.integrations.tracking import tracked

    known: set[str] = set()
    settings = {"study": spec.name, "preset": spec.preset, "base": spec.base}
    with tracked(kind, f"{spec.name}-{spec.preset}", settings, tell=status) as run:

        def log_new_cells() -> None:
            for file in sorted(folder.cells_path.glob("*.json")) if kind else ():
                cell = None if file.stem in known else folder.read(file.stem)
                if cell is not None:
                    known.add(file.stem)
                    run.log(run.step + 1, cell.model_dump())

        yield in_turn(status, lambda _: log_new_cells())
        log_new_cells()


def in_turn(*calls: Callable[[_T], Any]) -> Callable[[_T], None]:
    """Return a callback that calls others one after the other."""

    def call_all(value: _T) -> None:
        for call in calls:
            call(value)

    return call_all
