"""One thread writes; whoever appends is told when the row is safe.

Rows that wait together share one commit. If the file can't be written, rows are kept in memory and tried
again; if it still can't be written at the end, they go to a rescue file that the next start merges. A request
is never broken because its account couldn't be kept.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from negajoule.errors import LedgerError
from negajoule.ledger.rows import COLUMNS, from_row, to_context, to_row

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from negajoule.ledger.activity import Activity
    from negajoule.ledger.store import Ledger

__all__ = ["LedgerWriter", "merge_rescued", "rescue_path"]

_LARGEST_BATCH = 512


class _Waiting(NamedTuple):
    activity: Activity
    written: Future[bool]


class LedgerWriter:
    """Owns the writing side of a ledger.

    Args:
        ledger: an open ledger that nobody else in this process writes to.
        retry_s: pause before a failed write is tried again [s].
        linger_s: how long a row may wait for others to share its commit [s]; a kill may cost as much.
        report: called with the error when a write fails for the first time.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        retry_s: float = 1.0,
        linger_s: float = 0.0,
        report: Callable[[LedgerError], None] | None = None,
    ) -> None:
        self._ledger = ledger
        self._retry_s = retry_s
        self._linger_s = linger_s
        self._report = report
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self.pending = 0
        """Rows handed over and not yet written."""
        self.failures = 0
        """Failed attempts to write."""
        self._lock = threading.Lock()
        merge_rescued(ledger)
        self._thread = threading.Thread(target=self._work, name="negajoule-ledger", daemon=True)
        self._thread.start()

    def append(self, activity: Activity) -> Future[bool]:
        """Hand a row over; the future is done when it is written (True) or rescued to a file (False).

        It can't be cancelled. Rows that come after ``close`` are rescued at once.
        """
        waiting = _Waiting(activity, Future())
        waiting.written.set_running_or_notify_cancel()
        with self._lock:
            self.pending += 1
            late = self._closing.is_set()
            if not late:
                self._queue.put(waiting)
        if late:
            self._rescue([waiting])
        return waiting.written

    def close(self) -> None:
        """Write what waits, or rescue it to a file, and end the thread; the ledger stays open."""
        with self._lock:
            if not self._closing.is_set():
                self._closing.set()
                self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            batch = self._next_batch()
            if not batch:
                return
            if not self._write(batch):
                self._rescue(batch)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while len(batch) < _LARGEST_BATCH:
            try:
                item = self._queue.get(block=not batch)
            except queue.Empty:
                break
            if item is None:
                # The end mark: what stands before it has been taken, so an empty batch means the end.
                if batch:
                    self._queue.put(None)
                break
            batch.append(item)
            if len(batch) == 1 and self._linger_s > 0:
                self._closing.wait(self._linger_s)
        return batch

    def _write(self, batch: list[_Waiting]) -> bool:
        while True:
            try:
                self._ledger.append(item.activity for item in batch)
            except LedgerError as error:
                self.failures += 1
                if self.failures == 1 and self._report:
                    self._report(error)
                if self._closing.wait(self._retry_s):
                    return False
                continue
            self._settle(batch, written=True)
            return True

    def _rescue(self, batch: list[_Waiting]) -> None:
        lines = []
        for item in batch:
            key, content = to_context(item.activity)
            lines.append(msgspec.json.encode([content, to_row(item.activity, key)]) + b"\n")
        try:
            with rescue_path(self._ledger).open("ab") as file:
                # A first line end, so that what a full disk tore doesn't spoil what follows.
                file.write(b"\n" + b"".join(lines))
        except OSError as error:
            if self._report:
                lost = LedgerError(f"{len(batch)} rows could be written nowhere: {error}")
                self._report(lost)
        self._settle(batch, written=False)

    def _settle(self, batch: list[_Waiting], *, written: bool) -> None:
        with self._lock:
            self.pending -= len(batch)
        for item in batch:
            item.written.set_result(written)


def rescue_path(ledger: Ledger) -> Path:
    """Where rows go that couldn't be written."""
    return ledger.path.with_suffix(".rescue.jsonl")


def merge_rescued(ledger: Ledger) -> int:
    """Bring rescued rows into the ledger, once, and return how many there were.

    Lines that can't be read (the disk was full) don't stop the others; they are put aside in a file named
    ``.unread.jsonl``. Ids keep a second merge from counting twice.

    Raises:
        LedgerError: if the ledger can't be written; the rescue file stays as it is then.
    """
    path = rescue_path(ledger)
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return 0
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
    return len(activities)
