"""`lorabank models`: the base models there are, and their identity."""

from dataclasses import asdict
from typing import Annotated

import typer

from lorabank.cli.output import Json, print_json, say, status

app = typer.Typer(
    help="Base models: list, pull, show.", no_args_is_help=True, rich_markup_mode=None
)
Name = Annotated[str, typer.Argument(help="Model name, Hugging Face id, folder or GGUF file.")]


@app.command("list")
def list_(json: Json = False) -> None:
    """List the models known by name, and those in the cache.

    Example: lorabank models list
    """
    from lorabank.engine.models.registry import list_models

    states = list_models()
    if json:
        print_json({"models": [asdict(state) for state in states]})
        return
    for state in states:
        size = f"cached, {state.n_bytes / 1e6:.0f} MB" if state.is_cached else "not cached"
        say(f"{state.name:<20}{size:<18}{state.licence:<14}{state.source}")


@app.command()
def pull(name: Name, json: Json = False) -> None:
    """Fetch a model into the cache, converted and checked.

    Example: lorabank models pull smollm2-135m
    """
    _show(name, fetch=True, as_json=json)


@app.command()
def show(name: Name, json: Json = False) -> None:
    """Print a model's folder, content hash, size, source and licence; fetch it if need be.

    Example: lorabank models show smollm2-135m
    """
    _show(name, fetch=True, as_json=json)


def _show(name: str, *, fetch: bool, as_json: bool) -> None:
    from lorabank.engine.models.registry import find_model

    info = asdict(find_model(name, fetch=fetch, progress=status))
    info["path"] = str(info["path"])
    if as_json:
        print_json(info)
        return
    for key, value in info.items():
        say(f"{key:<12}{value:,}" if isinstance(value, int) else f"{key:<12}{value}")
