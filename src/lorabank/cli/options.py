"""A command whose options are the fields of a dataclass.

Typer reads a command's options off the parameters of a function. A command with twenty of them
takes one frozen dataclass instead, whose annotated fields become the options:

    @dataclass(frozen=True, slots=True, kw_only=True)
    class RunOptions:
        file: Annotated[Path, typer.Argument(help="What to read.")]
        seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0

    def run(options: RunOptions) -> None: ...

    app.command("run")(command(run))
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

AUTO = "auto"


def command(run: Callable[[Any], None]) -> Callable[..., None]:
    """Return a function that typer can read, which calls `run` with an options object."""
    (options_type,) = (hint for name, hint in get_type_hints(run).items() if name != "return")
    hints = get_type_hints(options_type, include_extras=True)

    def call(**values: Any) -> None:
        run(options_type(**values))

    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(field),
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(options_type)
    ]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.__doc__ = run.__doc__
    return call


def _default(field: "dataclasses.Field[Any]") -> Any:
    is_required = field.default is dataclasses.MISSING
    return inspect.Parameter.empty if is_required else field.default


def parse_rank(text: str | None) -> dict[str, Any]:
    """Return the settings that `--r` names: a rank, or with `auto` the smallest, to be fitted.

    Raises:
        UsageError: it is neither.
    """
    from lorabank.errors import UsageError

    if text is None:
        return {}
    if text == AUTO:
        return {"r": 1, "auto_r": True}
    if not text.strip().lstrip("+-").isdecimal():
        raise UsageError(f"--r must be a rank, or auto, got {text!r}")
    return {"r": int(text)}
