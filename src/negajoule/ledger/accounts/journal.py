"""A worker's own journal: what it set aside and what it charged, so that its death needn't cost its slices.

One file a worker, locked while it lives, one JSON array a line, each written with one system call before the
request is let through. A killed process loses nothing of it; a torn last line is a request that was never
sent. Whoever finds the lock free reads the totals and closes the worker in its name: open requests are
charged at their bounds, because they may have been spent, and what no request held goes back.

After a restart of the machine the file may lack its end, so it isn't believed: the worker's slices are spent.
Without a journal (another host, a full disk) they count as spent too.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from negajoule.config import home
from negajoule.ledger.accounts.slices import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from negajoule.ledger.accounts.store import AccountStore
    from negajoule.ledger.accounts.wallet import Purse, Reservation

__all__ = ["Journal", "Testament", "boot_id", "read_testament", "reconcile", "workers_folder"]

SCHEMA = "negajoule.accounts.journal/1"
COMPACT_BYTES = 2**20
"""From this size on a journal is written anew with what still matters."""

_encode = msgspec.json.Encoder().encode


def workers_folder() -> Path:
    """Where journals go unless told otherwise: ``workers`` in the data folder; it must be a local disk."""
    return home() / "workers"


def boot_id() -> str:
    """Identity of this start of the machine; empty where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


class Journal:
    """Writes a worker's journal; never raises when a disk is full, ``error`` then says why it has ended.

    Args:
        folder: of all workers of this host.
        worker: the worker's id.
        store: identity of the store it belongs to.

    Raises:
        OSError: if the file can't be made.
    """

    def __init__(self, folder: Path, worker: str, store: str) -> None:
        self.path = folder / f"{worker}.jsonl"
        self.error = ""
        self._header = _encode([SCHEMA, worker, store, boot_id()]) + b"\n"
        self._file = -1
        self._declared: set[int] = set()
        self._open: set[int] = set()
        self._size = 0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write_anew((), ())

    def reserve(self, reservation: Reservation) -> None:
        """Write down what a request may use; on return it survives the death of the process."""
        lines = b""
        for purse, _ in reservation.takes:
            if purse.index not in self._declared:
                lines += self._declaration(purse)
        self._open.add(reservation.number)
        self._append(lines + _line(reservation))

    def end(self, reservation: Reservation) -> None:
        """Write down how a reservation ended; one that isn't in this journal is no concern of it."""
        receipt = reservation.receipt
        if receipt is None or reservation.number not in self._open:
            return
        self._open.remove(reservation.number)
        if receipt.outcome == "released":
            self._append(_encode(("release", reservation.number)) + b"\n")
        else:
            charged = [units for _, units in receipt.charged]
            self._append(_encode(("settle", reservation.number, charged)) + b"\n")

    def finish(self, purses: Iterable[Purse]) -> None:
        """Write down that the store has heard all of some purses, before it may forget their slices."""
        for purse in purses:
            if purse.index in self._declared:
                self._declared.remove(purse.index)
                self._append(_encode(("finished", purse.index)) + b"\n")

    def compact(self, purses: Iterable[Purse], reservations: Iterable[Reservation]) -> None:
        """Write the file anew if it is long, or if it had ended, with what the store may still need."""
        if self._size >= COMPACT_BYTES or self._file < 0:
            try:
                self._write_anew(purses, reservations)
            except OSError as error:
                self._give_up(str(error))

    def close(self, *, remove: bool) -> None:
        """Let go of the file, and remove it if the store has been told all."""
        if remove:
            with suppress(OSError):
                self.path.unlink()
        self.disown()

    def disown(self) -> None:
        """Let go of the file, as the end of the process would."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _declaration(self, purse: Purse) -> bytes:
        self._declared.add(purse.index)
        totals = (purse.spent, purse.overrun, purse.requests, purse.refusals)
        return _encode(("purse", purse.index, purse.account.id, purse.window, *totals)) + b"\n"

    def _write_anew(self, purses: Iterable[Purse], reservations: Iterable[Reservation]) -> None:
        """Make the file under another name, lock it, then move it: it is never seen unlocked."""
        self._declared.clear()
        content = self._header + b"".join(map(self._declaration, purses))
        content += b"".join(_line(one) for one in reservations if one.number in self._open)
        fresh = self.path.with_suffix(".new")
        file = os.open(fresh, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.write(file, content) != len(content):
                raise OSError("the disk is full")
            fresh.replace(self.path)
        except BaseException:
            os.close(file)
            fresh.unlink(missing_ok=True)
            raise
        self.disown()
        self._file, self._size, self.error = file, len(content), ""

    def _append(self, lines: bytes) -> None:
        if self._file < 0:
            return
        try:
            if os.write(self._file, lines) != len(lines):
                self._give_up("the disk is full")
        except OSError as error:
            self._give_up(str(error))
        self._size += len(lines)

    def _give_up(self, reason: str) -> None:
        """A journal with a gap is worse than none: without one the slices count as spent."""
        self.error = reason
        with suppress(OSError):
            if self._file >= 0:
                os.ftruncate(self._file, 0)
        with suppress(OSError):
            self.path.unlink()
        self.disown()


class Testament(NamedTuple):
    """What a dead worker's journal says.

    Attributes:
        worker: the worker.
        store: identity of the store it belonged to.
        boot: the start of the machine it lived in.
        statements: its last totals, open requests charged at their bounds.
        in_flight: ids of the requests that were open.
    """

    worker: str
    store: str
    boot: str
    statements: tuple[Statement, ...]
    in_flight: tuple[str, ...]


def read_testament(content: bytes) -> Testament | None:
    """Read a journal; ``None`` if it isn't whole. Only the last line may be torn."""
    *lines, _ = content.split(b"\n")
    totals: dict[int, Statement] = {}
    open_: dict[int, tuple[str, list[tuple[int, int]]]] = {}
    try:
        schema, worker, store, boot = msgspec.json.decode(lines[0])
        if schema != SCHEMA:
            return None
        for line in lines[1:]:
            event, number, *rest = msgspec.json.decode(line)
            if event == "purse":
                account, window, spent, overrun, requests, refusals = rest
                totals[number] = Statement(account, window, spent, 0, overrun, requests, refusals)
            elif event == "reserve":
                request_id, takes = rest
                open_[number] = (request_id, [(index, units) for index, units in takes])
            elif event == "settle":
                _charge(totals, open_.pop(number)[1], rest[0])
            elif event == "release":
                del open_[number]
            elif event == "finished":
                del totals[number]
            else:
                return None
        for _, takes in open_.values():
            _charge(totals, takes, [units for _, units in takes])
    except (msgspec.DecodeError, ValueError, TypeError, LookupError):
        return None
    in_flight = tuple(request_id for request_id, _ in open_.values())
    return Testament(worker, store, boot, tuple(totals.values()), in_flight)


def reconcile(store: AccountStore, folder: Path) -> int:
    """Close the dead workers of a folder in the store's books, and return how many there were.

    Raises:
        LedgerError: if the store can't be reached; the journals stay then.
    """
    closed = 0
    for path in sorted(folder.glob("*.jsonl")):
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if _is_dead(file, path):
                closed += _execute(store, path)
        finally:
            os.close(file)
    return closed


def _line(reservation: Reservation) -> bytes:
    takes = [(purse.index, units) for purse, units in reservation.takes]
    return _encode(("reserve", reservation.number, reservation.request_id, takes)) + b"\n"


def _execute(store: AccountStore, path: Path) -> bool:
    testament = read_testament(path.read_bytes())
    if testament is not None and testament.store != store.identity:
        return False
    here = boot_id()
    if testament is not None and here and testament.boot == here:
        done = store.close_worker(testament.worker, testament.statements)
    else:
        done = store.close_worker(path.stem, forfeit=True)
        if testament is None and not done:
            return False  # it may be another store's
    with suppress(OSError):
        path.unlink()
    return done


def _is_dead(file: int, path: Path) -> bool:
    """Whether nobody holds the lock of what stands in that place now; we hold it then."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The file may have been replaced or removed since it was opened, and then says nothing.
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False


def _charge(totals: dict[int, Statement], takes: list[tuple[int, int]], charged: list[Any]) -> None:
    for (index, bound), units in zip(takes, charged, strict=True):
        total = totals[index]
        totals[index] = total._replace(
            spent=total.spent + units,
            overrun=total.overrun + max(0, units - bound),
            requests=total.requests + 1,
        )
