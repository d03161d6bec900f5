"""The append-only store: one SQLite file in WAL mode.

A row survives the death of the process once ``append`` returns. Ids make writing idempotent: the same
activity twice is counted once, so a merge or a retry needs no thought.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from negajoule.config import home
from negajoule.errors import LedgerError
from negajoule.ledger.migrations import APPLICATION_ID, MIGRATIONS
from negajoule.ledger.rows import COLUMNS, Row, from_row
from negajoule.units import INDICATORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

    from negajoule.ledger.activity import Activity

__all__ = ["GROUPS", "IndicatorTotal", "Ledger", "Totals", "default_path"]

_SHARED_GROUPS = ("caller", "team", "project")
GROUPS: tuple[str, ...] = ("kind", "model", "stage", "label", "zone", "host", *_SHARED_GROUPS)
"""By what totals can be grouped."""

_INSERT = (
    f"INSERT INTO activity ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    "ON CONFLICT (id) DO NOTHING"
)
_IDENTITY = (
    "SELECT (SELECT application_id FROM pragma_application_id), "
    "(SELECT user_version FROM pragma_user_version), "
    "(SELECT count(*) FROM sqlite_master WHERE type = 'table')"
)
_CONTEXTS_KEPT = 4096  # known to be in the file already; some hold what only one row says
_BUSY_S = 10.0  # how long to wait for another process that writes
# Names in a damaged file may be no text, which the sqlite3 module stumbles over.
_FAILURES = (sqlite3.Error, UnicodeDecodeError)
# Our statements are sound, so SQLite's general error means that the file's tables aren't ours.
_DAMAGED = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def default_path() -> Path:
    """Where the ledger lives unless told otherwise: ``ledger.sqlite`` in the data folder."""
    return home() / "ledger.sqlite"


class IndicatorTotal(NamedTuple):
    """A sum over activities, and over how many it isn't known.

    Attributes:
        value: sum of the known values, in the indicator's unit; ``None`` if none is known.
        low: sum of the lower ends.
        high: sum of the upper ends.
        known: how many activities have a value.
        missing: how many don't; their share is not zero but unknown.
    """

    value: float | None
    low: float | None
    high: float | None
    known: int
    missing: int


class Totals(NamedTuple):
    """Sums over a group of activities; ``None`` where no activity of it knows."""

    group: str
    activities: int
    seconds: float
    tokens_in: int | None
    tokens_out: int | None
    cpu_seconds: float | None
    indicators: dict[str, IndicatorTotal]


class Ledger:
    """An open ledger.

    Args:
        path: the file; made with its folder if absent. ``None`` for the default place.
        read_only: open an existing ledger without writing to it.

    Raises:
        LedgerError: (L101) if it can't be opened or written, (L102) if the file isn't a sound ledger,
            (L103) if a newer version wrote it.
    """

    def __init__(self, path: Path | None = None, *, read_only: bool = False) -> None:
        self.path = default_path() if path is None else path
        self.read_only = read_only
        try:
            if not read_only:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            elif not self.path.exists():
                raise LedgerError(f"there is no ledger at {self.path} yet", fix="measure something first")
            uri = f"{self.path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
            # The writer's thread appends and others read; sqlite3 itself serialises them.
            self._db = sqlite3.connect(
                uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
        except (OSError, *_FAILURES) as error:
            raise self._refusal(error) from None
        self._contexts: set[str] = set()
        self.before_reading: Callable[[], object] | None = None
        """Called before rows are read: a writer that still holds some writes them."""
        try:
            self._db.row_factory = sqlite3.Row
            self._check_identity()
            if not read_only:
                self._use_write_ahead_log()
                self._db.execute("PRAGMA synchronous = NORMAL")
                self._migrate()
        except _FAILURES as error:
            self._db.close()
            raise self._refusal(error) from None
        except LedgerError:
            self._db.close()
            raise
        if not read_only and any(self.path.parent.glob(f"{self.path.stem}.*.journal")):
            from negajoule.ledger.writer import merge_rescued

            # What a killed writer left; if the file can't be written now, it stays for the next one.
            with suppress(LedgerError):
                merge_rescued(self)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the last one out folds the write-ahead log into it."""
        self._db.close()

    def append(self, activities: Iterable[Activity | Row]) -> int:
        """Write activities, or rows of them, in one transaction.

        Returns:
            How many were new; ids already there are left as they are.

        Raises:
            LedgerError: (L101) if the file can't be written, (L102) if it is damaged; nothing of the batch is
                written then.
        """
        fresh: list[str] = []
        written = 0
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for activity in activities:
                    row = activity if isinstance(activity, Row) else Row.of(activity)
                    if row.context not in self._contexts:
                        self._db.execute("INSERT OR IGNORE INTO context VALUES (?, ?)", row[:2])
                        fresh.append(row.context)
                    written += self._db.execute(_INSERT, row.values).rowcount
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except _FAILURES as error:
            raise self._refusal(error) from None
        if len(self._contexts) > _CONTEXTS_KEPT:
            self._contexts.clear()
        self._contexts.update(fresh)
        return written

    def get(self, activity_id: str) -> Activity | None:
        """The activity of that id, or ``None``."""
        found = self._select("WHERE activity.id = ?", (activity_id,))
        return found[0] if found else None

    def latest(self, count: int, *, kind: str | None = None) -> list[Activity]:
        """The newest activities, newest first."""
        where = "WHERE kind = ?" if kind else ""
        arguments = (kind, count) if kind else (count,)
        return self._select(f"{where} ORDER BY number DESC LIMIT ?", arguments)

    def of_label(self, label: str, count: int) -> list[Activity]:
        """The newest activities of exactly that label, newest first."""
        return self._select("WHERE label = ? ORDER BY number DESC LIMIT ?", (label, count))

    def labels(self) -> list[str]:
        """Every label that some activity has."""
        return [str(row[0]) for row in self._query("SELECT DISTINCT label FROM activity ORDER BY label", ())]

    def totals(
        self, *, since_s: float | None = None, by: str | None = None, labels: Sequence[str] | None = None
    ) -> list[Totals]:
        """Sums by indicator, over everything or by group.

        Args:
            since_s: only activities that started at or after this time [s since the epoch].
            by: one of ``GROUPS``.
            labels: only activities of these labels.

        An activity that lies inside another one that is summed isn't summed again.

        Raises:
            LedgerError: (L102) if the file is damaged.
        """
        if by is not None and by not in GROUPS:
            raise LedgerError(f"can't group by {by!r}", fix=f"use {', '.join(GROUPS)}")
        group, shared = chr(39) * 2 if by is None else by, ""
        if by in _SHARED_GROUPS:
            group = f"coalesce(json_extract(content, '$.who.{by}'), '')"
            shared = "JOIN context ON context.id = context "
        sums = ", ".join(
            f"sum({name}) AS {name}, sum({name}_low) AS {name}_low, sum({name}_high) AS {name}_high, "
            f"count({name}) AS {name}_known"
            for name in INDICATORS
        )

        def chosen(table: str) -> str:
            wanted = "" if labels is None else f" AND {table}.label IN ({', '.join('?' * len(labels))})"
            return f"{table}.started_s >= ?{wanted}"

        arguments = (float("-inf") if since_s is None else since_s, *(labels or ()))
        sql = (
            f"SELECT {group} AS grouped, count(*) AS n, total(seconds) AS seconds, "
            # total, because sum fails where whole numbers overflow; it is 0 where nothing is known.
            f"CASE WHEN count(tokens_in) THEN total(tokens_in) END AS tokens_in, "
            f"CASE WHEN count(tokens_out) THEN total(tokens_out) END AS tokens_out, "
            f"sum(cpu_seconds) AS cpu_seconds, "
            f"{sums} FROM activity {shared}WHERE {chosen('activity')} AND (inside = '' OR NOT EXISTS ("
            f"SELECT 1 FROM activity AS holder WHERE holder.id = activity.inside AND {chosen('holder')})) "
            f"GROUP BY grouped ORDER BY it_energy DESC"
        )
        return [
            Totals(
                group=row["grouped"],
                activities=row["n"],
                seconds=row["seconds"],
                tokens_in=None if row["tokens_in"] is None else int(row["tokens_in"]),
                tokens_out=None if row["tokens_out"] is None else int(row["tokens_out"]),
                cpu_seconds=row["cpu_seconds"],
                indicators={
                    name: IndicatorTotal(
                        row[name],
                        row[f"{name}_low"],
                        row[f"{name}_high"],
                        row[f"{name}_known"],
                        row["n"] - row[f"{name}_known"],
                    )
                    for name in INDICATORS
                },
            )
            for row in self._query(sql, arguments * 2)
        ]

    def avoided(self, *, since_s: float | None = None) -> IndicatorTotal:
        """What answers out of a cache would have taken to make [J]: a sum of its own, in no other.

        Args:
            since_s: only activities that started at or after this time [s since the epoch].

        Raises:
            LedgerError: (L102) if the file is damaged.
        """
        end = "total(json_extract(content, '$.avoided.{}'))"
        sql = (
            f"SELECT count(*), {end.format('value')}, {end.format('low')}, {end.format('high')} "
            "FROM activity JOIN context ON context.id = context "
            "WHERE started_s >= ? AND json_extract(content, '$.avoided.value') IS NOT NULL"
        )
        (row,) = self._query(sql, (float("-inf") if since_s is None else since_s,))
        known = int(row[0])
        sums = [float(total) if known else None for total in row[1:]]
        return IndicatorTotal(sums[0], sums[1], sums[2], known, 0)

    def count(self) -> int:
        """Number of activities."""
        return int(self._query("SELECT count(*) FROM activity", ())[0][0])

    def check(self) -> list[str]:
        """Read the whole file and return what SQLite finds wrong; empty if it is sound."""
        found = [str(row[0]) for row in self._query("PRAGMA integrity_check", ())]
        return [] if found == ["ok"] else found

    def _select(self, tail: str, arguments: tuple[Any, ...]) -> list[Activity]:
        sql = f"SELECT activity.*, content FROM activity JOIN context ON context.id = context {tail}"
        rows = self._query(sql, arguments)
        try:
            return [from_row(dict(row), row["content"]) for row in rows]
        except (ValueError, TypeError, LookupError) as error:
            raise self._corrupt(f"a row can't be read: {error}") from None

    def _query(self, sql: str, arguments: tuple[Any, ...]) -> list[sqlite3.Row]:
        if self.before_reading is not None:
            self.before_reading()
        try:
            return self._db.execute(sql, arguments).fetchall()
        except _FAILURES as error:
            raise self._refusal(error) from None

    def _check_identity(self) -> None:
        # One statement, so that a process that makes the ledger at this moment is seen wholly or not at all.
        application, version, tables = self._db.execute(_IDENTITY).fetchone()
        if application != APPLICATION_ID and (application or tables):
            raise self._corrupt("it belongs to another program")
        if application == APPLICATION_ID and (version < 1 or not tables):
            raise self._corrupt("its header is damaged")
        if version > MIGRATIONS[-1][0]:
            raise LedgerError(
                f"{self.path} was written by a newer negajoule (schema {version}, known {MIGRATIONS[-1][0]})",
                code="L103",
                fix="upgrade negajoule, or set NEGAJOULE_HOME to another folder",
            )
        if self.read_only and not application:
            raise LedgerError(f"the ledger at {self.path} is empty", fix="measure something first")

    def _use_write_ahead_log(self) -> None:
        """Switch to WAL; SQLite doesn't wait by itself for a process that switches at the same moment."""
        deadline_s = time.monotonic() + _BUSY_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline_s:
                    raise
            time.sleep(0.01)

    def _migrate(self) -> None:
        if self._version() == MIGRATIONS[-1][0]:
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            # Read again inside the transaction: another process may have migrated meanwhile.
            have = self._version()
            for number, sql in MIGRATIONS:
                if number > have:
                    for statement in _statements(sql):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {number}")
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _refusal(self, error: Exception) -> LedgerError:
        damaged = (
            isinstance(error, UnicodeDecodeError)
            or str(error).startswith("Could not decode")
            or getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED
        )
        if damaged:
            return self._corrupt(str(error))
        return LedgerError(
            f"can't {'read' if self.read_only else 'write'} the ledger: {error}",
            tried=str(self.path),
            fix="mend the folder's permissions or disk, or set NEGAJOULE_HOME to a folder you can write to",
        )

    def _corrupt(self, reason: str) -> LedgerError:
        from shlex import quote  # only bad news needs it

        old, aside = quote(str(self.path)), quote(f"{self.path}.damaged")
        return LedgerError(
            f"{self.path} isn't a sound ledger: {reason}",
            code="L102",
            fix=f"keep it: mv {old} {aside}   then start again with a new one",
        )


def _statements(sql: str) -> list[str]:
    """Split a script into statements; a trigger's body stays whole."""
    found: list[str] = []
    pending = ""
    for line in sql.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    return found
