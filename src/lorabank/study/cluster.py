"""The machines of a Ray cluster: reached within a time limit, counted, and checked before work.

Ray's usage statistics and its dashboard stay off. What Ray prints of lost workers goes to stderr.
"""

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import lorabank
from lorabank.errors import UnavailableError, UsageError
from lorabank.study.code_hash import code_hash
from lorabank.study.executor import RUNNING, START, ClusterSettings

if TYPE_CHECKING:
    from lorabank.study.node_state import NodeState

_CONNECT_S = 5.0  # until somebody listens at an address
_CHECK_S = 600.0  # for a machine to start Python and to hash a base it has not hashed before
_LEAST_STORE_BYTES = 80 * 1024**2  # of Ray's object store, through which next to nothing goes
_START_OPTIONS: dict[str, Any] = {
    "include_dashboard": False,
    "object_store_memory": _LEAST_STORE_BYTES,
    "_node_ip_address": "127.0.0.2",  # Ray takes 127.0.0.1 for the address that others reach
}


@contextmanager
def connected(settings: ClusterSettings) -> Iterator[None]:
    """Be connected to a cluster for the block, or to one that is started for it.

    Raises:
        UnavailableError: it does not answer, or runs another version of Ray or Python.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if settings.address not in (START, RUNNING):
        _check_address(settings)
    options = _START_OPTIONS if settings.address == START else {}
    try:
        ray.init(
            address=settings.address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **options,
        )
    except (OSError, RuntimeError, ValueError, SystemExit) as error:  # Ray exits on a bad address
        reason = str(error).strip().partition("\n")[0]
        raise UnavailableError(
            f"{settings.name} cannot be used: {reason}; start it with ray start --head, run this "
            "on one of its machines, and with the same versions of Python and Ray"
        ) from None
    with redirect_stdout(sys.stderr):
        try:
            yield
        finally:
            ray.shutdown()


def _check_address(settings: ClusterSettings) -> None:
    host, _, port = settings.address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise UnavailableError(
            f"nothing answers at {settings.address} within {_CONNECT_S:.0f} s ({error}); "
            "give HOST:PORT of the head (ray start --head prints it), or ray to start one here"
        ) from None


def uses_gpus(settings: ClusterSettings) -> bool:
    """Return whether workers have a GPU each."""
    if settings.device is not None:
        return settings.device.startswith("cuda")
    return any(node["Resources"].get("GPU") for node in _live_nodes())


def room_by_node(settings: ClusterSettings) -> dict[str, int]:
    """Return how many workers fit on each machine that has room for any, by Ray's node id."""
    has_gpus = uses_gpus(settings)
    room = {}
    for node in _live_nodes():
        cores = int(node["Resources"].get("CPU", 0) // settings.cores)
        fitting = min(cores, int(node["Resources"].get("GPU", 0))) if has_gpus else cores
        if fitting:
            room[str(node["NodeID"])] = fitting
    return room


def count_workers(settings: ClusterSettings) -> int:
    """Return the number of workers: those asked for, or as many as there is room for.

    Raises:
        UsageError: there is room for fewer than asked for, or for none.
    """
    room = sum(room_by_node(settings).values())
    kind = "a GPU and " if uses_gpus(settings) else ""
    wanted = settings.workers or 1
    if room < wanted:
        raise UsageError(
            f"{settings.name} has room for {room} workers with {kind}{settings.cores} cores, "
            f"got {wanted}; add machines (ray start --address=…), or lower --workers or "
            "--cores-per-worker"
        )
    return settings.workers or room


def check_nodes(
    settings: ClusterSettings, base_names: Sequence[str], folder: Path
) -> Mapping[str, "NodeState"]:
    """Check that every machine with room has this lorabank, the bases and the shared folder.

    Returns: what the machines have, by their address.

    Raises:
        UnavailableError: one has not; says which and what to do there.
    """
    seal = (folder / "study.json").read_text("utf-8")
    arguments = (tuple(base_names), folder, seal, Path.cwd())
    addresses = {str(node["NodeID"]): node["NodeManagerAddress"] for node in _live_nodes()}
    inspect = ray.remote(_inspection())
    answers = {
        node: inspect.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(*arguments)
        for node in room_by_node(settings)
    }
    states: dict[str, NodeState] = {}
    for node, answer in answers.items():
        where = f"machine {addresses[node]} of the cluster (node {node[:8]})"
        try:
            state = ray.get(answer, timeout=_CHECK_S)
        except GetTimeoutError:
            raise UnavailableError(
                f"{where} did not answer within {_CHECK_S:.0f} s; look at it, or take it out with "
                "ray stop"
            ) from None
        except RayError as error:
            reason = str(error).strip().rpartition("\n")[2]
            raise UnavailableError(f"{where} cannot run Python tasks: {reason}") from None
        if isinstance(state, str):
            raise UnavailableError(
                f"{where} has no lorabank that can be used ({state}); run pip install "
                f"'lorabank[ray]=={lorabank.__version__}' there"
            )
        check_state(state, where, folder)
        states[where] = state
    _check_same_bases(states)
    return states


def _inspection() -> Callable[..., "NodeState | str"]:
    """Return a function that travels as code, as it must run where there is no lorabank."""

    def inspect(*arguments: Any) -> Any:
        try:
            from lorabank.study.node_state import inspect_node

            return inspect_node(*arguments)
        except ImportError as error:
            return str(error)

    return inspect


def check_state(state: "NodeState", where: str, folder: Path) -> None:
    """Raise an UnavailableError if a machine lacks something that a study needs."""
    if state.code != code_hash():
        raise UnavailableError(
            f"{where} has a lorabank with other source ({state.code[:12]}…) than this one "
            f"({code_hash()[:12]}…); install the same on all machines"
        )
    for name, reason in state.missing.items():
        raise UnavailableError(
            f"{where} has no base {name}: {reason}; run lorabank models pull {name} there, or let "
            "LORABANK_CACHE name a folder that all machines share before ray start"
        )
    if not state.sees_folder:
        raise UnavailableError(
            f"{where} does not see {folder} as it is here, or cannot write it; name a folder that "
            "all machines share with --out"
        )


def _check_same_bases(states: Mapping[str, "NodeState"]) -> None:
    first: dict[str, tuple[str, str]] = {}
    for where, state in states.items():
        for name, sha256 in state.bases.items():
            other_sha256, other = first.setdefault(name, (sha256, where))
            if sha256 != other_sha256:
                raise UnavailableError(
                    f"{where} has {name} with sha256 {sha256[:12]}…, {other} has "
                    f"{other_sha256[:12]}…; copy one of them to all machines"
                )


def _live_nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]
