"""OpenAI's wire format: what a request must hold, and the shape of an error."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec

from negajoule.errors import EngineError, LedgerError, NegajouleError, RequestError

__all__ = [
    "Call",
    "ChatBody",
    "CompletionBody",
    "FeedbackBody",
    "Task",
    "error_body",
    "parse_call",
    "status_of",
]

Task = Literal["chat", "completion", "embedding", "count"]

_Count = Annotated[int, msgspec.Meta(ge=1)]


class StreamOptions(msgspec.Struct):
    """What a client wants of its stream."""

    include_usage: bool | None = None


class Message(msgspec.Struct):
    """One message; fields that aren't named here pass through."""

    role: str
    content: str | list[dict[str, Any]] | None = None


class _Body(msgspec.Struct):
    """What the checks look at; all else passes through as it came."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0)] | None = None
    n: _Count | None = None


class ChatBody(_Body):
    """A request for a chat completion."""

    messages: Annotated[list[Message], msgspec.Meta(min_length=1)] = msgspec.field(default_factory=list)


class CompletionBody(_Body):
    """A request for a plain completion."""

    prompt: str | list[str | int | list[int]] = ""


class FeedbackBody(msgspec.Struct, forbid_unknown_fields=True):
    """How good an answer was.

    Attributes:
        request_id: id of the request, from its header ``x-negajoule-request-id``.
        score: 0 for useless, 1 for right.
    """

    request_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    score: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class Call(msgspec.Struct, frozen=True):
    """A request that has passed the checks.

    Attributes:
        task: chat, plain completion, embeddings, or the count of a chat's tokens.
        model: the model asked for.
        stream: whether the client wants events.
        include_usage: whether the client asked for usage in its stream.
        raw: the body as it came.
        headers: the client's headers that an upstream may see; see ``headers``.
        native: the body as it came in the Responses API, for servers that speak it; empty for other calls.
    """

    task: Task
    model: str
    stream: bool
    include_usage: bool
    raw: bytes
    headers: dict[str, str] = {}
    native: bytes = b""

    def body(self) -> dict[str, Any]:
        """The body as a dictionary, unknown fields included."""
        decoded: dict[str, Any] = msgspec.json.decode(self.raw)
        return decoded


_DECODERS: dict[Task, msgspec.json.Decoder[Any]] = {
    "chat": msgspec.json.Decoder(ChatBody),
    "completion": msgspec.json.Decoder(CompletionBody),
}
_REQUIRED: dict[Task, str] = {"chat": "messages", "completion": "prompt"}
_AT = re.compile(r"`\$\.?(.*?)`$")


def parse_call(task: Task, raw: bytes) -> Call:
    """Check a request's body.

    Raises:
        RequestError: (R101) if it isn't JSON, (R102) if a field is missing or of the wrong type.
    """
    try:
        body = _DECODERS[task].decode(raw)
        msgspec.json.decode(raw)  # fields that the checks skip must be JSON too, or ``Call.body`` would fail
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"the body isn't valid JSON: {error}", code="R101") from None
    except RecursionError:
        raise RequestError("the body is nested too deeply", code="R101") from None
    field = _REQUIRED[task]
    if not getattr(body, field):
        raise RequestError(f"{field!r} is required and must not be empty", param=field)
    options = body.stream_options
    return Call(
        task=task,
        model=body.model,
        stream=bool(body.stream),
        include_usage=bool(options and options.include_usage),
        raw=raw,
    )


def _invalid(message: str) -> RequestError:
    found = _AT.search(message)
    param = found.group(1) if found and found.group(1) else None
    missing = re.search(r"missing required field `(\w+)`", message)
    if missing:
        param = f"{param}.{missing.group(1)}" if param else missing.group(1)
    return RequestError(message, param=param)


_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def status_of(error: NegajouleError) -> int:
    """The HTTP status that an error deserves."""
    if isinstance(error, (RequestError, EngineError)):
        return error.status
    return 503 if isinstance(error, LedgerError) else 500


def error_body(error: NegajouleError) -> bytes:
    """An error in OpenAI's shape, with our code and the next step in the message."""
    status = status_of(error)
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    message = f"{error.message}; {error.fix}" if error.fix else error.message
    return msgspec.json.encode(
        {
            "error": {
                "message": message,
                "type": kind,
                "param": getattr(error, "param", None),
                "code": error.code,
            }
        }
    )
