"""The store of one host: a SQLite file that many processes share.

Grants are synced to disk before they are used (``synchronous = FULL``): one that a power failure could take
back would be spent twice.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from negajoule.config import home
from negajoule.errors import LedgerError
from negajoule.ledger.accounts.schema import APPLICATION_ID, VERSION, steps
from negajoule.ledger.accounts.sql import SqlStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from negajoule.ledger.accounts.postings import Session

__all__ = ["SqliteStore", "default_accounts_path"]

_T = TypeVar("_T")
_BUSY_S = 10.0
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def default_accounts_path() -> Path:
    """Where budgets live unless told otherwise: ``accounts.sqlite`` in the data folder."""
    return home() / "accounts.sqlite"


class _SqliteSession:
    def __init__(self, db: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self._db = db
        self.now_s = clock

    def rows(self, sql: str, arguments: Sequence[Any] = ()) -> list[Any]:
        return self._db.execute(sql, arguments).fetchall()

    def run(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        return self._db.execute(sql, arguments).rowcount


class SqliteStore(SqlStore):
    """An ``AccountStore`` in a file; open one in each process, threads may share it.

    Args:
        path: the file; made with its folder if absent. ``None`` for the default place.
        clock: seconds since the epoch [s].

    Raises:
        LedgerError: (L101) if it can't be opened or written, (L102) if the file isn't ours or is damaged,
            (L103) if a newer version made it.
    """

    def __init__(self, path: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self.path = default_accounts_path() if path is None else path
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise self._error(error) from None
        self._session: Session = _SqliteSession(self._db, clock)
        try:
            self._use_write_ahead_log()
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self.identity = self._transact(self._migrate)
        except sqlite3.Error as error:
            self._db.close()
            raise self._error(error) from None
        except LedgerError:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _transact(self, work: Callable[[Session], _T], *, writes: bool = True) -> _T:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
                try:
                    result = work(self._session)
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise self._error(error) from None
        return result

    def _use_write_ahead_log(self) -> None:
        # SQLite's own patience doesn't cover the change to WAL, which several processes may want at once.
        patience_s = time.monotonic() + _BUSY_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > patience_s:
                    raise
                time.sleep(0.01)
            else:
                return

    def _migrate(self, db: Session) -> str:
        ((application,),) = db.rows("PRAGMA application_id")
        ((tables,),) = db.rows("SELECT count(*) FROM sqlite_master")
        if application != APPLICATION_ID:
            if application or tables:
                raise self._not_ours("it belongs to another program")
            for _, statements in steps("sqlite"):
                for statement in statements:
                    db.run(statement)
            self._begin_identity(db, VERSION)
            db.run(f"PRAGMA application_id = {APPLICATION_ID}")
        ((identity, version),) = db.rows("SELECT identity, schema_version FROM budget_store")
        if version > VERSION:
            raise LedgerError(
                f"{self.path} was made by a newer negajoule (schema {version}, known {VERSION})",
                code="L103",
                fix="upgrade negajoule, or set NEGAJOULE_HOME to another folder",
            )
        return str(identity)

    def _error(self, error: Exception) -> LedgerError:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            return self._not_ours(str(error))
        return LedgerError(
            f"can't use the accounts: {error}",
            tried=str(self.path),
            fix="mend the folder's permissions or disk, or set NEGAJOULE_HOME to a folder you can write to",
        )

    def _not_ours(self, reason: str) -> LedgerError:
        return LedgerError(
            f"{self.path} doesn't hold our accounts: {reason}",
            code="L102",
            fix=f"keep it: mv {self.path} {self.path}.damaged   then set the budgets anew",
        )
