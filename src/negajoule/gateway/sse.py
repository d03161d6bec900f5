"""Server-sent events: cut a byte stream into events, however it was split on the way.

Format: WHATWG HTML standard, section 9.2 (server-sent events); the end mark ``[DONE]`` is OpenAI's.
"""

from __future__ import annotations

import re

__all__ = ["DONE", "EventCutter", "data_of", "event"]

DONE = b"data: [DONE]\n\n"

_LINE_END = rb"(?>\r\n|\n|\r)"
_BLANK_LINE = re.compile(_LINE_END + _LINE_END)


def event(data: bytes) -> bytes:
    """An event that carries data; each of its lines gets a line of its own."""
    return b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"


def data_of(raw: bytes) -> bytes | None:
    """The data of one event, its lines joined; ``None`` if it carries none (a comment, a ping)."""
    lines = []
    for line in raw.splitlines():
        field, _, value = line.partition(b":")
        if field == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines) if lines else None


class EventCutter:
    """Collects bytes and hands out whole events.

    Args:
        limit_bytes: longest event that is collected.
    """

    def __init__(self, limit_bytes: int = 16 * 1024 * 1024) -> None:
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()
        self._half_line_end = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes; return the events they complete, without their final blank line.

        Raises:
            ValueError: if an event grows beyond the limit.
        """
        if self._half_line_end and data:
            data = data.removeprefix(b"\n")
            self._half_line_end = False
        # What was searched before can only end in the first half of a blank line, two bytes at most.
        searched = max(0, len(self._buffer) - 2)
        self._buffer += data
        events: list[bytes] = []
        start = 0
        for found in _BLANK_LINE.finditer(self._buffer, searched):
            if found.start() > start:
                events.append(bytes(self._buffer[start : found.start()]))
            start = found.end()
        if start:
            # A carriage return that came last may be followed by the line feed that belongs to it.
            self._half_line_end = start == len(self._buffer) and self._buffer.endswith(b"\r")
            del self._buffer[:start]
        if len(self._buffer) > self._limit_bytes:
            raise ValueError(f"an event is longer than {self._limit_bytes} bytes")
        return events

    @property
    def is_empty(self) -> bool:
        """Whether what comes next begins an event."""
        return not self._buffer and not self._half_line_end

    @property
    def rest(self) -> bytes:
        """What has come of an event that isn't whole yet."""
        return bytes(self._buffer)
