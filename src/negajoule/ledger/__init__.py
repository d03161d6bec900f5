"""What was: the append-only store.

- ``activity``: the row, and ids that sort by time
- ``migrations``: the schema in numbered steps
- ``rows``: activities to rows and back
- ``store``: the SQLite file: append, read, sum
- ``writer``: one thread that writes, retries and rescues
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.ledger.activity import Activity, Kind, Stage, Status, new_id
from negajoule.ledger.store import IndicatorTotal, Ledger, Totals, default_path

if TYPE_CHECKING:
    from negajoule.ledger.writer import LedgerWriter

__all__ = [
    "Activity",
    "IndicatorTotal",
    "Kind",
    "Ledger",
    "LedgerWriter",
    "Stage",
    "Status",
    "Totals",
    "default_path",
    "new_id",
]


def __getattr__(name: str) -> object:
    """Load the writer, and the threads' machinery that it brings, when it is first asked for."""
    if name != "LedgerWriter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from negajoule.ledger.writer import LedgerWriter

    globals()[name] = LedgerWriter
    return LedgerWriter
