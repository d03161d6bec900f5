"""Events of a stream: their JSON, and their names where a dialect names them.

Anthropic's and the Responses API's streams name every event (``event: message_stop``); Gemini's and the chat
completions' have data only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from negajoule.errors import EngineError
from negajoule.gateway.sse import event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from negajoule.errors import NegajouleError
    from negajoule.gateway.adapters.usage import Usage

__all__ = ["ClientStream", "UpstreamStream", "decode_event", "named_event", "unnamed_event"]


class UpstreamStream(Protocol):
    """Turns an upstream's events into OpenAI's chunks.

    Attributes:
        ended: whether the answer is whole; if it isn't, the stream was cut.
        usage: what has been counted so far, wherever it stood.
    """

    ended: bool
    usage: Usage

    def feed(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take an event; return the chunks it makes.

        Raises:
            EngineError: E104 if it's malformed, E103 if the upstream reports an error.
        """
        ...

    def finish(self) -> list[dict[str, Any]]:
        """The upstream closed its stream; return the last chunks.

        Raises:
            EngineError: E103 if the answer isn't whole.
        """
        ...


class ClientStream(Protocol):
    """Turns OpenAI's chunks into a client's events."""

    def feed(self, chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take a chunk; return the events it makes.

        Raises:
            EngineError: E104 if it's malformed.
        """
        ...

    def finish(self) -> list[dict[str, Any]]:
        """The answer is whole; return the last events."""
        ...

    def fail(self, error: NegajouleError) -> list[dict[str, Any]]:
        """The answer broke off; return the events that say so. Nothing may follow them."""
        ...


def decode_event(data: bytes) -> dict[str, Any]:
    """The object that an event's data holds.

    Raises:
        EngineError: E104 if it isn't one.
    """
    try:
        decoded = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise EngineError("the upstream sent an event that isn't JSON", code="E104") from None
    if not isinstance(decoded, dict):
        raise EngineError("the upstream sent an event that isn't a JSON object", code="E104")
    return decoded


def named_event(content: Mapping[str, Any]) -> bytes:
    """An event under the name that its ``type`` gives, as Anthropic and the Responses API send it."""
    return b"event: " + str(content["type"]).encode() + b"\n" + event(msgspec.json.encode(content))


def unnamed_event(content: Mapping[str, Any]) -> bytes:
    """An event with data only, as Gemini and the chat completions send it."""
    return event(msgspec.json.encode(content))
