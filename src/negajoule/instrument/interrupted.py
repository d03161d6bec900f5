"""Runs that were killed: their journals' last totals go into the ledger, once."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from negajoule.config import Settings, home
from negajoule.errors import CatalogError, LedgerError, UnitError
from negajoule.instrument.here import find_here
from negajoule.ledger import Activity

if TYPE_CHECKING:
    from negajoule.instrument.here import Here
    from negajoule.ledger import Ledger
    from negajoule.meter.journal import Journal, JournalEntry

__all__ = ["book_interrupted", "done_with"]


def book_interrupted(ledger: Ledger, here: Here) -> list[Activity]:
    """Book what was killed on this machine, and remove its journals.

    The id of a run is that of its row, so a run that was booked before it was killed counts once, and two
    programs that do this at the same time book one row.

    Args:
        ledger: an open ledger.
        here: this machine and place; a run's own place goes before it.

    Returns:
        What was found in journals.

    Raises:
        LedgerError: (L101) if the journals can't be read or the ledger not be written.
    """
    folder = home() / "journal"
    if not folder.is_dir():
        return []
    from negajoule.meter.journal import unfinished  # only needed where journals are

    try:
        # Whether a run on another machine lives can't be told from here.
        entries = [
            entry for entry in unfinished(folder, here.host.boot_id) if entry.host_id == here.host.host_id
        ]
        booked = []
        for entry in entries:
            try:
                booked.append(_activity(entry, here))
            except (CatalogError, UnitError):
                continue
        ledger.append(booked)
        for activity in booked:
            (folder / f"{activity.id}.jsonl").unlink(missing_ok=True)
    except OSError as error:
        raise LedgerError(f"can't read the journals: {error}", tried=str(folder)) from None
    return booked


def done_with(journal: Journal) -> None:
    """Close the journal of a run that stands in the ledger, and remove it."""
    journal.close()
    with suppress(OSError):
        journal.path.unlink(missing_ok=True)


def _activity(entry: JournalEntry, here: Here) -> Activity:
    if entry.zone and entry.zone != here.factors.zone:
        here = find_here(Settings({"zone": entry.zone}))
    here = here._replace(grid=None)  # this hour's grid says nothing about the hours of the run
    gaps = [f"{gap.kind} of {gap.domain}: {gap.detail}" for gap in entry.gaps]
    footprint = here.cost(
        entry.parts, entry.seconds, notes=(*gaps, "interrupted: counted up to its last heartbeat")
    )
    return Activity(
        id=entry.run,
        started_s=entry.started_s,
        seconds=entry.seconds,
        kind="run" if entry.run.startswith("run-") else "window",
        status="failed",
        label=entry.label,
        host=entry.host_id,
        zone=here.factors.zone,
        cpu_seconds=entry.cpu_s,
        footprint=footprint,
    )
