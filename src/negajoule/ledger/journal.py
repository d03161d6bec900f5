"""Rows on their way, in a file: a killed process loses none that it has handed to the writer.

One transaction a row costs more than passing a call on, so rows share transactions, and until theirs is done
they stand in a journal: one line a row, one system call each. Two files take turns, so that one can be
emptied when the rows in it are in the ledger. Files are locked while their process lives; whoever finds a
lock free brings the rows into the ledger. Ids keep a row from counting twice.

Like the ledger's own write-ahead log, a journal outlives the process; it isn't synced for a power failure.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from negajoule.ledger.activity import new_id
from negajoule.ledger.rows import COLUMNS, Row

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SUFFIX", "RowJournal", "read_rows", "take_over"]

SUFFIX = ".journal"

_encode = msgspec.json.Encoder().encode


class RowJournal:
    """A writer's two files.

    Args:
        ledger: path of the ledger.

    Raises:
        OSError: if they can't be made.
    """

    def __init__(self, ledger: Path) -> None:
        stem = f"{ledger.stem}.{new_id('rows')}"
        self._paths = [ledger.with_name(f"{stem}-{number}{SUFFIX}") for number in (0, 1)]
        self._files = [_locked(path) for path in self._paths]
        self._now = 0
        self._contexts: set[str] = set()
        self._whole = True

    def write(self, row: Row) -> bool:
        """Write a row down; whether that went well. If not, nothing more is, until the files take turns."""
        if not self._whole:
            return False
        line = _encode(row.values) + b"\n"
        if row.context not in self._contexts:
            line = _encode(row[:2]) + b"\n" + line
            self._contexts.add(row.context)
        try:
            self._whole = os.write(self._files[self._now], line) == len(line)
        except OSError:
            self._whole = False
        return self._whole

    def turn(self) -> None:
        """From now on use the other file, which must have been emptied."""
        self._now = 1 - self._now
        self._contexts.clear()
        self._whole = True

    def empty_other(self) -> None:
        """All rows of the file that isn't in use are in the ledger."""
        with suppress(OSError):
            os.ftruncate(self._files[1 - self._now], 0)

    def close(self, *, remove: bool) -> None:
        """Let go of the files, and remove them if all rows are elsewhere."""
        for path, file in zip(self._paths, self._files, strict=True):
            if remove:
                with suppress(OSError):
                    path.unlink()
            os.close(file)


def take_over(ledger: Path) -> list[tuple[Path, bytes, int]]:
    """Journals whose process is gone: path, content and a lock to close once they are dealt with."""
    found = []
    for path in sorted(ledger.parent.glob(f"{ledger.stem}.*{SUFFIX}")):
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may have been dealt with between the two calls.
            mine = os.path.samestat(os.fstat(file), path.stat())
            content = path.read_bytes() if mine else b""
        except OSError:
            mine = False
        if mine:
            found.append((path, content, file))
        else:
            os.close(file)
    return found


def read_rows(content: bytes) -> tuple[list[Row], list[bytes]]:
    """The rows of a journal, and the lines that can't be read: the last may be torn."""
    rows, unread = [], []
    contexts: dict[str, str] = {}
    for line in filter(None, content.split(b"\n")):
        try:
            values = msgspec.json.decode(line)
            if len(values) == len(COLUMNS):
                rows.append(Row(values[-1], contexts[values[-1]], tuple(values)))
            else:
                context, shared = values
                contexts[context] = shared
        except (ValueError, TypeError, LookupError):
            unread.append(line + b"\n")
    return rows, unread


def _locked(path: Path) -> int:
    """Make a file under another name, lock it, then move it: it's never seen unlocked."""
    fresh = path.with_suffix(".new")
    file = os.open(fresh, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fresh.replace(path)
    except BaseException:
        os.close(file)
        fresh.unlink(missing_ok=True)
        raise
    return file
