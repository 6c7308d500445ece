"""What a module may be called. A name is data: it never becomes a path, and could not."""

import unicodedata

from lorabank.errors import UsageError

MOST = 200  # characters


def check_name(name: str) -> str:
    """The name, in Unicode's composed form.

    Raises:
        UsageError: empty, too long, with a slash, a leading dot, or characters nobody sees.
    """
    composed = unicodedata.normalize("NFC", name)
    why = None
    if not composed.strip():
        why = "is empty"
    elif composed != composed.strip():
        why = "begins or ends with a blank"
    elif len(composed) > MOST:
        why = f"has {len(composed):,} characters, at most {MOST} are allowed"
    elif "/" in composed or "\\" in composed:
        why = "has a slash in it"
    elif composed.startswith("."):
        why = "begins with a dot"
    elif any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in composed):
        why = "has control or invisible characters in it"
    if why:
        raise UsageError(
            f"module name {name[:60]!r} {why}; a name has 1 to {MOST} letters, digits, blanks and "
            "signs, such as 'team-2026'"
        )
    return composed
