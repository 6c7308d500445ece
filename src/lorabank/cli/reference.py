"""The reference of all commands as Markdown, made from the commands themselves.

`python -m lorabank.cli.reference` prints `docs/cli.md`; a test compares the two.
"""

import inspect
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import typer
from typer.models import ArgumentInfo

from lorabank.cli.main import app

_HEAD = """# Commands

Made from the commands themselves by `make docs`. What a command reports goes to stdout, as one
JSON object with `--json`; progress goes to stderr. A request that cannot be met ends with one or
two lines and exit code 2, an interrupted command with 130. A fault of lorabank itself ends with 70
and one line that names a file with the traceback, to report it with; keys are struck out of it.
"""
_TYPE_NAMES = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}


def reference() -> str:
    """Return the Markdown page of all commands."""
    return "\n".join([_HEAD, *_sections(app, "lorabank")])


def _sections(group: typer.Typer, prefix: str) -> Iterator[str]:
    for command in group.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        yield _section(f"{prefix} {name}", command.callback)
    for subgroup in group.registered_groups:
        assert subgroup.typer_instance is not None
        yield from _sections(subgroup.typer_instance, f"{prefix} {subgroup.name}")


def _section(name: str, callback: Any) -> str:
    parameters = list(inspect.signature(callback, eval_str=True).parameters.values())
    arguments = [p for p in parameters if isinstance(_info(p), ArgumentInfo)]
    options = [p for p in parameters if p not in arguments]
    usage = [name, *map(_argument, arguments), *(["[OPTIONS]"] if options else [])]
    rows = [(f"`{_argument(p)}`", p) for p in arguments] + [(_flags(p), p) for p in options]
    lines = [f"## {name}", "", "```text", " ".join(usage), "```", "", _description(callback), ""]
    lines += ["| argument or option | meaning |", "|---|---|"]
    lines += [f"| {left} | {_meaning(parameter)} |" for left, parameter in rows]
    return "\n".join([*lines, ""])


def _info(parameter: inspect.Parameter) -> Any:
    """Return what typer was told of a parameter."""
    return get_args(parameter.annotation)[1]


def _value_type(parameter: inspect.Parameter) -> Any:
    """Return the type of a parameter's value, None and lists taken away."""
    annotation = get_args(parameter.annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (part for part in get_args(annotation) if part is not NoneType)
    return get_args(annotation)[0] if get_origin(annotation) is list else annotation


def _argument(parameter: inspect.Parameter) -> str:
    is_list = "list[" in str(parameter.annotation)
    name = parameter.name.upper() + ("..." if is_list else "")
    return name if parameter.default is inspect.Parameter.empty else f"[{name}]"


def _flags(parameter: inspect.Parameter) -> str:
    default_flag = f"--{parameter.name.replace('_', '-')}"
    flags = ", ".join(f"`{flag}`" for flag in _info(parameter).param_decls or [default_flag])
    value_type = _value_type(parameter)
    return flags if value_type is bool else f"{flags} {_TYPE_NAMES[value_type]}"


def _meaning(parameter: inspect.Parameter) -> str:
    text = (_info(parameter).help or "").replace("|", "\\|")
    value_type, default = _value_type(parameter), parameter.default
    if isinstance(value_type, type) and issubclass(value_type, Enum):
        text += f" One of {', '.join(str(member.value) for member in value_type)}."
    if default is None or default is False or default is inspect.Parameter.empty:
        return text
    return f"{text} Default: `{default}`."


def _description(callback: Any) -> str:
    """Return a docstring with the lines of each paragraph joined, its example as code."""
    paragraphs = [
        " ".join(text.split()) for text in inspect.cleandoc(callback.__doc__).split("\n\n")
    ]
    return "\n\n".join(
        f"Example: `{text.removeprefix('Example: ')}`" if text.startswith("Example: ") else text
        for text in paragraphs
    )


if __name__ == "__main__":
    print(reference(), end="")
