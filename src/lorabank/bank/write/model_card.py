"""Model cards of modules: what was measured of a module, in the words of its record.

Nothing is claimed that the record does not have; where a number was not measured, the card has no
line for it. The licence is that of what was taught, which only its owner can say.
"""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from lorabank.engine.models.catalog import CATALOG
from lorabank.errors import UsageError
from lorabank.store.records import Version

CARD = "README.md"
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,40}")


def check_licence(licence: str | None) -> str:
    """Return a licence as the hub has it.

    Raises:
        UsageError: there is none, or it is no identifier.
    """
    if not licence:
        raise UsageError(
            "a model card needs the licence of what was taught, which lorabank cannot know; give "
            "--license, as apache-2.0, cc-by-4.0, or other"
        )
    if not _LICENCE.fullmatch(licence.lower()):
        raise UsageError(
            f"--license must be an identifier such as apache-2.0, cc-by-4.0 or other, got "
            f"{licence[:60]!r}"
        )
    return licence.lower()


def model_card(
    version: Version, config: Mapping[str, Any], record: Mapping[str, Any], *, licence: str
) -> str:
    """Return the card of a version as Markdown with its front matter.

    Args:
        config: content of its `adapter_config.json`.
        record: content of its `lorabank.json`.
    """
    base = record.get("base") or {}
    entry = CATALOG.get(str(base.get("name")))
    front: dict[str, Any] = {
        "license": licence,
        "library_name": "peft",
        "tags": ["lora", "lorabank"],
    }
    if entry is not None and entry.hub_id:
        front["base_model"] = entry.hub_id
    is_activated = config.get("alora_invocation_tokens") is not None
    rows = [*_base_rows(base), *_shape_rows(version, config), *_measured_rows(version.record)]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {_cell(version.module)}\n\n"
        f"A LoRA adapter that holds {_facts(version.record)}, written and measured by lorabank.\n\n"
        f"| | |\n|---|---|\n{table}\n\n{_FORMS[is_activated]}\n"
    )


_FORMS = {
    True: "It is activated: on from the assistant's header, so that the prompt is read by the bare "
    "base. PEFT and llama.cpp's server run it as it is; for others convert it with "
    "`lorabank export --always-on`.",
    False: "It is on at every token.",
}


def _facts(record: Mapping[str, Any]) -> str:
    n = record.get("facts")
    return "facts" if not isinstance(n, int) else f"{n:,} fact{'' if n == 1 else 's'}"


def _base_rows(base: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not base.get("sha256"):
        return []
    return [("base", f"{_cell(base.get('name'))}, weights sha256 `{_cell(base['sha256'])}`")]


def _shape_rows(version: Version, config: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("rank, alpha", f"{_cell(config.get('r'))}, {_cell(config.get('lora_alpha'))}")]
    n_bytes = version.record.get("adapter_bytes")
    if isinstance(n_bytes, int):
        rows.append(("adapter", f"{n_bytes:,} bytes"))
    return rows


def _measured_rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what was measured of a module, as far as its record has it."""
    number = {
        name: value
        for name, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    rows = []
    if "recall" in number:
        before = f"{number['recall_before']:.1%} before, " if "recall_before" in number else ""
        rows.append(("recall", f"{before}{number['recall']:.1%} after"))
    by_rendering = record.get("recall_by_rendering")
    if isinstance(by_rendering, dict) and by_rendering:
        shares = ", ".join(f"{_cell(name)} {share:.1%}" for name, share in by_rendering.items())
        rows.append(("recall by rendering", shares))
    if "recall_reworded" in number:
        n = f" of {number['reworded']:,} wordings" if "reworded" in number else ""
        rows.append(("recall reworded", f"{number['recall_reworded']:.1%}{n} never trained on"))
    for name, title, form in _NUMBERS:
        if name in number:
            rows.append((title, form.format(number[name])))
    known = record.get("known_before"), record.get("known_after")
    if isinstance(known[0], list) and isinstance(known[1], list):
        rows.append(("still knows", f"{len(known[1])} of {len(known[0])} simple things"))
    return rows


_NUMBERS = (
    ("exposures_per_fact", "exposures per fact", "{:.1f}"),
    ("bits_stored", "bits stored", "{:,.0f}"),
    ("kl_to_base_nats", "KL to the bare base on ordinary text", "{:.3f} nats per token"),
)


def _cell(value: object) -> str:
    """Return a value as it can stand in a cell of a table."""
    return " ".join(str(value).replace("|", "/").split())[:200]
