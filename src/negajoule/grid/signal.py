"""What a source of grid signals gives: intensities by the hour, and what kind of figure they are."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import msgspec

from negajoule.catalog import lookup
from negajoule.errors import GridError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "J_PER_KWH",
    "GridSource",
    "Kind",
    "Scope",
    "Signal",
    "Slot",
    "moment_s",
    "orderly",
    "plausible",
    "utc_text",
]

J_PER_KWH = 3.6e6
_FIRST_YEAR, _LAST_YEAR = 1990, 2100

Kind = Literal["average", "marginal", "forecast"]
"""``average``: the mix of the place, location-based. ``marginal``: what one more kilowatt-hour causes, never
part of a footprint. ``forecast``: the average that is expected."""

Scope = Literal["life cycle", "direct", "as given"]
"""``life cycle``: with fuel supply and power stations. ``direct``: from the chimneys only."""


class Slot(NamedTuple):
    """A stretch of time with one intensity.

    Attributes:
        start_s: its beginning, UTC seconds since 1970 [s].
        end_s: its end, not part of it [s].
        g_per_kwh: intensity [gCO2e/kWh].
        estimated: whether the source modelled it because its measurements weren't there yet.
    """

    start_s: float
    end_s: float
    g_per_kwh: float
    estimated: bool = False


class Signal(msgspec.Struct, frozen=True):
    """Intensities of one place, as one source tells them.

    Attributes:
        zone: the place, canonical.
        kind: average, marginal or forecast.
        scope: life cycle, direct or as given.
        source: who tells it.
        fetched_s: when it was asked, UTC seconds since 1970 [s].
        slots: rising, without overlap; there may be gaps between them.
    """

    zone: str
    kind: Kind
    scope: Scope
    source: str
    fetched_s: float
    slots: tuple[Slot, ...]


class GridSource(Protocol):
    """A source of grid signals."""

    @property
    def name(self) -> str:
        """What it's called in settings, caches and notes."""

    def intensity(self, zone: str, start_s: float, end_s: float) -> Signal:
        """What it knows of a span; may hold more than was asked, or less.

        Args:
            zone: a canonical place.
            start_s: beginning, UTC seconds since 1970 [s].
            end_s: end, the same as the beginning for a moment [s].

        Raises:
            NegajouleError: if it gives nothing that can be used.
        """


def plausible(g_per_kwh: object, scope: Scope, *, source: str) -> float:
    """The number, if it can be an intensity of a grid [gCO2e/kWh].

    No grid is above ``grid.signal.plausible``. By life cycle none is below it either, as even wind and water
    power aren't: that unmasks kg/kWh. Direct emissions may be 0.

    Raises:
        GridError: (G102) if it isn't a finite number inside those bounds.
    """
    if isinstance(g_per_kwh, bool) or not isinstance(g_per_kwh, int | float):
        raise GridError(f"{source} gave {g_per_kwh!r} as an intensity", code="G102")
    bounds = lookup("grid.signal.plausible")
    low = bounds.low if scope == "life cycle" else 0.0
    if not low <= g_per_kwh <= bounds.high:
        raise GridError(
            f"{source} gave {g_per_kwh:g} gCO2e/kWh, which no grid has "
            f"({low:g} to {bounds.high:g}): wrong unit?",
            code="G102",
        )
    return float(g_per_kwh)


def orderly(slots: Iterable[Slot], *, source: str) -> tuple[Slot, ...]:
    """Slots in order of time, each once.

    Raises:
        GridError: (G102) for an empty list, a slot without width, or two that differ on one moment.
    """
    ordered = sorted(set(slots))
    if not ordered:
        raise GridError(f"{source} answered with an empty list", code="G102")
    for slot in ordered:
        if not slot.start_s < slot.end_s:
            raise GridError(f"{source} gave an interval that ends before it starts", code="G102")
    for before, after in pairwise(ordered):
        if after.start_s < before.end_s:
            raise GridError(f"{source} gave two intensities for one moment", code="G102")
    return tuple(ordered)


def moment_s(text: str, *, source: str) -> float:
    """UTC seconds since 1970 of an ISO 8601 time that says its zone; some sources leave out its seconds.

    Raises:
        GridError: (G102) if it isn't one.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise GridError(f"{source} gave {text[:40]!r}, which isn't an ISO 8601 time", code="G102") from None
    if moment.tzinfo is None:
        raise GridError(
            f"{source} gave the time {text.strip()}, which names no time zone",
            code="G102",
            fix="write 2026-01-31T12:00Z",
        )
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise GridError(f"{source} gave a time in the year {moment.year}", code="G102")
    return moment.timestamp()


def utc_text(at_s: float) -> str:
    """A moment as grid sources and people write it, to the minute, e.g. ``2026-01-31T12:00Z``."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%MZ")
