"""The Responses API where both sides speak it: events pass as they are, usage is still counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule.errors import EngineError
from negajoule.gateway.adapters.responses.stream import ClientEvents
from negajoule.gateway.adapters.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from negajoule.errors import NegajouleError

__all__ = ["EitherEvents", "NativeEvents"]

_ENDS = ("response.completed", "response.incomplete", "response.failed")


class NativeEvents:
    """Passes an upstream's events on; an ``UpstreamStream``.

    Attributes:
        ended: whether the answer is whole.
        usage: what was counted.
    """

    def __init__(self) -> None:
        self.ended = False
        self.usage = Usage()

    def feed(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take an event and give it back. See ``UpstreamStream``."""
        kind = event.get("type")
        if kind == "error":
            raise EngineError(f"the upstream failed: {str(event.get('message'))[:200]}", code="E103")
        if kind in _ENDS:
            self.ended = True
            response = event.get("response")
            self.usage = Usage.of(response.get("usage") if isinstance(response, dict) else None)
        return [dict(event)]

    def finish(self) -> list[dict[str, Any]]:
        """The upstream closed its stream. See ``UpstreamStream``."""
        if not self.ended:
            raise EngineError("the upstream broke off before the end of its answer", code="E103")
        return []


class EitherEvents:
    """A client's events, made of chat chunks or passed on, as they come; a ``ClientStream``.

    Args:
        request: the client's request of the Responses API.

    Attributes:
        native: whether they are passed on.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._made = ClientEvents(request)
        self.native = False

    def feed(self, chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take a chunk or an event. See ``ClientStream``."""
        self.native = self.native or str(chunk.get("type", "")).startswith("response.")
        if not self.native:
            return self._made.feed(chunk)
        return [dict(chunk)] if "type" in chunk else []

    def finish(self) -> list[dict[str, Any]]:
        """The answer is whole. See ``ClientStream``."""
        return [] if self.native else self._made.finish()

    def fail(self, error: NegajouleError) -> list[dict[str, Any]]:
        """The answer broke off. See ``ClientStream``."""
        return self._made.fail(error)
