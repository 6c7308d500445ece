"""Numbers that a README quotes from a report.json, and the references that stand behind them.

    46 %<!-- from report: figures[wordings].panels[0].series[reworded].points[0].y in % -->

A comment holds one reference or several with semicolons between them; n values belong to the last
n numbers before it. A path begins in the report's first section, or with `sections[1]`. In brackets
stands a place, `*` for all, or the name or title of an item of a list; of a table, its row, by its
place or by what its cells hold, then the column: `table[rank=r=8, facts=24][recall].low`; `.*` is a
cell's number and range. ` in %` and ` in min` behind a path turn a share or seconds into what is
quoted, a minus before it a gain into a loss. Another study's report is named with its folder, as
`formats/report`. Settings such as r=8 and what stands in code are not counted as numbers.
"""

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_REFERENCE = re.compile(r"<!--\s*from\s+(?P<report>[^:>]*):?(?P<paths>.*?)-->", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_NO_TEXT = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|arXiv:[\d.]+|\de-?\d|^\d+\. ", re.DOTALL | re.MULTILINE
)
_NUMBER = re.compile(
    r"(?<![\w=.])(?<!\d,)(?:(?<!\w)-)?(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)(?![.,]?\w)"
)
_STEP = re.compile(r"\.?(\w+|\*)|\[([^\]]+)\]")
_PART = r"(-?\d+(?:\.\d+)?(?:e-?\d+)?)(?: %)?"
_CELL = re.compile(rf"(?:from |up to )?{_PART}(?: \({_PART}–{_PART}\))?")
_SCALES = {" in %": 100.0, " in min": 1 / 60}


class NoSuchValueError(Exception):
    """A reference points at nothing; says at which step, and what is there."""


@dataclass(frozen=True, slots=True)
class Quotes:
    """The numbers of a README, compared with its reports."""

    n_checked: int
    without_reference: list[str]
    """Each number that no reference stands behind, with its line."""
    faults: list[str]


def check_quotes(text: str, reports: dict[str, dict[str, Any]]) -> Quotes:
    """Compare the numbers of a README with the reports that their references name."""
    numbers = list(_NUMBER.finditer(_hide(_NO_TEXT, _hide(_COMMENT, text))))
    faults: list[str] = []
    checked: set[int] = set()
    for reference in _REFERENCE.finditer(text):
        line = _line(text, reference)
        try:
            values = list(_values(reference["report"], reference["paths"], reports))
        except NoSuchValueError as error:
            faults.append(f"line {line}: {error}")
            continue
        before = [n for n in numbers if n.end() <= reference.start()][-len(values) :]
        if len(before) < len(values):
            faults.append(f"line {line}: {len(values)} values for {len(before)} numbers")
        for number, value in zip(before, values, strict=False):
            checked.add(number.start())
            if not is_rounded(number[0], value):
                faults.append(f"line {line}: quoted is {number[0]}, the report has {value:.6g}")
    rest = [n for n in numbers if n.start() not in checked]
    return Quotes(len(checked), [f"line {_line(text, n)}: {n[0]}" for n in rest], faults)


def named_reports(text: str) -> list[str]:
    """Return the names of the reports that a README's references point into."""
    return list(dict.fromkeys(reference["report"] for reference in _REFERENCE.finditer(text)))


def is_rounded(quoted: str, value: float) -> bool:
    """Whether a number as written is a value rounded to as many digits; a half goes either way."""
    digits = quoted.replace(",", "")
    unit = 10.0 ** -len(digits.partition(".")[2])
    return abs(float(digits) - value) <= unit / 2 * (1 + 1e-6)


def find_value(report: dict[str, Any], path: str) -> Any:
    """Return what a path points at in a report.

    Raises:
        NoSuchValueError: it points nowhere, with what is near.
    """
    value = [report if path.startswith("sections") else report["sections"][0]]
    end = 0
    for step in _STEP.finditer(path):
        if step.start() != end:
            break
        end = step.end()
        key = step[1] or step[2]
        value = [matches for parent in value for matches in _follow(parent, key, path)]
    if end != len(path):
        raise NoSuchValueError(f"{path!r} cannot be read from {path[end:]!r} on")
    return value


def _values(name: str, paths: str, reports: dict[str, dict[str, Any]]) -> Iterator[float]:
    if name not in reports:
        names = ", ".join(reports)
        raise NoSuchValueError(f"there is no {name!r} with a report.json; there are {names}")
    for written in paths.split(";"):
        path = " ".join(written.split())
        unit = next((unit for unit in _SCALES if path.endswith(unit)), "")
        scale = _SCALES.get(unit, 1.0) * (-1 if path.startswith("-") else 1)
        path = path.removeprefix("-").removesuffix(unit)
        for value in find_value(reports[name], path):
            number = _cell(value).get("value") if isinstance(value, str) else value
            if not isinstance(number, int | float):
                shown = json.dumps(value, ensure_ascii=False)[:60]
                raise NoSuchValueError(f"{path!r} is no number but {shown}")
            yield scale * number


def _follow(value: Any, key: str, path: str) -> list[Any]:
    if isinstance(value, str):
        value = _cell(value)
    if isinstance(value, dict) and "rows" in value and key not in value:
        return _rows(value, key, path)
    if key == "*" and isinstance(value, dict | list):
        return list(value.values() if isinstance(value, dict) else value)
    if isinstance(value, list):
        if key.isdecimal() and int(key) < len(value):
            return [value[int(key)]]
        items = [item for item in value if isinstance(item, dict)]
        named = [(item.get("name") or item.get("title"), item) for item in items]
        matches = [item for name, item in named if name == key]
        near = [str(name) for name, _ in named] or [f"{len(value)} items"]
    else:
        matches = [value[key]] if isinstance(value, dict) and key in value else []
        near = list(value) if isinstance(value, dict) else [repr(value)]
    if len(matches) == 1:
        return matches
    raise NoSuchValueError(_nowhere(path, key, near))


def _rows(table: dict[str, Any], key: str, path: str) -> list[Any]:
    rows = [dict(zip(table["heads"], row, strict=True)) for row in table["rows"]]
    if key.isdecimal() and int(key) < len(rows):
        return [rows[int(key)]]
    wanted = [part.partition("=")[::2] for part in key.split(", ")]
    for head, _ in wanted:
        if head not in table["heads"]:
            raise NoSuchValueError(_nowhere(path, head, table["heads"]))
    matches = [row for row in rows if all(row[head] == text for head, text in wanted)]
    if len(matches) == 1:
        return matches
    present = {f"{head}={row[head]}": None for row in rows for head, _ in wanted}
    raise NoSuchValueError(f"{len(matches)} rows; " + _nowhere(path, key, list(present)))


def _cell(text: str) -> dict[str, float]:
    """Return the number of a table's cell, with its range where one stands behind it."""
    match = _CELL.fullmatch(text.replace(",", ""))
    if match is None:
        return {}
    names = ("value", "low", "high")
    return {name: float(part) for name, part in zip(names, match.groups(), strict=True) if part}


def _line(text: str, place: re.Match[str]) -> int:
    return text.count("\n", 0, place.start()) + 1


def _nowhere(path: str, key: str, present: list[str]) -> str:
    near = difflib.get_close_matches(key, present, cutoff=0.3) or present[:6]
    return f"{path!r} points nowhere at {key!r}; near are {', '.join(map(repr, near))}"


def _hide(pattern: re.Pattern[str], text: str) -> str:
    """Return a text with what matches blanked, so that places stay as they are."""
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
