"""What was: the append-only store.

- ``activity``: the row, and ids that sort by time
- ``migrations``: the schema in numbered steps
- ``rows``: activities to rows and back
- ``store``: the SQLite file: append, read, sum
- ``writer``: one thread that writes, retries and rescues
- ``journal``: rows that wait for their commit, safe from a kill
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.lazy import names_from
from negajoule.ledger.activity import Activity, Kind, Stage, Status, new_id
from negajoule.ledger.store import GROUPS, IndicatorTotal, Ledger, Totals, default_path

if TYPE_CHECKING:
    from negajoule.ledger.writer import LedgerWriter

__all__ = [
    "GROUPS",
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

# The writer brings the threads' machinery, which a program that only measures itself has no use for.
__getattr__ = names_from(globals(), {"LedgerWriter": ".writer"})
