"""The grid's signals: where, and how clean.

- ``location``: the place, by order of who said it
- ``cloud``: the place from a cloud's metadata server, if the user allows it
- ``signal``: what a source gives: slots of time with an intensity, and what kind of figure it is
- ``fetch``: the one door to the network
- ``electricity_maps`` ``united_kingdom`` ``watttime`` ``series_file``: the sources
- ``sources``: from settings to sources, with keys from the environment only
- ``cache``: what sources said, by the hour
- ``circuit``: when to leave a failing source alone
- ``mean``: the mean of a span, by time or energy, with its interval and gaps
- ``conductor``: which intensity counts: user, sources, catalogue
- ``resolved``: its answer
- ``age``: how old a factor may be
- ``live``: the intensity of this moment for programs that must not wait

Names are looked up when first used: a program that only wants its place loads nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.grid.location import Location, locate
from negajoule.lazy import names_from

if TYPE_CHECKING:
    from negajoule.grid.age import age_note
    from negajoule.grid.conductor import Grid, resolve
    from negajoule.grid.live import LiveIntensity
    from negajoule.grid.resolved import Attempt, Resolved
    from negajoule.grid.signal import GridSource, Signal, Slot
    from negajoule.grid.sources import is_configured

__all__ = [
    "Attempt",
    "Grid",
    "GridSource",
    "LiveIntensity",
    "Location",
    "Resolved",
    "Signal",
    "Slot",
    "age_note",
    "is_configured",
    "locate",
    "resolve",
]

__getattr__ = names_from(
    globals(),
    {
        "Attempt": ".resolved",
        "Grid": ".conductor",
        "GridSource": ".signal",
        "LiveIntensity": ".live",
        "Resolved": ".resolved",
        "Signal": ".signal",
        "Slot": ".signal",
        "age_note": ".age",
        "is_configured": ".sources",
        "resolve": ".conductor",
    },
)
