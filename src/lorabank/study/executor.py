"""The place where a study's fleets run: this process, or workers on machines of a Ray cluster.

`local` is this process. `ray` starts Ray on this machine for the length of the run, `ray:auto`
takes the one that runs here, `ray:HOST:PORT` the cluster whose head answers there.
"""

from dataclasses import dataclass

from lorabank.errors import UsageError

LOCAL, RAY = "local", "ray"
START, RUNNING = "local", "auto"
"""Ray's own words for a cluster that is started on this machine, and for the one that runs here."""
_FORMS = "local, ray, ray:auto or ray:HOST:PORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """A cluster and the workers on it.

    Raises:
        UsageError: a number below 1.
    """

    address: str
    """Address as Ray takes it: `local`, `auto` or HOST:PORT."""
    workers: int | None = None
    """Number of workers; None for as many as there is room for."""
    cores: int = 1
    """Cores of a worker, and threads of torch in it."""
    device: str | None = None
    """`cuda` for a GPU each, `cpu` for cores alone, None for GPUs where the cluster has any."""

    def __post_init__(self) -> None:
        for option, number in (("--workers", self.workers), ("--cores-per-worker", self.cores)):
            if number is not None and number < 1:
                raise UsageError(f"{option} must be 1 or more, got {number}")

    @property
    def name(self) -> str:
        """Return the cluster in words."""
        if self.address == START:
            return "Ray on this machine"
        return "the Ray that runs here" if self.address == RUNNING else f"Ray at {self.address}"


def parse_executor(text: str) -> str | None:
    """Return the address of a cluster, as Ray takes it; None for this process.

    Raises:
        UsageError: the text has none of the forms.
    """
    if text == LOCAL:
        return None
    if text == RAY:
        return START
    kind, _, address = text.partition(":")
    if kind != RAY:
        raise UsageError(f"--executor is {_FORMS}, got {text!r}")
    if address == RUNNING:
        return RUNNING
    host, colon, port = address.rpartition(":")
    if "//" in address:
        raise UsageError(
            f"--executor {text}: Ray's client cannot be used, as cells are written to a shared "
            "folder; run on a machine of the cluster and give HOST:PORT of its head, as ray:auto"
        )
    if not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
        raise UsageError(f"--executor is {_FORMS} with a port of 1..65535, got {text!r}")
    return address
