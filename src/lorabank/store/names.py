"""Module names: which are allowed. A name is never used as a path."""

import unicodedata

from lorabank.errors import UsageError

MAX_LENGTH = 200  # characters


def storable(text: str) -> str:
    """Return text with half characters, as of file names that are no UTF-8, written as escapes.

    SQLite stores UTF-8, which has no code for them.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def normalise_name(name: str) -> str:
    """Return a name in Unicode's composed form, so that it matches however accents were typed."""
    return storable(unicodedata.normalize("NFC", name))


def check_name(name: str) -> str:
    """Return an allowed name in Unicode's composed form.

    Raises:
        UsageError: the name is empty, too long, has a slash, a leading dot, or invisible
            characters.
    """
    normalised = unicodedata.normalize("NFC", name)
    problem = None
    if not normalised.strip():
        problem = "is empty"
    elif normalised != normalised.strip():
        problem = "begins or ends with a blank"
    elif len(normalised) > MAX_LENGTH:
        problem = f"has {len(normalised):,} characters, at most {MAX_LENGTH} are allowed"
    elif "/" in normalised or "\\" in normalised:
        problem = "has a slash in it"
    elif normalised.startswith("."):
        problem = "begins with a dot"
    elif any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in normalised):
        problem = "has control or invisible characters in it"
    if problem:
        raise UsageError(
            f"module name {name[:60]!r} {problem}; a name has 1 to {MAX_LENGTH} letters, digits, "
            "blanks and signs, such as 'team-2026'"
        )
    return normalised
