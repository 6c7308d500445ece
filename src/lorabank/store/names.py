"""What a module may be called. A name is data: it never becomes a path, and could not."""

import unicodedata

from lorabank.errors import UsageError

MOST = 200  # characters


def normalise_name(name: str) -> str:
    """Unicode's composed form, so that a name is found however its accents were typed."""
    return unicodedata.normalize("NFC", name)


def check_name(name: str) -> str:
    """The name, in Unicode's composed form.

    Raises:
        UsageError: empty, too long, with a slash, a leading dot, or characters nobody sees.
    """
    whole = normalise_name(name)
    why = None
    if not whole.strip():
        why = "is empty"
    elif whole != whole.strip():
        why = "begins or ends with a blank"
    elif len(whole) > MOST:
        why = f"has {len(whole):,} characters, at most {MOST} are allowed"
    elif "/" in whole or "\\" in whole:
        why = "has a slash in it"
    elif whole.startswith("."):
        why = "begins with a dot"
    elif any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in whole):
        why = "has control or invisible characters in it"
    if why:
        raise UsageError(
            f"module name {name[:60]!r} {why}; a name has 1 to {MOST} letters, digits, blanks and "
            "signs, such as 'team-2026'"
        )
    return whole
