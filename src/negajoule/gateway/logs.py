"""Logs: one line a request, as text or JSON, on stderr; no prompt, no answer, no key.

As a library we log through ``logging.getLogger("negajoule")`` and leave what becomes of it to the program;
``negajoule serve`` calls ``configure``.

Of an unexpected exception its type and place are logged, not its message: that may quote what a client sent.
Whatever looks like one of our keys is blotted out, should it stand where none belongs: in a model's name.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
import traceback
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from negajoule.gateway.visit import Visit

__all__ = ["LOGGER", "announce", "configure", "log_crash", "log_visit"]

LOGGER = logging.getLogger("negajoule.gateway")
logging.getLogger("negajoule").addHandler(logging.NullHandler())

Format = Literal["text", "json"]

_OUR_KEYS = re.compile(r"nj-[A-Za-z0-9_-]{20,}")
_LONGEST_TEXT = 200
_LINGER_S = 0.05
_PATIENCE_S = 1.0
_MOST_WAITING = 10_000
_PLAIN = re.compile(r"[!-~]*")


def configure(
    form: Format, level: str, *, hide: Iterable[str] = (), stream: TextIO | None = None
) -> logging.Handler:
    """Send this process's logs to stderr, by a thread; may be called again to change the form or the level.

    Args:
        form: ``text`` or ``json``.
        level: ``debug``, ``info``, ``warning`` or ``error``; requests are logged at ``info``, those that fail
            by a fault of ours or of an upstream at ``error``.
        hide: secrets to blot out beside our own keys.
        stream: where to write instead, at once.
    """
    # What nobody prints needn't be found out for each line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = _Behind(sys.stderr) if stream is None else logging.StreamHandler(stream)
    handler.setFormatter(_Json(hide) if form == "json" else _Text(hide))
    root = logging.getLogger()
    before, root.handlers[:] = root.handlers[:], [handler]
    for old in before:
        if isinstance(old, _Behind):
            old.close()
    root.setLevel(logging.WARNING)
    logging.getLogger("negajoule").setLevel(level.upper())
    return handler


def announce(handler: logging.Handler, message: str, **fields: object) -> None:
    """Write a line whatever the level."""
    handler.handle(
        LOGGER.makeRecord(LOGGER.name, logging.INFO, "", 0, message, (), None, extra={"fields": fields})
    )


def log_visit(visit: Visit) -> None:
    """Log a request that has ended."""
    level = logging.ERROR if visit.status >= 500 else logging.INFO
    if LOGGER.isEnabledFor(level):
        fields: dict[str, Any] = {
            "request_id": visit.request_id,
            "client_request_id": visit.client_id,
            "method": visit.method,
            "path": visit.path,
            "status": visit.status,
            "ms": round(visit.seconds * 1e3, 3),
            "error": visit.error or None,
            "model": visit.model or None,
            "stream": visit.stream or None,
            "key": visit.caller.name or None,
            "tokens_in": visit.tokens.prompt,
            "tokens_out": visit.tokens.output,
            "energy_j": visit.energy_j,
        }
        LOGGER.log(level, "request", extra={"fields": {k: v for k, v in fields.items() if v is not None}})


def log_crash(error: BaseException) -> None:
    """Log an exception that nobody expected: its type and where it came from."""
    LOGGER.error("unexpected %s", type(error).__name__, extra={"fields": {"at": _places(error)}})


def _places(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__, limit=-12)
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


class _Behind(logging.Handler):
    """Formats and writes in a thread, many lines at once: who reads stderr slowly must not stop the server.

    Lines wait up to ``_LINGER_S``. If too many wait, new ones are dropped, and how many is said.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._records: deque[logging.LogRecord] = deque()
        self._dropped = 0
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="negajoule-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._records) >= _MOST_WAITING:
            self._dropped += 1
            return
        self._records.append(record)
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Write what waits, unless that takes too long."""
        self._closing.set()
        self._wake.set()
        if self._thread is not threading.current_thread():
            self._thread.join(_PATIENCE_S)
        super().close()

    def _work(self) -> None:
        while not (self._closing.is_set() and not self._records):
            self._wake.wait()
            self._closing.wait(_LINGER_S)
            self._wake.clear()
            self._write()

    def _write(self) -> None:
        lines = [self._line(self._records.popleft()) for _ in range(len(self._records))]
        dropped, self._dropped = self._dropped, 0
        if dropped:
            lines.append(self._line(_record(logging.WARNING, f"{dropped} lines were dropped: nobody reads")))
        with suppress(OSError, ValueError):  # a stream that was closed
            self._stream.write("".join(lines))
            self._stream.flush()

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return f"{self.format(record)}\n"
        except Exception as error:
            return f"a line couldn't be formatted: {type(error).__name__}\n"


def _record(level: int, message: str) -> logging.LogRecord:
    return LOGGER.makeRecord(LOGGER.name, level, "", 0, message, (), None)


class _Base(logging.Formatter):
    def __init__(self, hide: Iterable[str]) -> None:
        super().__init__()
        hidden = [re.escape(secret) for secret in hide if secret]
        self._secrets = re.compile("|".join([_OUR_KEYS.pattern, *hidden]))

    def fields_of(self, record: logging.LogRecord) -> dict[str, Any]:
        fields: dict[str, Any] = dict(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[1] is not None:
            fields["exception"] = record.exc_info[0].__name__ if record.exc_info[0] else "unknown"
            fields["at"] = _places(record.exc_info[1])
        return {
            name: value[:_LONGEST_TEXT] if isinstance(value, str) else value for name, value in fields.items()
        }

    def blotted(self, line: str) -> str:
        return self._secrets.sub("(key)", line)


class _Json(_Base):
    """A JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        whole = {
            "time": _stamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self.fields_of(record),
        }
        return self.blotted(_ascii(whole))


class _Text(_Base):
    """A line for people: what has odd characters stands in quotes, so that nothing can fake a line."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = " ".join(f"{name}={_quoted(value)}" for name, value in self.fields_of(record).items())
        message = record.getMessage().strip()
        return self.blotted(f"{_stamp(record.created)} {record.levelname.lower()} {message} {pairs}".rstrip())


def _quoted(value: object) -> str:
    text = str(value)
    if isinstance(value, str) and _PLAIN.fullmatch(text):
        return text
    return _ascii(value)


def _ascii(value: object) -> str:
    """JSON without any character that could begin a line or act on a terminal."""
    return json.dumps(value, default=str, separators=(",", ":")).replace("\x7f", "\\u007f")


def _stamp(seconds: float) -> str:
    whole = int(seconds)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int((seconds - whole) * 1000):03d}Z"
