"""Server-sent events: cut a byte stream into events, however it was split on the way.

Format: WHATWG HTML standard, section 9.2 (server-sent events); the end mark ``[DONE]`` is OpenAI's.
"""

from __future__ import annotations

__all__ = ["DONE", "EventCutter", "data_of", "event"]

DONE = b"data: [DONE]\n\n"


def event(data: bytes) -> bytes:
    """An event that carries one line of data."""
    return b"data: " + data + b"\n\n"


def data_of(raw: bytes) -> bytes | None:
    """The data of one event, its lines joined; ``None`` if it carries none (a comment, a ping)."""
    lines = []
    for line in raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        if line.startswith(b"data:"):
            value = line[5:]
            lines.append(value[1:] if value.startswith(b" ") else value)
    return b"\n".join(lines) if lines else None


class EventCutter:
    """Collects bytes and hands out whole events.

    Args:
        limit_bytes: longest event that is collected.
    """

    def __init__(self, limit_bytes: int = 16 * 1024 * 1024) -> None:
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes; return the events they complete, without their final blank line.

        Raises:
            ValueError: if an event grows beyond the limit.
        """
        self._buffer += data
        events: list[bytes] = []
        start = 0
        while True:
            end, after = _blank_line(self._buffer, start)
            if end < 0:
                break
            events.append(bytes(self._buffer[start:end]))
            start = after
        if start:
            del self._buffer[:start]
        if len(self._buffer) > self._limit_bytes:
            raise ValueError(f"an event is longer than {self._limit_bytes} bytes")
        return events

    @property
    def rest(self) -> bytes:
        """What has come of an event that isn't whole yet."""
        return bytes(self._buffer)


def _blank_line(buffer: bytearray, start: int) -> tuple[int, int]:
    found = [(at, at + len(mark)) for mark in (b"\n\n", b"\r\n\r\n") if (at := buffer.find(mark, start)) >= 0]
    return min(found, default=(-1, -1))
