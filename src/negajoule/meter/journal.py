"""An account of a run on disk while it runs, so that a kill at any moment costs at most one heartbeat.

One file a run, one JSON object a line, appended and synced. Every line holds the run's totals so far, so the
last whole line is the account, a torn line after it is dropped, and merging the same files twice changes
nothing.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self
from uuid import uuid4

import msgspec

from negajoule.config import home
from negajoule.meter.probe import Gap
from negajoule.meter.ranks import DeviceReading, device_readings
from negajoule.units import Part

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

    from negajoule.meter.meter import Meter
    from negajoule.meter.window import Snapshot

__all__ = ["Journal", "JournalEntry", "journal_folder", "merge_journals", "read_journal", "unfinished"]

SCHEMA = "negajoule.journal/1"
HEARTBEAT_S = 10.0
WRITE_SHARE = 0.7
"""Entries are written after this share of a heartbeat, so that a slow disk doesn't break the promise."""


class JournalEntry(msgspec.Struct, frozen=True, tag_field="schema", tag=SCHEMA):
    """Totals of a run up to a moment.

    Attributes:
        run: the run's id.
        sequence: number of the entry, from 0.
        host_id: the machine.
        boot_id: its boot.
        pid: the process that writes.
        started_s: UTC seconds since 1970 at the start [s].
        seconds: length so far [s].
        cpu_s: CPU time so far [s].
        parts: our energy so far.
        devices: whole devices so far, for telling ranks apart.
        gaps: stretches so far that no counter vouches for.
        label: the user's name for the run.
        zone: where the electricity was used; empty if nobody said.
        final: whether the run ended in order.
    """

    run: str
    sequence: int
    host_id: str
    boot_id: str
    pid: int
    started_s: float
    seconds: float
    cpu_s: float
    parts: tuple[Part, ...]
    devices: tuple[DeviceReading, ...] = ()
    gaps: tuple[Gap, ...] = ()
    label: str = ""
    zone: str = ""
    final: bool = False


class Journal:
    """Writes a run's totals every heartbeat, from its own thread, until it is closed.

    While it is open its file is locked, so that nobody takes a living run for a killed one.

    A disk that can't be written doesn't disturb the run: ``error`` then holds why, and the next heartbeat
    tries again.

    Args:
        meter: what measures the run.
        folder: where the file goes, by default ``journal`` in the data folder.
        run: the run's id, by default a new one.
        label: the user's name for the run.
        zone: where the electricity is used.
        first: when the run began, by default now.
        heartbeat_s: the most that a kill may cost [s]; ``None`` for no thread, because the caller calls
            ``beat``.
    """

    def __init__(
        self,
        meter: Meter,
        folder: Path | None = None,
        *,
        run: str | None = None,
        label: str = "",
        zone: str = "",
        first: Snapshot | None = None,
        heartbeat_s: float | None = HEARTBEAT_S,
    ) -> None:
        self.run = run or uuid4().hex
        self.path = (journal_folder() if folder is None else folder) / f"{self.run}.jsonl"
        self.error = ""
        self._meter, self._label, self._zone = meter, label, zone
        self._first = meter.read() if first is None else first
        self._sequence = 0
        self._pid = os.getpid()
        self._file = -1
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.beat()
        self._thread: threading.Thread | None = None
        if heartbeat_s is not None:
            self._thread = threading.Thread(
                target=self._run, args=(heartbeat_s * WRITE_SHARE,), name="negajoule-journal", daemon=True
            )
            self._thread.start()

    def beat(self, *, final: bool = False) -> None:
        """Write the totals now; never raises. A forked child writes nothing: the run isn't its own."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            now = self._meter.read()
            window = self._meter.between(self._first, now)
            host = self._meter.host
            entry = JournalEntry(
                run=self.run,
                sequence=self._sequence,
                host_id=host.host_id,
                boot_id=host.boot_id,
                pid=self._pid,
                started_s=self._first.wall_s,
                seconds=window.seconds,
                cpu_s=window.cpu_s,
                parts=window.parts,
                devices=device_readings(window, self._first.wall_s, host, self._meter.probes.uuids()),
                gaps=window.gaps,
                label=self._label,
                zone=self._zone,
                final=final,
            )
            try:
                self._append(msgspec.json.encode(entry) + b"\n")
            except OSError as error:
                self.error = str(error)
            else:
                self.error = ""
                self._sequence += 1

    def close(self) -> None:
        """Write the last totals and mark the run as ended in order; again does nothing."""
        if self._stop.is_set():
            return
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.beat(final=True)
        if self._file >= 0:
            os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, line: bytes) -> None:
        if self._file < 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if sys.platform != "win32":
                with suppress(OSError):
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(self._file, line)
        os.fsync(self._file)

    def _run(self, period_s: float) -> None:
        while not self._stop.wait(period_s):
            self.beat()


def journal_folder() -> Path:
    """``journal`` in the data folder."""
    return home() / "journal"


def read_journal(path: Path) -> list[JournalEntry]:
    """All whole entries of a file, in its order.

    A line that a crash tore, or that another program spoilt, is left out: entries are totals, so the next
    one holds what it held.

    Raises:
        OSError: if the file can't be read.
    """
    entries = []
    for line in path.read_bytes().split(b"\n"):
        try:
            entries.append(msgspec.json.decode(line, type=JournalEntry))
        except (msgspec.DecodeError, ValueError):
            continue
    return entries


def merge_journals(paths: Iterable[Path]) -> dict[str, JournalEntry]:
    """The last entry of every run; order and repetition of the files don't matter.

    Raises:
        OSError: if a file can't be read.
    """
    last: dict[str, JournalEntry] = {}
    for path in paths:
        for entry in read_journal(path):
            if entry.run not in last or entry.sequence >= last[entry.run].sequence:
                last[entry.run] = entry
    return last


def unfinished(folder: Path, boot_id: str) -> list[JournalEntry]:
    """Runs in a folder that were killed: neither ended in order nor alive now.

    A lock tells living runs even from other containers, or from other machines that share the folder.

    Args:
        folder: of the journals.
        boot_id: of this machine now; runs of another boot are dead unless they hold their lock.

    Raises:
        OSError: if a file can't be read.
    """
    # Asked before reading: the journal of a run that lasts for weeks is long.
    unlocked = [path for path in sorted(folder.glob("*.jsonl")) if not _locked(path)]
    last = merge_journals(unlocked).values()
    return [
        entry for entry in last if not entry.final and not (entry.boot_id == boot_id and _alive(entry.pid))
    ]


def _locked(path: Path) -> bool:
    """Whether a living process holds the file, as far as the system can tell."""
    if sys.platform == "win32":
        return False
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
