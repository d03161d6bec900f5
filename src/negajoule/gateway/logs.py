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
import time
import traceback
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
_PLAIN = re.compile(r"[!-~]*")


def configure(
    form: Format, level: str, *, hide: Iterable[str] = (), stream: TextIO | None = None
) -> logging.Handler:
    """Send this process's logs to stderr; may be called again to change the form or the level.

    Args:
        form: ``text`` or ``json``.
        level: ``debug``, ``info``, ``warning`` or ``error``; requests are logged at ``info``, those that fail
            by a fault of ours or of an upstream at ``error``.
        hide: secrets to blot out beside our own keys.
        stream: where to write instead.
    """
    # What nobody prints needn't be found out for each line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(_Json(hide) if form == "json" else _Text(hide))
    root = logging.getLogger()
    root.handlers[:] = [handler]
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
