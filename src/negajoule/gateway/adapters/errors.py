"""Errors of every dialect: an upstream's into ours, ours into the client's.

Shapes and statuses: Anthropic API "Errors" (platform.claude.com/docs/en/api/errors), Google API
``google.rpc.Status`` (cloud.google.com/apis/design/errors) and OpenAI API "Error codes". Inside a stream
there is no HTTP status, so it is found from the error's type or code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from negajoule.errors import EngineError
from negajoule.gateway.wire import status_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from negajoule.errors import NegajouleError

__all__ = ["Dialect", "anthropic_error", "error_in_stream", "gemini_error", "refusal"]

Dialect = Literal["openai", "anthropic", "gemini", "responses"]
"""How a server speaks."""

_ANTHROPIC_TYPES: dict[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_GEMINI_STATUSES: dict[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_STATUSES: dict[str, int] = {
    **{kind: status for status, kind in _ANTHROPIC_TYPES.items()},
    **{kind: status for status, kind in _GEMINI_STATUSES.items()},
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
}
_OVERLOADED = 529
_LONGEST_MESSAGE = 500


def refusal(status: int, data: bytes) -> EngineError:
    """The error for an upstream that answered with an error status, whatever its dialect.

    Anthropic's 529 (overloaded), which only its own clients know, becomes 503.
    """
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        body = None
    if isinstance(body, list) and body:  # Gemini's, when a stream without alt=sse was asked for
        body = body[0]
    message = _message(body.get("error")) if isinstance(body, dict) else ""
    message = message or data[:200].decode(errors="replace").strip() or "no reason given"
    return _refused(message, status)


def error_in_stream(event: Mapping[str, Any]) -> EngineError | None:
    """The error that an event of any dialect reports; ``None`` if it reports none."""
    error = event.get("error")
    if not error:
        return None
    status = 502
    if isinstance(error, dict):
        named = [error.get("code"), error.get("status"), error.get("type")]
        numbers = [name for name in named if isinstance(name, int) and 400 <= name < 600]
        known = [_STATUSES[name] for name in named if isinstance(name, str) and name in _STATUSES]
        status = next(iter([*numbers, *known]), 502)
    return _refused(_message(error) or "no reason given", status)


def anthropic_error(error: NegajouleError) -> dict[str, Any]:
    """One of our errors as Anthropic's clients expect it: as a body, or as the event ``error``."""
    status = status_of(error)
    kind = _ANTHROPIC_TYPES.get(status)
    if kind is None:
        kind = (
            "invalid_request_error" if status < 500 else "overloaded_error" if status == 503 else "api_error"
        )
    return {"type": "error", "error": {"type": kind, "message": _told(error)}}


def gemini_error(error: NegajouleError) -> dict[str, Any]:
    """One of our errors as Gemini's clients expect it: as a body, or in a stream."""
    status = status_of(error)
    kind = _GEMINI_STATUSES.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
    return {"error": {"code": status, "message": _told(error), "status": kind}}


def _refused(message: str, status: int) -> EngineError:
    return EngineError(
        f"the upstream refused: {message}", code="E103", status=503 if status == _OVERLOADED else status
    )


def _message(error: object) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return message[:_LONGEST_MESSAGE] if isinstance(message, str) else ""


def _told(error: NegajouleError) -> str:
    message = f"{error.message}; {error.fix}" if error.fix else error.message
    return f"{message} [{error.code}]"
