"""A study's spec: a short TOML of fixed values and axes, in arms, resolved into cells.

    name = "capacity"
    title = "…"
    [preset.cpu]               the study at one scale
    base = "smollm2-135m"
    [preset.cpu.fixed]         what all its cells share
    layers = "last-1"
    [preset.cpu.axes]          each cell takes one value of each
    facts = [16, 32, 64]
    [[preset.cpu.arms]]        optional: replaces some of the above; the cells of all arms count
    exposures = [30, 100, 300]

An arm's keys stand for axes where they are lists, for fixed values where they are not. Two arms
that come to the same cell are an error, so that nothing is trained twice.
"""

import difflib
import itertools
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

from lorabank.errors import DataError, UsageError
from lorabank.study.capacity import axes
from lorabank.study.capacity.axes import Axis, Value
from lorabank.study.documents import axes as context_axes
from lorabank.study.modules import axes as module_axes
from lorabank.study.texts import axes as text_axes

_SPECS = resources.files("lorabank.study") / "specs"
CAPACITY, MODULES, TEXTS, CONTEXTS = "capacity", "modules", "texts", "contexts"
"""What cells are of: one adapter and what it holds, a bank's modules and how they serve, what
documents are made into to train on, or long documents, known by adapters, read as text, or both."""
_PRESET_KEYS = {"base", "dtype", "fixed", "axes", "arms", "width"}
WIDTH = 24  # adapters trained at once, unless the spec says
Resolve = Callable[[Mapping[str, Any]], dict[str, Value]]


@dataclass(frozen=True, slots=True)
class Kind:
    """What the cells of a kind of study may vary."""

    axes: Mapping[str, Axis]
    resolve: Resolve
    name: Callable[[Mapping[str, Value]], str]
    """The beginning of a cell's name: what it has of its own, in short."""


KINDS = {
    CAPACITY: Kind(axes.AXES, axes.resolve, axes.short_name),
    MODULES: Kind(module_axes.AXES, module_axes.resolve, module_axes.short_name),
    TEXTS: Kind(text_axes.AXES, text_axes.resolve, text_axes.short_name),
    CONTEXTS: Kind(context_axes.AXES, context_axes.resolve, context_axes.short_name),
}


@dataclass(frozen=True, slots=True)
class CellSpec:
    """One run of a study, resolved."""

    name: str
    """Of its file: what it has of its own, in short."""
    values: Mapping[str, Value]
    """Every axis, in their order."""


@dataclass(frozen=True, slots=True)
class StudySpec:
    """A study at one scale."""

    name: str
    title: str
    kind: str
    """One of KINDS."""
    preset: str
    base: str
    dtype: str | None
    """None for what the machine is fast in; the cells say which it was."""
    width: int
    cells: tuple[CellSpec, ...]

    def as_json(self) -> dict[str, Any]:
        """What makes a results folder this study's."""
        return {
            "study": self.name,
            "title": self.title,
            **({} if self.kind == CAPACITY else {"kind": self.kind}),  # as before there were kinds
            "preset": self.preset,
            "base": self.base,
            "dtype": self.dtype,
            "width": self.width,
            "cells": {cell.name: dict(cell.values) for cell in self.cells},
        }


def list_studies() -> dict[str, dict[str, Any]]:
    """The studies that come with the package: title and presets by name."""
    found = {}
    for entry in sorted(_SPECS.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".toml"):
            raw = tomllib.loads(entry.read_text("utf-8"))
            found[raw["name"]] = {"title": raw["title"], "presets": list(raw["preset"])}
    return found


def load_study(
    name: str,
    *,
    preset: str | None = None,
    base: str | None = None,
    changes: Sequence[str] = (),
) -> StudySpec:
    """A study by name or TOML file, at one preset, with some keys set anew.

    Args:
        preset: None for `cpu` or the only one.
        changes: `key=value`, or `key=v1,v2` for an axis; they hold in every arm.

    Raises:
        UsageError: an unknown study, preset, axis or value, cells that collide.
        DataError: a spec file that cannot be read.
    """
    raw = _read(name)
    kind_name = raw.get("kind", CAPACITY)
    if kind_name not in KINDS:
        raise UsageError(f"study {name}: kind must be {' or '.join(KINDS)}, got {kind_name!r}")
    kind = KINDS[kind_name]
    presets: dict[str, Any] = raw.get("preset", {})
    chosen = preset or ("cpu" if "cpu" in presets else next(iter(presets), "cpu"))
    if chosen not in presets:
        near = difflib.get_close_matches(chosen, presets, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"study {name} has no preset {chosen!r}{hint} It has {', '.join(presets)}")
    body = presets[chosen]
    if strange := sorted(set(body) - _PRESET_KEYS):
        near = difflib.get_close_matches(strange[0], _PRESET_KEYS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"preset {chosen} has an unknown key {strange[0]!r}{hint}")
    anew = dict(_change(text) for text in changes)
    width = anew.pop("width", body.get("width", WIDTH))
    if not isinstance(width, int) or width < 1:
        raise UsageError(f"width takes a number of adapters, 1 or more, got {width!r}")
    shared = {**body.get("fixed", {}), **body.get("axes", {})}
    arms: list[dict[str, Any]] = body.get("arms", [{}])
    may_meet = any(anew.keys() & arm.keys() for arm in arms)  # --set took their difference away
    found: dict[str, dict[str, Value]] = {}
    for number, arm in enumerate(arms, start=1):
        for values in _product({**_without_rival(shared, arm), **arm}, anew, kind.resolve):
            key = json.dumps(values, sort_keys=True)
            if key in found and not may_meet:
                raise UsageError(
                    f"arm {number} of preset {chosen} comes to a cell that is there already: "
                    f"{_short(values)}; let the arms differ"
                )
            found[key] = values
    if not found:
        raise UsageError(f"preset {chosen} has no cells; give its axes at least one value each")
    cells = tuple(CellSpec(cell_name(values, kind), values) for values in found.values())
    return StudySpec(
        name=raw["name"],
        title=raw.get("title", raw["name"]),
        kind=kind_name,
        preset=chosen,
        base=base or body.get("base", "smollm2-135m"),
        dtype=body.get("dtype"),
        width=width,
        cells=_distinct(cells),
    )


def from_json(told: Mapping[str, Any]) -> StudySpec:
    """The spec that `as_json` told of.

    Raises:
        UsageError: something is missing, or a cell is none.
    """
    try:
        kind = told.get("kind", CAPACITY)
        cells = tuple(
            CellSpec(name, {axis: values[axis] for axis in KINDS[kind].axes})
            for name, values in told["cells"].items()
        )
        keys = ("title", "preset", "base", "dtype", "width")
        return StudySpec(
            name=told["study"], kind=kind, cells=cells, **{key: told[key] for key in keys}
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"study.json lacks {error}; it is of another version") from None


def cell_name(values: Mapping[str, Value], kind: Kind) -> str:
    """Short and the same for the same cell: what is usually varied, then a mark for the rest."""
    whole = json.dumps(values, sort_keys=True)
    return f"{kind.name(values)}-{sha256(whole.encode()).hexdigest()[:6]}"


def _read(name: str) -> dict[str, Any]:
    """The TOML of a study that comes with the package, or of a file."""
    own = list_studies()
    path = Path(name)
    if name in own:
        text, where = (_SPECS / f"{name}.toml").read_text("utf-8"), name
    elif path.suffix == ".toml":
        try:
            text, where = path.read_text("utf-8"), name
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from None
    else:
        near = difflib.get_close_matches(name, own, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise UsageError(
            f"no study {name!r}{hint} There are {', '.join(own)}, or give a .toml file"
        )
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{where}: not TOML: {error}") from None
    if not isinstance(raw.get("name"), str) or not isinstance(raw.get("preset"), dict):
        raise DataError(f"{where}: a spec needs name = … and a [preset.…]; see lorabank study list")
    return raw


def _change(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise UsageError(f"--set takes key=value, got {text!r}")
    key = key.strip()
    if key in ("layers", "target_modules"):  # whose commas are their own
        return key, value.strip()
    values = [_scalar(part.strip()) for part in value.split(",")]
    return key, values if len(values) > 1 else values[0]


def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _without_rival(shared: Mapping[str, Any], arm: Mapping[str, Any]) -> dict[str, Any]:
    """Facts and tokens are two words for one axis: the later one counts."""
    drop = {"facts": "tokens", "tokens": "facts"}
    gone = {other for name, other in drop.items() if name in arm}
    return {name: value for name, value in shared.items() if name not in gone}


def _product(
    keys: Mapping[str, Any], anew: Mapping[str, Any], resolve: Resolve
) -> list[dict[str, Value]]:
    whole = {**_without_rival(keys, anew), **anew}
    lists = [value if isinstance(value, list) else [value] for value in whole.values()]
    return [resolve(dict(zip(whole, values, strict=True))) for values in itertools.product(*lists)]


def _distinct(cells: tuple[CellSpec, ...]) -> tuple[CellSpec, ...]:
    names: dict[str, CellSpec] = {}
    for cell in cells:
        if cell.name in names:
            raise UsageError(
                f"two cells would be named {cell.name}: {_short(names[cell.name].values)} and "
                f"{_short(cell.values)}; change one of them a little"
            )
        names[cell.name] = cell
    return cells


def _short(values: Mapping[str, Value]) -> str:
    return ", ".join(f"{k}={v}" for k, v in values.items() if v is not None)
