"""The answer to one request: its head, its body or events, and how it ends when something fails."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from math import ceil
from typing import TYPE_CHECKING

from negajoule.gateway.dialects import OPENAI
from negajoule.gateway.sse import DONE
from negajoule.gateway.wire import status_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Message, Send

    from negajoule.errors import NegajouleError
    from negajoule.gateway.dialects import Talk
    from negajoule.gateway.intake import Intake

__all__ = ["Fields", "Reply"]

Fields = list[tuple[bytes, bytes]]
"""Header fields."""

_PATIENCE_S = 2.0
_JSON = (b"content-type", b"application/json")
_EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
_CLOSE = (b"connection", b"close")
_ASK_BEARER = (b"www-authenticate", b'Bearer realm="negajoule"')
_ASK_EITHER = (b"www-authenticate", b'Basic realm="negajoule", charset="UTF-8", Bearer')


class Reply:
    """Sends one answer.

    Args:
        send: where it goes.
        talk: the dialect that errors are told in.

    Attributes:
        status: its HTTP status; 0 until its head has gone.
        fields: header fields that are added to somebody else's answer.
    """

    def __init__(self, send: Send, talk: Talk = OPENAI) -> None:
        self._send = send
        self._talk = talk
        self.status = 0
        self.fields: Fields = []

    async def send(self, message: Message) -> None:
        """Pass a message of somebody else's answer on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self.fields]
        await self._send(message)

    async def whole(self, body: bytes, fields: Fields) -> None:
        """Answer with JSON."""
        await self._start(200, [_JSON, (b"content-length", b"%d" % len(body)), *fields])
        await self._send({"type": "http.response.body", "body": body})

    async def events(self, first: bytes, rest: AsyncIterator[bytes], fields: Fields) -> None:
        """Answer with events, each passed on as it comes."""
        send = self._send
        await self._start(200, [_EVENTS, (b"cache-control", b"no-store"), *fields])
        ended = False
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for piece in rest:
            ended = piece.endswith(DONE)
            await send({"type": "http.response.body", "body": piece, "more_body": not ended})
        if not ended:
            await send({"type": "http.response.body", "body": b""})

    async def fail(
        self, error: NegajouleError, fields: Fields, intake: Intake, *, page: bool = False
    ) -> None:
        """End with an error: in OpenAI's shape, or as an event without an end mark if the answer has begun.

        Args:
            error: what went wrong.
            fields: header fields of an answer that hasn't begun.
            intake: the request's body; what is still on its way is taken before the connection closes.
            page: whether it may have been a person in a browser who asked.
        """
        if not intake.whole:
            await intake.peek()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                if self.status:
                    await self._send({"type": "http.response.body", "body": self._talk.broken(error)})
                    return
                body = self._talk.error(error)
                head = [_JSON, (b"content-length", b"%d" % len(body)), *_hints(error, page), *fields]
                if not intake.whole:
                    head.append(_CLOSE)
                await self._start(status_of(error), head)
                await self._send({"type": "http.response.body", "body": body, "more_body": not intake.whole})
        if not intake.whole:
            if error.code != "R112":
                await intake.drain()
            await self._send({"type": "http.response.body", "body": b""})

    async def _start(self, status: int, fields: Fields) -> None:
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": fields})


def _hints(error: NegajouleError, page: bool) -> Fields:
    status = status_of(error)
    if status == 401:
        return [_ASK_EITHER if page else _ASK_BEARER]
    after_s = getattr(error, "retry_after_s", None)
    if after_s is None and error.code == "R107":
        after_s = 1.0
    return [] if after_s is None else [(b"retry-after", b"%d" % max(1, ceil(after_s)))]
