"""A request's body as it comes, no larger than allowed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from negajoule.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive

__all__ = ["Intake"]

_PEEK_S = 0.01
_DRAIN_S = 2.0
_DRAIN_BODIES = 4


class Intake:
    """Reads one body.

    Args:
        receive: where it comes from.
        limit_bytes: its largest size.

    Attributes:
        whole: whether all of it has come.
    """

    def __init__(self, receive: Receive, limit_bytes: int) -> None:
        self._receive = receive
        self._limit_bytes = limit_bytes
        self.whole = False

    async def read(self) -> bytes:
        """The body.

        Raises:
            RequestError: (R105) if it is too large, (R107) if the client went away.
        """
        body = await self._piece()
        if not self.whole:
            pieces = bytearray(body)
            while not self.whole:
                self._check(len(pieces))
                pieces += await self._piece()
            body = bytes(pieces)
        self._check(len(body))
        return body

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body piece by piece, however large; whoever reads it keeps a limit of its own."""
        while not self.whole:
            yield await self._piece()

    async def peek(self) -> None:
        """Find out whether all of it has come already, for an answer that won't read it."""
        with suppress(TimeoutError, RequestError):
            async with asyncio.timeout(_PEEK_S):
                await self._piece()

    async def drain(self) -> None:
        """Take what is still on its way, within limits, so that the client gets to read its answer.

        A connection closed on unread data is reset, and the answer is lost with it (RFC 9112, section 9.6).
        """
        left = _DRAIN_BODIES * self._limit_bytes
        with suppress(TimeoutError, RequestError):
            async with asyncio.timeout(_DRAIN_S):
                while not self.whole and left > 0:
                    left -= len(await self._piece())

    async def _piece(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.whole = True
            raise RequestError("the client went away", code="R107", status=499)
        self.whole = not message.get("more_body")
        piece: bytes = message.get("body", b"")
        return piece

    def _check(self, size: int) -> None:
        if size > self._limit_bytes:
            raise RequestError(f"the body is larger than {self._limit_bytes} bytes", code="R105", status=413)
