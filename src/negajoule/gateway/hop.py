"""The hop to one upstream server: HTTP/1.1 over connections that are kept, and no more than a gateway needs.

A general client's sessions, cookies, redirects and encodings cost as much as all else that a gateway does for
a call. Here are a connection, its parser (``httptools``, which uvicorn brings) and a stack of idle ones.
Answers are asked for without compression; redirects are answers like any other; nothing is remembered.

Framing: RFC 9112. What a server may send before its body is limited, and a server that is silent for too
long while somebody waits for it is given up.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import httptools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

__all__ = ["HOP_FAULTS", "Answer", "Hop"]

HOP_FAULTS = (OSError, TimeoutError, ValueError)
"""What a hop raises: the server can't be reached or breaks off, is silent too long, or isn't a web server."""

_CONNECT_S = 10.0
_KEPT_S = 30.0
_DRAIN_S = 1.0
_LARGEST_HEAD = 65_536
_MUCH_BYTES = 262_144  # so much may wait for a slow client before the server has to
_SAFE = "/:?&=%+@,;~!$'()*-._"


class Hop:
    """The way to one server.

    Args:
        base: its address, with the path that all others are below.
        headers: sent with every request.
        silence_s: longest silence of a server that is waited for [s].
    """

    def __init__(self, base: str, headers: Mapping[str, str], silence_s: float) -> None:
        parts = urlsplit(base)
        secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if secure else 80)
        self._ssl = ssl.create_default_context() if secure else None
        self._silence_s = silence_s
        self._path = parts.path.rstrip("/")
        fixed = {"host": parts.netloc, "accept-encoding": "identity", **headers}
        self._fixed = _lines(fixed)
        self._starts: dict[str, bytes] = {}
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a body; returns when the answer's head is there.

        Args:
            path: below the base.
            body: what is sent.
            headers: further ones, already checked.

        Raises:
            OSError: if the server can't be reached or breaks off.
            TimeoutError: if it takes too long.
            ValueError: if it doesn't speak HTTP.
        """
        more = _lines(headers) if headers else b""
        head = b"POST %s%scontent-length: %d\r\n\r\n" % (self._start(path), more, len(body))
        return await self._ask(head + body)

    async def get(self, path: str) -> Answer:
        """Ask for a page; as ``post``."""
        return await self._ask(b"GET %s\r\n" % self._start(path))

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._open)

    async def close(self) -> None:
        """Let all connections go."""
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)  # the loop closes them when it comes round

    def _start(self, path: str) -> bytes:
        found = self._starts.get(path)
        if found is None:
            target = quote(self._path + path, safe=_SAFE)
            found = b"%s HTTP/1.1\r\n%s" % (target.encode("ascii"), self._fixed)
            if len(self._starts) < 64:  # some dialects have the model's name in the path
                self._starts[path] = found
        return found

    async def _ask(self, request: bytes) -> Answer:
        connection = self._kept() or await self._connect()
        answer = connection.send(request)
        try:
            await answer.head()
        except BaseException:
            answer.close()
            raise
        return answer

    def _kept(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_CONNECT_S):
            _, connection = await loop.create_connection(
                lambda: _Connection(loop, self._silence_s, self._idle, self._open),
                self._host,
                self._port,
                ssl=self._ssl,
            )
        return connection


class Answer:
    """One answer as it comes.

    Attributes:
        status: its HTTP status; 0 until its head is there.
        headers: its headers, names in lower case; the last of each name.
    """

    __slots__ = ("_connection", "_ended", "_error", "_pieces", "_size", "_waiter", "headers", "status")

    def __init__(self, connection: _Connection) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._connection = connection
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def head(self) -> None:
        """Wait for the head."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def piece(self) -> bytes:
        """What has come since the last piece; empty at the end.

        Raises:
            OSError: if the server broke off, and the others of ``Hop.post``.
        """
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            await self._wait()
        piece = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        self._connection.resume()
        return piece

    async def pieces(self) -> AsyncIterator[bytes]:
        """All pieces that are still to come."""
        while piece := await self.piece():
            yield piece

    async def read(self, largest: int | None = None) -> bytes:
        """The rest of the body, or about so much of it [B]."""
        body = await self.piece()
        if self._ended and not self._pieces:
            return body
        pieces = bytearray(body)
        while (largest is None or len(pieces) < largest) and (piece := await self.piece()):
            pieces += piece
        return bytes(pieces)

    def release(self) -> None:
        """All that matters has been read: keep the connection for another call once the end is there."""
        self._connection.let_go(self)

    def close(self) -> None:
        """Break the answer off, and the connection with it."""
        self._connection.drop(self)

    async def _wait(self) -> None:
        self._waiter = waiter = self._connection.loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """Something has come."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def put(self, piece: bytes) -> int:
        """A piece of the body has come; returns how much waits."""
        self._pieces.append(piece)
        self._size += len(piece)
        self.wake()
        return self._size

    def end(self, error: Exception | None = None) -> None:
        """The answer has ended, or never will."""
        if not self._ended:
            self._ended = error is None
            self._error = self._error or error
        self.wake()

    @property
    def waits(self) -> bool:
        """Whether somebody waits for the server."""
        return self._waiter is not None


class _Connection(asyncio.Protocol):
    """One connection; it carries one answer at a time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        silence_s: float,
        idle: list[_Connection],
        open_: set[_Connection],
    ) -> None:
        self.loop = loop
        self._silence_s = silence_s
        self._idle = idle
        self._open = open_
        self._transport: Any = None
        self._parser: Any = None
        self._answer: Answer | None = None
        self._clock: asyncio.TimerHandle | None = None
        self._heard_s = 0.0
        self._head_bytes = 0
        self._until_end = False
        self._paused = False
        self._letting_go = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        self._open.discard(self)
        if self in self._idle:
            self._idle.remove(self)
        answer = self._answer
        if answer is not None:
            if self._until_end and exc is None:
                self._finish(keep=False)
            else:
                self._fail(exc if isinstance(exc, OSError) else ConnectionResetError("the server hung up"))

    def send(self, request: bytes) -> Answer:
        """Send a request on an idle connection."""
        self._parser = httptools.HttpResponseParser(self)
        self._answer = answer = Answer(self)
        self._head_bytes, self._until_end, self._letting_go = 0, False, False
        self._stop_clock()
        self._heard_s = self.loop.time()
        self._clock = self.loop.call_later(self._silence_s, self._on_silence)
        self._transport.write(request)
        return answer

    @property
    def is_usable(self) -> bool:
        """Whether it is still open."""
        return not self._transport.is_closing()

    def let_go(self, answer: Answer) -> None:
        """Nobody reads this answer any more: wait a little for its end, then be idle."""
        if answer is self._answer:
            self._letting_go = True
            self.resume()
            self._stop_clock()
            self._clock = self.loop.call_later(_DRAIN_S, self.abort)

    def drop(self, answer: Answer) -> None:
        """Close, if this answer is still under way."""
        if answer is self._answer:
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._stop_clock()
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.end(ConnectionAbortedError("the connection was closed here"))
        self._open.discard(self)
        self._transport.abort()

    def resume(self) -> None:
        """Take more from the server again."""
        if self._paused:
            self._paused = False
            self._heard_s = self.loop.time()
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            self.abort()  # nobody asked
            return
        self._heard_s = self.loop.time()
        if not answer.status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(ValueError("its answer isn't HTTP"))
            return
        if self._answer is answer and not answer.status and self._head_bytes > _LARGEST_HEAD:
            self._fail(ValueError("its answer's head is too large"))

    def eof_received(self) -> bool:
        return False

    def on_message_begin(self) -> None:
        if self._answer is None:
            # More than one answer to one request: the next call must not get it.
            self._transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        answer = self._answer
        if answer is not None and not answer.status:
            answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        answer, status = self._answer, self._parser.get_status_code()
        if answer is None:
            return
        if status < 200:
            answer.headers.clear()
            return
        headers = answer.headers
        self._until_end = "content-length" not in headers and "transfer-encoding" not in headers
        if headers.get("content-encoding", "identity") != "identity":
            self._fail(ValueError("its answer is compressed, which wasn't asked for"))
            return
        answer.status = status
        answer.wake()

    def on_body(self, body: bytes) -> None:
        answer = self._answer
        if answer is None or self._letting_go:
            return
        if answer.put(body) > _MUCH_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._answer is not None and self._answer.status:
            self._finish(keep=bool(self._parser.should_keep_alive()))

    def _finish(self, *, keep: bool) -> None:
        answer, self._answer = self._answer, None
        self._stop_clock()
        self.resume()
        if answer is not None:
            answer.end()
        if keep and not self._transport.is_closing():
            self._idle.append(self)
            self._clock = self.loop.call_later(_KEPT_S, self.abort)
        else:
            self._transport.abort()

    def _fail(self, error: Exception) -> None:
        answer, self._answer = self._answer, None
        self._stop_clock()
        if answer is not None:
            answer.end(error)
        self._transport.abort()

    def _on_silence(self) -> None:
        answer = self._answer
        if answer is None:
            return
        left_s = self._heard_s + self._silence_s - self.loop.time()
        if left_s > 0 or not answer.waits:
            self._clock = self.loop.call_later(max(left_s, self._silence_s / 4), self._on_silence)
            return
        self._fail(TimeoutError())

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None


def _lines(headers: Mapping[str, str]) -> bytes:
    """Header lines.

    Raises:
        ValueError: if one would begin another line.
    """
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers):
        raise ValueError("a header has a line end in it")
    return lines
