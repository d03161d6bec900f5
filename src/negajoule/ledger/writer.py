"""One thread writes; whoever appends is told when the row is safe.

Rows that wait together share one commit; with a journal they are safe before it. If the file can't be
written, rows are kept in memory and tried again; if it still can't be written at the end, they go to a rescue
file that the next start merges. A request is never broken because its account couldn't be kept.
"""

from __future__ import annotations

import os
import queue
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from negajoule.errors import LedgerError
from negajoule.ledger.rows import COLUMNS, Row, from_row

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from negajoule.ledger.activity import Activity
    from negajoule.ledger.journal import RowJournal
    from negajoule.ledger.store import Ledger

__all__ = ["LedgerWriter", "merge_rescued", "rescue_path"]

_LARGEST_BATCH = 512
_PATIENCE_S = 1.0


class _Waiting(NamedTuple):
    """A row to be written, and who is told; ``None`` if a journal holds it, so that nobody need wait."""

    row: Activity | Row
    written: Future[bool] | None


class LedgerWriter:
    """Owns the writing side of a ledger.

    Args:
        ledger: an open ledger that nobody else in this process writes to.
        retry_s: pause before a failed write is tried again [s].
        linger_s: how long a row may wait for others to share its commit [s]; a kill may cost as much, unless
            there is a journal.
        journal: keep rows that wait in a file, so that no kill costs any. Who reads through ``ledger`` sees
            them at once, others after ``linger_s``.
        report: called with the error when a write fails for the first time.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        retry_s: float = 1.0,
        linger_s: float = 0.0,
        journal: bool = False,
        report: Callable[[LedgerError], None] | None = None,
    ) -> None:
        self._ledger = ledger
        self._retry_s = retry_s
        self._linger_s = linger_s
        self._report = report
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._hurry = threading.Event()
        self.pending = 0
        """Rows handed over and not yet written."""
        self.failures = 0
        """Failed attempts to write."""
        self._handed = 0
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        merge_rescued(ledger)
        self._journal = _journal(ledger) if journal else None
        if self._journal is not None:
            ledger.before_reading = self.flush
        self._thread = threading.Thread(target=self._work, name="negajoule-ledger", daemon=True)
        self._thread.start()

    def append(self, activity: Activity) -> Future[bool]:
        """Hand a row over; the future is done when it is safe (True) or rescued to a file (False).

        It can't be cancelled. Rows that come after ``close`` are rescued at once.
        """
        row = activity if self._journal is None else Row.of(activity)
        with self._lock:
            self.pending += 1
            self._handed += 1
            late = self._closing.is_set()
            safe = not late and self._journal is not None and self._journal.write(row)  # type: ignore[arg-type]
            waiting = _Waiting(row, None if safe else _uncancellable())
            if not late:
                self._queue.put(waiting)
        if late:
            self._rescue([waiting])
        return _SAFE if waiting.written is None else waiting.written

    def flush(self, patience_s: float = _PATIENCE_S) -> bool:
        """Wait until the rows handed over so far are in the ledger; whether they are.

        Args:
            patience_s: how long to wait at most; less where writing fails [s].
        """
        if self.pending == 0 or threading.current_thread() is self._thread:
            return self.pending == 0
        self._hurry.set()
        with self._settled:
            until, failures = self._handed, self.failures
            self._settled.wait_for(
                lambda: self._handed - self.pending >= until or self.failures > failures, patience_s
            )
            return self._handed - self.pending >= until

    def close(self) -> None:
        """Write what waits, or rescue it to a file, and end the thread; the ledger stays open."""
        with self._lock:
            if not self._closing.is_set():
                self._closing.set()
                self._hurry.set()
                self._queue.put(None)
        self._thread.join()
        if self._journal is not None:
            self._ledger.before_reading = None

    def _work(self) -> None:
        kept = True
        while True:
            rows = self._next_rows()
            if not rows:
                break
            for start in range(0, len(rows), _LARGEST_BATCH):
                batch = rows[start : start + _LARGEST_BATCH]
                if not self._write(batch):
                    kept = self._rescue(batch) and kept
            if self._journal is not None and kept:
                self._journal.empty_other()
        if self._journal is not None:
            self._journal.close(remove=kept)

    def _next_rows(self) -> list[_Waiting]:
        """All rows that wait, once there is one; none at the end."""
        first = self._queue.get()
        if first is None:
            return []
        rows = [first]
        if self._linger_s > 0:
            self._hurry.wait(self._linger_s)
            self._hurry.clear()
        with self._lock:
            while not self._queue.empty():
                item = self._queue.get_nowait()
                if item is None:
                    self._queue.put(None)  # the end mark: nothing comes after it
                    break
                rows.append(item)
            if self._journal is not None:
                self._journal.turn()
        return rows

    def _write(self, batch: list[_Waiting]) -> bool:
        while True:
            try:
                self._ledger.append(item.row for item in batch)
            except LedgerError as error:
                with self._settled:
                    self.failures += 1
                    self._settled.notify_all()
                if self.failures == 1 and self._report:
                    self._report(error)
                if self._closing.wait(self._retry_s):
                    return False
                continue
            self._settle(batch, written=True)
            return True

    def _rescue(self, batch: list[_Waiting]) -> bool:
        """Write rows to the rescue file; whether that went well."""
        lines = []
        for item in batch:
            row = item.row if isinstance(item.row, Row) else Row.of(item.row)
            lines.append(msgspec.json.encode([row.content, row.values]) + b"\n")
        kept = True
        try:
            with rescue_path(self._ledger).open("ab") as file:
                # A first line end, so that what a full disk tore doesn't spoil what follows.
                file.write(b"\n" + b"".join(lines))
        except OSError as error:
            kept = False
            if self._report:
                lost = LedgerError(f"{len(batch)} rows could be written nowhere: {error}")
                self._report(lost)
        self._settle(batch, written=False)
        return kept

    def _settle(self, batch: list[_Waiting], *, written: bool) -> None:
        with self._settled:
            self.pending -= len(batch)
            self._settled.notify_all()
        for item in batch:
            if item.written is not None:
                item.written.set_result(written)


def _journal(ledger: Ledger) -> RowJournal | None:
    """A journal; ``None`` where there can be none: rows are safe with their commit then."""
    from negajoule.ledger.journal import RowJournal  # not everywhere, and for servers only

    try:
        return RowJournal(ledger.path)
    except OSError:
        return None


def _uncancellable() -> Future[bool]:
    future: Future[bool] = Future()
    future.set_running_or_notify_cancel()
    return future


_SAFE = _uncancellable()
_SAFE.set_result(True)


def rescue_path(ledger: Ledger) -> Path:
    """Where rows go that couldn't be written."""
    return ledger.path.with_suffix(".rescue.jsonl")


def merge_rescued(ledger: Ledger) -> int:
    """Bring rescued rows, and those of killed writers, into the ledger, once; return how many there were.

    Lines that can't be read (the disk was full) don't stop the others; they are put aside in a file named
    ``.unread.jsonl``. Ids keep a second merge from counting twice.

    Raises:
        LedgerError: if the ledger can't be written; the rescue file stays as it is then.
    """
    path = rescue_path(ledger)
    merged = _merge_journals(ledger, path.with_suffix(".unread.jsonl"))
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return merged
    activities = []
    unread = []
    for line in filter(None, lines):
        try:
            content, row = msgspec.json.decode(line)
            activities.append(from_row(dict(zip(COLUMNS, row, strict=True)), content))
        except (ValueError, TypeError, LookupError):
            unread.append(line + b"\n")
    ledger.append(activities)
    with suppress(OSError):  # the file stays then, and is merged again next time: ids count once
        if unread:
            with path.with_suffix(".unread.jsonl").open("ab") as file:
                file.writelines(unread)
        path.unlink()
    return merged + len(activities)


def _merge_journals(ledger: Ledger, unread_path: Path) -> int:
    """Bring what killed writers left into the ledger."""
    if not any(ledger.path.parent.glob(f"{ledger.path.stem}.*.journal")):
        return 0
    from negajoule.ledger.journal import read_rows, take_over

    merged = 0
    journals = take_over(ledger.path)
    try:
        for path, content, _ in journals:
            rows, unread = read_rows(content)
            merged += ledger.append(rows) if rows else 0
            with suppress(OSError):  # as below
                if unread:
                    with unread_path.open("ab") as file:
                        file.writelines(unread)
                path.unlink()
    finally:
        for _, _, lock in journals:
            os.close(lock)
    return merged
