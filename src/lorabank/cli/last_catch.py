"""The last catch: an error that is not ours becomes one line and a file with its traceback.

The file is readable by its owner alone. Neither it nor the line shows the arguments of the command
or a key: the values of environment variables that are named like secrets, and what looks like a
key of a service, are struck out.
"""

import os
import platform
import re
import sys
import tempfile
import traceback

import lorabank
from lorabank.cli.output import status

EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)
_SECRET = re.compile(
    r"(?i:bearer|basic)\s+[^\s'\"]+"  # a header
    r"|\b(?:sk|pk|hf|gsk|xai|ghp|glpat|github_pat)[-_][\w-]{6,}"  # keys by their prefix
    r"|(?<=://)[^/\s@]*:[^/\s@]*(?=@)"  # a user and a password in an address
)
_SHORTEST_SECRET = 6  # characters; shorter values of variables, such as 0, would strike out words
_LONGEST_MESSAGE = 200


def explain(error: BaseException) -> str:
    """Write the traceback of an error into a file; return one line that says where it is."""
    words = strike_secrets(str(error)).split()
    message = " ".join(words).encode("ascii", "backslashreplace").decode()[:_LONGEST_MESSAGE]
    what = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return f"a fault of lorabank itself, not of your input: {what}; {_write_traceback(error)}"


def strike_secrets(text: str) -> str:
    """Return a text without what is or looks like a key."""
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name):
            # A key may stand in a message as it is, escaped, or without the blanks around it.
            for form in {value, value.strip(), repr(value)[1:-1]}:
                if len(form) >= _SHORTEST_SECRET:
                    text = text.replace(form, "[secret]")
    return _SECRET.sub("[secret]", text)


def _write_traceback(error: BaseException) -> str:
    """Return where the traceback is and what to do with it."""
    python = platform.python_version()
    text = f"lorabank {lorabank.__version__}, Python {python}, {sys.platform}\n"
    text += strike_secrets("".join(traceback.format_exception(error)))
    content = text.encode("utf-8", "backslashreplace")
    try:
        handle, path = tempfile.mkstemp(prefix="lorabank-traceback-", suffix=".txt")
        with open(handle, "wb") as file:
            file.write(content)
    except OSError:  # no folder can be written: the screen is all that is left
        status(content.decode())
        return "its traceback is above; please report it as an issue of lorabank's repository"
    return (
        f"its traceback is in {path}; please report it with that file as an issue of lorabank's "
        "repository"
    )
