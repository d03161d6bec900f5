"""What a connection may do before its request is there: how many, how large a header, how slowly.

uvicorn has no such limits: its header parser takes any length, and a client may take for ever to send a
header (slowloris). Here they are put around its protocol. They cost a request nothing but a comparison, since
the clock runs only while a header is incomplete.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from negajoule.errors import RequestError
from negajoule.gateway.wire import error_body

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from negajoule.gateway.limits import Limits

__all__ = ["guarded_protocol", "uvicorn_options"]

_KEEP_ALIVE_S = 30  # longer than clients keep a connection, so that they close it first
_SILENCE_S = 60  # after which a silent peer is asked whether it is still there
_PHRASES = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}


def uvicorn_options(limits_now: Callable[[], Limits]) -> dict[str, Any]:
    """How uvicorn is to listen for us.

    Args:
        limits_now: the limits that hold at the moment.
    """
    return {
        "http": guarded_protocol(limits_now),
        "ws": "none",
        "access_log": False,
        "proxy_headers": False,  # nobody's word about an address is taken
        "server_header": False,
        "timeout_keep_alive": _KEEP_ALIVE_S,
    }


def guarded_protocol(limits_now: Callable[[], Limits]) -> type[asyncio.Protocol]:
    """The protocol of uvicorn within limits; its own refusals in OpenAI's shape.

    Args:
        limits_now: the limits that hold at the moment.
    """
    base: Any = HttpToolsProtocol

    class Guarded(base):  # type: ignore[misc]
        """One connection."""

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self.transport = _Corked(transport, self.loop)
            limits = limits_now()
            _watch_peer(transport, limits.body_timeout_s)
            self._header_bytes = 0
            self._header_clock = self.loop.call_later(limits.header_timeout_s, self._on_slow_header)
            if len(self.connections) > limits.max_connections:
                self._refuse(503, "R107", "too many connections are open", fix="try again")

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_header_clock()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            largest = limits_now().max_header_bytes
            cycle, begins_in_header = self.cycle, self._header_is_next()
            if begins_in_header and self._header_bytes + len(data) > largest:
                end = data.find(b"\r\n\r\n")
                if end < 0 or self._header_bytes + end > largest:
                    message = f"the header is larger than {largest} bytes"
                    self._refuse(431, "R113", message)
                    return
            super().data_received(data)
            if self._header_is_open():
                # Where in the data a further header began isn't known; it is counted from the next data on.
                same = begins_in_header and self.cycle is cycle
                self._header_bytes = self._header_bytes + len(data) if same else 0
                if self._header_clock is None:
                    patience_s = limits_now().header_timeout_s
                    self._header_clock = self.loop.call_later(patience_s, self._on_slow_header)
            elif self._header_clock is not None or self._header_bytes:
                self._stop_header_clock()

        def send_400_response(self, msg: str) -> None:
            self._refuse(400, "R113", msg.rstrip(".").lower())

        def _header_is_open(self) -> bool:
            """Whether a header has begun, or must, and isn't whole.

            After an answer uvicorn closes a connection that stays silent; if it isn't silent, we do.
            """
            cycle = self.cycle
            if cycle is None or cycle.scope is not self.scope:
                return True
            return bool(cycle.response_complete) and self.timeout_keep_alive_task is None

        def _header_is_begun(self) -> bool:
            """Whether part of a header has come."""
            return self.scope is not None and (self.cycle is None or self.cycle.scope is not self.scope)

        def _header_is_next(self) -> bool:
            """Whether what comes now belongs to a header."""
            return self._header_is_open() or not self.cycle.more_body

        def _stop_header_clock(self) -> None:
            self._header_bytes = 0
            if self._header_clock is not None:
                self._header_clock.cancel()
                self._header_clock = None

        def _on_slow_header(self) -> None:
            self._header_clock = None
            if self._header_is_begun():
                self._refuse(408, "R112", "the request's header took too long")
            else:
                self.transport.close()

        def _refuse(self, status: int, code: str, message: str, *, fix: str = "") -> None:
            """Answer and close, unless another answer is on its way."""
            self._stop_header_clock()
            cycle = self.cycle
            answering = cycle is not None and cycle.response_started and not cycle.response_complete
            if not self.transport.is_closing() and not answering:
                body = error_body(RequestError(message, code=code, status=status, fix=fix))
                self.transport.write(
                    b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
                    b"connection: close\r\n\r\n%s" % (status, _PHRASES[status], len(body), body)
                )
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
            self.transport.close()

    return Guarded


class _Corked:
    """A transport that keeps the head of an answer back until its body begins: one packet instead of two.

    Args:
        transport: the transport.
        loop: its loop; what no body follows is sent when it comes round.
    """

    __slots__ = ("__weakref__", "_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        """Send data, or keep it a moment."""
        held = self._held
        if held:
            self._held = b""
            self._transport.write(held + data)
        elif data.startswith(b"HTTP/1.1 "):
            self._held = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Close when all is sent."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (as the transport has it)
        return getattr(self._transport, name)

    def _flush(self) -> None:
        held, self._held = self._held, b""
        if held:
            self._transport.write(held)


def _watch_peer(transport: asyncio.Transport, patience_s: float) -> None:
    """Have the system drop a peer that vanished, or that takes nothing of what it is sent (Linux, tcp(7))."""
    peer = transport.get_extra_info("socket")
    if peer is None or peer.family not in (socket.AF_INET, socket.AF_INET6):
        return
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENCE_S)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(patience_s * 1000))
