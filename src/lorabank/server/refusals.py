"""Errors as clients of the OpenAI API expect them: a status, and a body with type, code and param.

Every error of the tree in `lorabank/errors.py` has a place here. Anything else is a fault of ours:
the client is given the number of its request and nothing of what happened.
"""

from collections.abc import Mapping
from typing import Any

from lorabank.errors import BusyError, EnvironmentFailure, LorabankError

INVALID = "invalid_request_error"


class RefusalError(LorabankError):
    """A request that is answered with an error."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ):
        super().__init__(message)
        self.message, self.status, self.code, self.param = message, status, code, param
        self.retry_after_s = retry_after_s

    @property
    def kind(self) -> str:
        """Return the error's type in the API's words."""
        if self.status >= 500:
            return "server_error"
        names = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        return names.get(self.status, INVALID)

    def as_json(self) -> dict[str, Any]:
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }

    @property
    def headers(self) -> dict[str, str]:
        headers = {"www-authenticate": "Bearer"} if self.status == 401 else {}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, round(self.retry_after_s)))
        return headers


def busy(message: str, *, retry_after_s: float = 1) -> RefusalError:
    """Return the refusal of a request that can succeed later."""
    return RefusalError(message, status=429, code="busy", retry_after_s=retry_after_s)


def refusal_of(error: LorabankError, *, param: str | None = None) -> RefusalError:
    """Return an error of the library as it is answered."""
    if isinstance(error, RefusalError):
        return error
    if isinstance(error, BusyError):
        return busy(str(error), retry_after_s=2)
    if isinstance(error, EnvironmentFailure):
        return RefusalError(str(error), status=503, code="unavailable", retry_after_s=10)
    return RefusalError(str(error), code="invalid_value", param=param)


def internal(request_id: str) -> RefusalError:
    """Return the refusal that stands for a fault of ours."""
    return RefusalError(
        f"the server failed at this request; its log tells where, under {request_id}",
        status=500,
        code="internal_error",
    )


def refusal_of_body(errors: list[Mapping[str, Any]]) -> RefusalError:
    """Return the refusal of a body that is no JSON, or whose fields are not of their types.

    Args:
        errors: faults as pydantic lists them.
    """
    first = max(errors, key=lambda error: len(error.get("loc", ())))  # of a union, the form meant
    place = [str(part) for part in first.get("loc", ())]
    if place[:1] in (["body"], ["query"], ["path"]) and len(place) > 1:
        place = place[1:]
    param = ".".join(place)
    if first.get("type") == "json_invalid":
        reason = (first.get("ctx") or {}).get("error", "")
        return RefusalError(f"the body is no JSON: {reason}", code="invalid_json")
    if place == ["body"] and isinstance(first.get("input"), bytes | str):
        return RefusalError(
            "the body must be a JSON object, sent with content-type: application/json",
            code="invalid_json",
        )
    got = "" if first.get("type") == "missing" else f", got {first.get('input')!r:.60}"
    more = f"; {len(errors) - 1} more faults" if len(errors) > 1 else ""
    code = "missing_field" if first.get("type") == "missing" else "invalid_type"
    message = str(first.get("msg", "")).removeprefix("Value error, ")
    return RefusalError(f"{param}: {message}{got}{more}", code=code, param=param)
