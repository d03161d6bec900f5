"""Great Britain's Carbon Intensity API: half-hourly, direct emissions of generation, no key.

As its definition says (https://carbon-intensity.github.io/api-definitions/, data under CC BY 4.0, National
Energy System Operator): ``GET https://api.carbonintensity.org.uk/intensity/{from}/{to}`` with times as
``2026-01-31T12:00Z``, at most 14 days an answer; ``data`` holds ``from``, ``to`` and ``intensity`` with
``forecast`` and ``actual`` [gCO2/kWh], ``actual`` being null until the half hour is settled. It counts the
CO2 of generation only, imports included. ``/regional/intensity/{from}/{to}/regionid/{id}`` has 17 regions, as
forecasts only, inside one object under ``data``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import msgspec

from negajoule.errors import GridError
from negajoule.grid.fetch import decoded, fetch_url
from negajoule.grid.signal import Signal, Slot, moment_s, orderly, plausible, utc_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.grid.fetch import Fetch

__all__ = ["UnitedKingdom"]

_T = TypeVar("_T")
_HALF_HOUR_S = 1800.0
_CHUNK_S = 13 * 86_400.0
_PLACE = "GBR"


class _Intensity(msgspec.Struct):
    forecast: float | None = None
    actual: float | None = None


class _Period(msgspec.Struct):
    start: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")
    intensity: _Intensity


class _National(msgspec.Struct):
    data: list[_Period]


class _Region(msgspec.Struct):
    regionid: int
    data: list[_Period]


class _Regional(msgspec.Struct):
    data: _Region


class UnitedKingdom:
    """Ask the Carbon Intensity API of Great Britain.

    Args:
        region: number of a region, 1 to 17; ``None`` for the nation.
        timeout_s: deadline for each answer [s].
        fetch: how URLs are asked.
        base_url: where it lives.
        clock: UTC seconds since 1970 [s].

    Raises:
        GridError: (G103) if the region isn't a number from 1 to 17.
    """

    name = "uk"

    def __init__(
        self,
        *,
        region: str | None = None,
        timeout_s: float = 5.0,
        fetch: Fetch = fetch_url,
        base_url: str = "https://api.carbonintensity.org.uk",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if region is not None and region not in {str(number) for number in range(1, 18)}:
            raise GridError(
                f"{self.name} has no region {region!r}",
                code="G103",
                fix="give a number from 1 to 17, or none",
            )
        self._region = region
        self._timeout_s = timeout_s
        self._fetch = fetch
        self._base_url = base_url
        self._clock = clock

    def intensity(self, zone: str, start_s: float, end_s: float) -> Signal:
        """The half hours of a span.

        Raises:
            GridError: (G103) for any other place than Great Britain, (G101, G102) if it gives nothing that
                can be used.
        """
        if zone != _PLACE:
            raise GridError(f"{self.name} knows Great Britain only, not {zone}", code="G103")
        now_s = self._clock()
        slots = []
        at_s = start_s // _HALF_HOUR_S * _HALF_HOUR_S
        until_s = end_s // _HALF_HOUR_S * _HALF_HOUR_S + _HALF_HOUR_S
        while at_s < until_s:
            chunk_end_s = min(until_s, at_s + _CHUNK_S)
            slots += [slot for period in self._periods(at_s, chunk_end_s) if (slot := self._slot(period))]
            at_s = chunk_end_s
        return Signal(
            zone,
            "forecast" if start_s > now_s else "average",
            "direct",
            self.name,
            now_s,
            orderly(slots, source=self.name),
        )

    def _periods(self, start_s: float, end_s: float) -> list[_Period]:
        span = f"{utc_text(start_s)}/{utc_text(end_s)}"
        if self._region is None:
            return self._ask(f"/intensity/{span}", _National).data
        region = self._ask(f"/regional/intensity/{span}/regionid/{self._region}", _Regional).data
        if str(region.regionid) != self._region:
            raise GridError(f"{self.name} answered for region {region.regionid}", code="G102")
        return region.data

    def _ask(self, path: str, shape: type[_T]) -> _T:
        headers = {"Accept": "application/json"}
        answer = self._fetch(f"{self._base_url}{path}", headers, timeout_s=self._timeout_s)
        return decoded(answer, shape, source=self.name)

    def _slot(self, period: _Period) -> Slot | None:
        estimated = period.intensity.actual is None
        grams = period.intensity.forecast if estimated else period.intensity.actual
        if grams is None:
            return None
        grams = plausible(grams, "direct", source=self.name)
        return Slot(
            moment_s(period.start, source=self.name), moment_s(period.end, source=self.name), grams, estimated
        )
