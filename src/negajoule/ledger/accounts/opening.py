"""From the setting ``accounts`` to a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from negajoule.errors import ConfigError
from negajoule.ledger.accounts.sqlite import SqliteStore

if TYPE_CHECKING:
    from negajoule.ledger.accounts.sql import SqlStore

__all__ = ["open_store"]


def open_store(place: str | None = None) -> SqlStore:
    """Open the store at a place.

    Args:
        place: ``postgresql://...`` or a file; ``None`` for ``accounts.sqlite`` in the data folder.

    Raises:
        ConfigError: (C101) for the address of another kind of database.
        ExtraMissingError: if the address needs psycopg and it isn't installed.
        LedgerError: (L101, L102, L103) if the store can't be used.
    """
    if place is None:
        return SqliteStore()
    scheme, separator, _ = place.partition("://")
    if scheme in ("postgresql", "postgres"):
        from negajoule.ledger.accounts.postgres import PostgresStore

        return PostgresStore(place)
    if separator:
        raise ConfigError(
            f"accounts can't be kept in {scheme!r}",
            fix="set accounts to postgresql://user@host/database, or to a file",
        )
    return SqliteStore(Path(place).expanduser())
