"""What was killed since the last command, booked before this one counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.cli.output import say
from negajoule.config import home
from negajoule.errors import NegajouleError

if TYPE_CHECKING:
    from negajoule.instrument import Here
    from negajoule.ledger import Ledger

__all__ = ["look_back", "look_back_before_reading"]


def look_back(ledger: Ledger, here: Here) -> None:
    """Book interrupted runs from their journals and say so; what fails is said and stops nothing.

    Args:
        ledger: open for writing.
        here: this machine and place.
    """
    from negajoule.instrument.interrupted import book_interrupted

    try:
        for activity in book_interrupted(ledger, here):
            say(f"an interrupted run was booked from its journal: {activity.label or activity.id}")
    except NegajouleError as error:
        say(str(error))


def look_back_before_reading() -> None:
    """The same for commands that only read the ledger; without journals it costs nothing."""
    if not any((home() / "journal").glob("*.jsonl")):
        return
    from negajoule.instrument import find_here
    from negajoule.ledger import Ledger

    try:
        with Ledger() as ledger:
            look_back(ledger, find_here())
    except NegajouleError as error:
        say(str(error))
