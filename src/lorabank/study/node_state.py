"""A look at a machine of a cluster: has it what a study needs? Runs there without loading torch."""

import os
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lorabank.engine.models.registry import find_model
from lorabank.errors import LorabankError
from lorabank.study.code_hash import code_hash

_PACKAGES = ("torch", "transformers", "peft", "pydantic")


@dataclass(frozen=True, slots=True)
class NodeState:
    """The things that a study needs, as a machine of a cluster has them."""

    code: str
    """Hash of its lorabank's source."""
    bases: dict[str, str]
    """SHA-256 of each base by its name."""
    missing: dict[str, str]
    """The bases that it does not have, with the reason."""
    sees_folder: bool
    """Whether the results folder is there, is the same, and can be written."""


def inspect_node(
    base_names: tuple[str, ...], folder: Path, seal: str, working_folder: Path
) -> NodeState:
    """Return what this machine has.

    Args:
        seal: text of the study.json that must be found in the folder.

    Raises:
        ModuleNotFoundError: a package is missing.
    """
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    enter_folder(working_folder)
    bases, missing = {}, {}
    for name in base_names:
        try:
            bases[name] = find_model(name, fetch=False).sha256
        except LorabankError as error:
            missing[name] = str(error)
    sees_folder = False
    with suppress(OSError):
        is_same = (folder / "study.json").read_text("utf-8") == seal
        sees_folder = is_same and os.access(folder, os.W_OK)
    return NodeState(code_hash(), bases, missing, sees_folder)


def enter_folder(folder: Path) -> None:
    """Make a folder the working folder, if this machine has it."""
    with suppress(OSError):
        os.chdir(folder)
