"""The store of many hosts: a PostgreSQL database, whose clock is the one clock of all.

A connection that breaks is opened again and the transaction tried once more. That is safe when nobody knows
whether the first was committed: statements are totals, and a grant given twice is still a grant that counts.
"""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from negajoule.errors import LedgerError
from negajoule.extras import require
from negajoule.ledger.accounts.schema import VERSION, steps
from negajoule.ledger.accounts.sql import SqlStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from negajoule.ledger.accounts.postings import Session

__all__ = ["PostgresStore"]

_T = TypeVar("_T")
_MIGRATION_LOCK = 0x6E656762
_PATIENCE = {
    "connect_timeout": 5,
    "options": "-c lock_timeout=5000 -c statement_timeout=10000 "
    "-c idle_in_transaction_session_timeout=10000 -c default_transaction_isolation=read\\ committed",
    "tcp_user_timeout": 10_000,
    "application_name": "negajoule",
}


class _PostgresSession:
    def __init__(self, cursor: Any, clock: Callable[[], float] | None) -> None:  # noqa: ANN401 (lazy import)
        self._cursor = cursor
        self._clock = clock

    def rows(self, sql: str, arguments: Sequence[Any] = ()) -> list[Any]:
        self._cursor.execute(sql.replace("?", "%s"), arguments)
        return list(self._cursor.fetchall())

    def run(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        self._cursor.execute(sql.replace("?", "%s"), arguments)
        return int(self._cursor.rowcount)

    def now_s(self) -> float:
        if self._clock is not None:
            return self._clock()
        return float(self.rows("SELECT extract(epoch FROM clock_timestamp())::float8")[0][0])


class PostgresStore(SqlStore):
    """An ``AccountStore`` in a PostgreSQL database; open one in each process, threads may share it.

    Args:
        url: ``postgresql://user@host/database``; give the password by ``PGPASSWORD`` or a ``.pgpass`` file.
        clock: instead of the database's clock, for tests [s].

    Raises:
        ExtraMissingError: if psycopg isn't installed.
        LedgerError: (L101) if it can't be reached or written, (L103) if a newer version made it.
    """

    _for_update = " FOR UPDATE"

    def __init__(self, url: str, *, clock: Callable[[], float] | None = None) -> None:
        self._psycopg: Any = require("psycopg", extra="postgres", purpose="keep budgets in PostgreSQL")
        self._url = url
        self._clock = clock
        self._lock = threading.Lock()
        self._db: Any = None
        try:
            self.identity = self._transact(self._migrate)
        except LedgerError:
            self._drop()
            raise

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop()

    def _transact(self, work: Callable[[Session], _T], *, writes: bool = True) -> _T:
        with self._lock:
            for attempt in (1, 2):
                try:
                    if self._db is None:
                        self._db = self._psycopg.connect(self._url, **_PATIENCE)
                    with self._db.transaction(), self._db.cursor() as cursor:
                        if not writes:
                            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                        return work(_PostgresSession(cursor, self._clock))
                except self._psycopg.Error as error:
                    broken = self._db is not None and self._db.broken
                    if broken or self._db is None:
                        self._drop()
                    if not broken or attempt == 2:
                        raise self._error(error) from None
        raise AssertionError  # the second attempt returned or raised

    def _drop(self) -> None:
        if self._db is not None:
            with suppress(self._psycopg.Error):
                self._db.close()
            self._db = None

    def _migrate(self, db: Session) -> str:
        db.rows("SELECT pg_advisory_xact_lock(?)", (_MIGRATION_LOCK,))
        ((table,),) = db.rows("SELECT to_regclass('budget_store')::text")
        if table is None:
            for _, statements in steps("postgres"):
                for statement in statements:
                    db.run(statement)
            self._begin_identity(db, VERSION)
        ((identity, version),) = db.rows("SELECT identity, schema_version FROM budget_store")
        if version > VERSION:
            raise LedgerError(
                f"the accounts were made by a newer negajoule (schema {version}, known {VERSION})",
                code="L103",
                fix="upgrade negajoule on this host",
            )
        return str(identity)

    def _error(self, error: Exception) -> LedgerError:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return LedgerError(
            f"can't use the accounts in PostgreSQL: {reason}",
            tried=re.sub(r"(://[^:/@]*):[^@]*@", r"\1:...@", self._url),
            fix="check that the database runs, that the address is right and that the user may make tables",
        )
