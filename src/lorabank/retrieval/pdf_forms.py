"""Entries that people have made in the forms of a PDF or typed onto its pages.

It is not part of a page's own text, and a viewer draws it on top. Each field becomes a line of its
label and its value.
"""

from typing import Any

_DEEPEST = 10  # levels of a form's fields
_PASSWORD = 1 << 13  # the bit of a field whose value is not to be shown


def filled_lines(page: Any) -> list[str]:
    """Return the filled fields and the typed notes of a page of pypdf, each once."""
    annotations = _get(page, "/Annots")
    lines: dict[str, None] = {}
    for reference in annotations if isinstance(annotations, list) else []:
        annotation = reference.get_object()
        if not isinstance(annotation, dict):
            continue
        kind = _get(annotation, "/Subtype")
        if kind == "/FreeText":
            label, value = "", _get(annotation, "/Contents")
        elif kind == "/Widget":
            label, value = _field_of(annotation)
        else:
            continue
        values = value if isinstance(value, list) else [value]
        shown = [str(v).lstrip("/") for v in values if isinstance(v, str) and v != "/Off"]
        text = " ".join(", ".join(shown).split())
        if text:
            lines[f"{label}: {text}" if label else text] = None
    return list(lines)


def _field_of(widget: dict[Any, Any]) -> tuple[str, Any]:
    """Return the label and the value of a form field; a part of it has those of the whole."""
    label, value = "", None
    for _ in range(_DEEPEST):
        label = label or " ".join(str(_get(widget, "/TU") or _get(widget, "/T") or "").split())
        value = _get(widget, "/V") if value is None else value
        flags = _get(widget, "/Ff")
        if isinstance(flags, int) and flags & _PASSWORD and _get(widget, "/FT") == "/Tx":
            return label, None
        parent = _get(widget, "/Parent")
        if not isinstance(parent, dict):
            break
        widget = parent
    return label, value


def _get(container: dict[Any, Any], key: str) -> Any:
    """Return what a key leads to, wherever in the file it is."""
    value: Any = container.get(key)
    return value.get_object() if hasattr(value, "get_object") else value
