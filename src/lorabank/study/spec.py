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

import itertools
import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from lorabank.errors import DataError, UsageError, did_you_mean
from lorabank.strict_json import check_value, has_half_characters, parse_json
from lorabank.study.axes import Axes, explain_validation
from lorabank.study.catalogue import SPECS, list_studies
from lorabank.study.kinds import CAPACITY, find_kind
from lorabank.study.plan import CellSpec, StudySpec
from lorabank.tasks import fields

_MAX_BYTES = 1 << 20  # of a study's file
DEFAULT_WIDTH = 24
"""Adapters trained at once, unless the spec has another number."""
_MAX_CELLS = 100_000
_MAX_SHOWN = 120  # characters of what was got in a message
_CELL_NAME = re.compile(r"[^./\\\0][^/\\\0]{0,199}")  # it names a file


def _check_cell_name(name: str) -> str:
    if not _CELL_NAME.fullmatch(name):
        raise ValueError("a cell's name has no slash, no dot in front and 200 letters at most")
    return name


Text = Annotated[str, Field(min_length=1)]


class _Preset(BaseModel):
    """The tables and values that a preset of a spec may have."""

    model_config = ConfigDict(extra="forbid", strict=True)
    base: Text | None = None
    dtype: Text | None = None
    fixed: dict[str, Any] = {}
    axes: dict[str, Any] = {}
    arms: list[dict[str, Any]] = []
    width: object = None  # has a message of its own, as --set may give it, too


class _SpecFile(BaseModel):
    """The types of a spec's content."""

    model_config = ConfigDict(strict=True)
    name: Text
    title: Text | None = None
    kind: Text = CAPACITY
    preset: dict[str, dict[str, Any]]


class _StoredStudy(BaseModel):
    """The types of a study.json's content."""

    model_config = ConfigDict(strict=True)
    study: Text
    title: str
    kind: Text = CAPACITY
    preset: str
    base: Text
    dtype: Text | None
    width: Annotated[int, Field(ge=1)]
    cells: dict[Annotated[str, AfterValidator(_check_cell_name)], dict[str, Any]]


def load_study(
    name: str,
    *,
    preset: str | None = None,
    base: str | None = None,
    changes: Sequence[str] = (),
) -> StudySpec:
    """Return a study by its name or TOML file, at one preset.

    Args:
        preset: None for `cpu` or the only one.
        base: replaces the base model of the preset.
        changes: `key=value`, or `key=v1,v2` for an axis; they hold in every arm.

    Raises:
        UsageError: an unknown study, preset, axis or value, or two cells that are the same.
        DataError: a spec file that cannot be read.
    """
    content = _read(name)
    kind = find_kind(content.get("kind", CAPACITY))
    chosen, body = _choose_preset(name, content.get("preset", {}), preset)
    changed = dict(_parse_change(text) for text in changes)
    width = changed.pop("width", body.get("width", DEFAULT_WIDTH))
    if not isinstance(width, int) or isinstance(width, bool) or width < 1:
        raise UsageError(f"width takes a number of adapters, 1 or more, got {width!r}")
    cells = _cells(body, changed, kind.axes, preset=chosen)
    return StudySpec(
        name=content["name"],
        title=content.get("title", content["name"]),
        kind=kind.name,
        preset=chosen,
        base=base or body.get("base", "smollm2-135m"),
        dtype=body.get("dtype"),
        width=width,
        cells=tuple(_name_cells(cells)),
    )


def from_json(content: Mapping[str, Any]) -> StudySpec:
    """Return the study that a study.json describes, of any format.

    Raises:
        UsageError: something is missing, or a cell has a value that is not allowed.
    """
    try:
        stored = _StoredStudy.model_validate(content)
    except ValidationError as error:
        raise UsageError(
            f"study.json is incomplete or of another version: {explain_validation(error)}"
        ) from None
    kind = find_kind(stored.kind)
    return StudySpec(
        name=stored.study,
        title=stored.title,
        kind=kind.name,
        preset=stored.preset,
        base=stored.base,
        dtype=stored.dtype,
        width=stored.width,
        cells=tuple(
            CellSpec(name, _stored_axes(kind.axes, name, values))
            for name, values in stored.cells.items()
        ),
    )


def cell_name(axes: Axes) -> str:
    """Return a short name that equal cells share: what is usually varied, and a hash of all."""
    whole = json.dumps(axes.format_1(), sort_keys=True)
    return f"{axes.short_name}-{sha256(whole.encode()).hexdigest()[:6]}"


def _stored_axes(axes_class: type[Axes], name: str, values: Mapping[str, Any]) -> Axes:
    where = f"study.json is incomplete or of another version: cell {name}"
    try:
        return axes_class.from_stored(values)
    except ValidationError as error:
        raise UsageError(f"{where}: {axes_class.explain(error)}") from None
    except KeyError as error:
        raise UsageError(f"{where}: the axis {error.args[0]} is missing") from None


def _read(name: str) -> dict[str, Any]:
    """Return the TOML of a study that comes with the package, or of a file."""
    packaged = list_studies()
    path = Path(name)
    if name in packaged:
        text = (SPECS / f"{name}.toml").read_text("utf-8")
    elif path.suffix == ".toml":
        text = fields.read_text(path, max_bytes=_MAX_BYTES)
    else:
        hint = did_you_mean(name, packaged) or "."
        raise UsageError(
            f"no study {name!r}{hint} There are {', '.join(packaged)}, or give a .toml file"
        )
    try:
        content = tomllib.loads(text)
        check_value(content)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{name}: not TOML: {str(error)[:_MAX_SHOWN]}") from None
    except RecursionError:
        raise DataError(f"{name}: nests too deeply") from None
    except ValueError as error:
        problem = "has a number of thousands of digits" if "digits" in str(error) else error
        raise DataError(f"{name}: {problem}") from None
    if not isinstance(content.get("name"), str) or not isinstance(content.get("preset"), dict):
        raise DataError(f"{name}: a spec needs name = … and a [preset.…]; see lorabank study list")
    try:
        _SpecFile.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{name}: {explain_validation(error)}") from None
    return content


def _choose_preset(
    study: str, presets: Mapping[str, Any], name: str | None
) -> tuple[str, dict[str, Any]]:
    """Return the name and the content of a preset."""
    chosen = name or ("cpu" if "cpu" in presets else next(iter(presets), "cpu"))
    if chosen not in presets:
        hint = did_you_mean(chosen, presets) or "."
        raise UsageError(
            f"study {study} has no preset {chosen[:_MAX_SHOWN]!r}{hint} It has {', '.join(presets)}"
        )
    body: dict[str, Any] = presets[chosen]
    if unknown := sorted(set(body) - set(_Preset.model_fields)):
        hint = did_you_mean(unknown[0], _Preset.model_fields)
        raise UsageError(f"preset {chosen} has an unknown key {unknown[0][:_MAX_SHOWN]!r}{hint}")
    try:
        _Preset.model_validate(body)
    except ValidationError as error:
        raise UsageError(f"preset {chosen}: {explain_validation(error)}") from None
    return chosen, body


def _parse_change(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value.strip() or has_half_characters(text):
        raise UsageError(f"--set takes key=value, got {text[:_MAX_SHOWN]!r}")
    key = key.strip()
    if key in ("layers", "target_modules"):  # commas are part of their values
        return key, value.strip()
    values = [_parse_scalar(part.strip()) for part in value.split(",")]
    return key, values if len(values) > 1 else values[0]


def _parse_scalar(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return text


def _cells(
    body: Mapping[str, Any], changed: Mapping[str, Any], axes_class: type[Axes], *, preset: str
) -> list[Axes]:
    """Return the cells of all arms of a preset.

    Raises:
        UsageError: two arms come to the same cell though no change made them equal, or there is
            no cell.
    """
    shared = _present_names({**body.get("fixed", {}), **body.get("axes", {})}, axes_class)
    arms = [_present_names(arm, axes_class) for arm in body.get("arms", [{}])]
    changed = _present_names(changed, axes_class)
    may_coincide = any(changed.keys() & arm.keys() for arm in arms)
    cells: dict[str, Axes] = {}
    for number, arm in enumerate(arms, start=1):
        values = {**_without_rival(shared, arm), **arm}
        for axes in _product({**_without_rival(values, changed), **changed}, axes_class):
            key = axes.model_dump_json()
            if key in cells and not may_coincide:
                raise UsageError(
                    f"arm {number} of preset {preset} comes to a cell that is there already: "
                    f"{axes.describe()}; let the arms differ"
                )
            cells[key] = axes
    if not cells:
        raise UsageError(f"preset {preset} has no cells; give its axes at least one value each")
    return list(cells.values())


def _present_names(values: Mapping[str, Any], axes_class: type[Axes]) -> dict[str, Any]:
    return {axes_class.present_name(name): value for name, value in values.items()}


def _without_rival(shared: Mapping[str, Any], arm: Mapping[str, Any]) -> dict[str, Any]:
    """Return values without facts where tokens come later, and the reverse: they are one axis."""
    rivals = {"facts": "tokens", "tokens": "facts"}
    replaced = {rival for name, rival in rivals.items() if name in arm}
    return {name: value for name, value in shared.items() if name not in replaced}


def _product(values: Mapping[str, Any], axes_class: type[Axes]) -> list[Axes]:
    """Return a cell for each combination of the values of all axes."""
    lists = [value if isinstance(value, list) else [value] for value in values.values()]
    if (n_cells := math.prod(map(len, lists))) > _MAX_CELLS:
        raise UsageError(f"the axes come to {n_cells:,} cells, at most {_MAX_CELLS:,} are allowed")
    return [
        axes_class.resolve(dict(zip(values, combination, strict=True)))
        for combination in itertools.product(*lists)
    ]


def _name_cells(cells: Sequence[Axes]) -> list[CellSpec[Any]]:
    """Return cells with their names.

    Raises:
        UsageError: two different cells would have the same name.
    """
    by_name: dict[str, Axes] = {}
    for axes in cells:
        name = cell_name(axes)
        if name in by_name:
            raise UsageError(
                f"two cells would be named {name}: {by_name[name].describe()} and "
                f"{axes.describe()}; change one of them a little"
            )
        by_name[name] = axes
    return [CellSpec(name, axes) for name, axes in by_name.items()]
