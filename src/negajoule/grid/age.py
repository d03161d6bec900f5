"""How old a factor may be before its reader is told."""

from __future__ import annotations

import time

__all__ = ["age_note"]

_OLD_YEARS = 3


def age_note(year: int | None, at_s: float) -> str:
    """A remark if an intensity describes a year more than three before the work; else empty.

    Args:
        year: the year it describes; ``None`` if it isn't tied to one.
        at_s: when the work was done, UTC seconds since 1970 [s].
    """
    age = 0 if year is None else time.gmtime(at_s).tm_year - year
    return f"the carbon intensity describes {year}, {age} years before" if age > _OLD_YEARS else ""
