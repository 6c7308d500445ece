"""The studies that come with the package, listed without importing what runs them."""

import tomllib
from importlib import resources
from typing import Any

SPECS = resources.files("lorabank.study") / "specs"
"""Folder of the TOML files."""


def list_studies() -> dict[str, dict[str, Any]]:
    """Return the title and the presets of each study that comes with the package, by name."""
    studies = {}
    for entry in sorted(SPECS.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".toml"):
            content = tomllib.loads(entry.read_text("utf-8"))
            studies[content["name"]] = {
                "title": content["title"],
                "presets": list(content["preset"]),
            }
    return studies
