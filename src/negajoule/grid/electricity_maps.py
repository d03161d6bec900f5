"""Electricity Maps: average intensity of a zone's consumption, by life cycle, hourly.

As its reference describes it (https://portal.electricitymaps.com/developer-hub/api/reference, read in the
version of 2025): base ``https://api.electricitymaps.com/v3``, key in the header ``auth-token``, answers in
gCO2eq/kWh under ``carbonIntensity`` with ``datetime`` at the start of the hour, ``isEstimated`` and
``emissionFactorType``.

    /carbon-intensity/latest      the current hour
    /carbon-intensity/history     the last 24 hours, key ``history``
    /carbon-intensity/past-range  up to 10 days an answer, key ``data``; not in the free plan
    /carbon-intensity/forecast    the hours to come, key ``forecast``

For a zone that it doesn't know it would look at the caller's address and answer for another place. That is
switched off, and the zone of the answer is checked.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from negajoule.catalog import zones
from negajoule.errors import GridError
from negajoule.grid.fetch import decoded, fetch_url
from negajoule.grid.signal import Signal, Slot, moment_s, orderly, plausible, utc_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.grid.fetch import Fetch

__all__ = ["ElectricityMaps"]

_T = TypeVar("_T")
_HOUR_S = 3600.0
_HISTORY_S = 24 * _HOUR_S
_RANGE_S = 240 * _HOUR_S


class _Point(msgspec.Struct, rename="camel"):
    at: str = msgspec.field(name="datetime")
    carbon_intensity: float | None = None
    is_estimated: bool = False
    emission_factor_type: str = "lifecycle"


class _Latest(_Point):
    zone: str = ""


class _Points(msgspec.Struct):
    zone: str
    history: list[_Point] = []
    data: list[_Point] = []
    forecast: list[_Point] = []


class ElectricityMaps:
    """Ask Electricity Maps.

    Args:
        key: the API key.
        region: its name for the place, if it differs from ours.
        timeout_s: deadline for each answer [s].
        fetch: how URLs are asked.
        base_url: where it lives.
        clock: UTC seconds since 1970 [s].
    """

    name = "electricitymaps"

    def __init__(
        self,
        key: str,
        *,
        region: str | None = None,
        timeout_s: float = 5.0,
        fetch: Fetch = fetch_url,
        base_url: str = "https://api.electricitymaps.com/v3",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._headers = {"auth-token": key, "Accept": "application/json"}
        self._region = region
        self._timeout_s = timeout_s
        self._fetch = fetch
        self._base_url = base_url
        self._clock = clock

    def intensity(self, zone: str, start_s: float, end_s: float) -> Signal:
        """The hours of a span, by the cheapest endpoint that knows them.

        Raises:
            GridError: (G101, G102) if it gives nothing that can be used.
        """
        now_s = self._clock()
        asked = self._region or _their_name(zone)
        points: list[_Point]
        if start_s > now_s:
            points = self._points("forecast", asked)
        elif end_s - start_s < 1.0 and now_s - end_s < _HOUR_S:
            points = [self._latest(asked)]
        elif start_s >= now_s - _HISTORY_S:
            points = self._points("history", asked)
        else:
            points = self._range(asked, start_s, end_s)
        slots = []
        for point in points:
            if point.emission_factor_type != "lifecycle":
                raise GridError(f"{self.name} answered with other than life-cycle emissions", code="G102")
            if point.carbon_intensity is not None:
                at_s = moment_s(point.at, source=self.name)
                grams = plausible(point.carbon_intensity, "life cycle", source=self.name)
                slots.append(Slot(at_s, at_s + _HOUR_S, grams, point.is_estimated))
        return Signal(
            zone,
            "forecast" if start_s > now_s else "average",
            "life cycle",
            self.name,
            now_s,
            orderly(slots, source=self.name),
        )

    def _latest(self, asked: str) -> _Point:
        latest = self._ask("latest", _Latest, {"zone": asked})
        self._check_zone(asked, latest.zone)
        return latest

    def _range(self, asked: str, start_s: float, end_s: float) -> list[_Point]:
        points = []
        at_s = start_s // _HOUR_S * _HOUR_S
        while at_s <= end_s:
            until_s = min(at_s + _RANGE_S, end_s // _HOUR_S * _HOUR_S + _HOUR_S)
            span = {"start": utc_text(at_s), "end": utc_text(until_s)}
            points += self._points("past-range", asked, span)
            at_s = until_s
        return points

    def _points(self, endpoint: str, asked: str, span: dict[str, str] | None = None) -> list[_Point]:
        answer = self._ask(endpoint, _Points, {"zone": asked, **(span or {})})
        self._check_zone(asked, answer.zone)
        return answer.history or answer.data or answer.forecast

    def _ask(self, endpoint: str, shape: type[_T], query: dict[str, str]) -> _T:
        fixed = {"temporalGranularity": "hourly", "disableCallerLookup": "true"}
        url = f"{self._base_url}/carbon-intensity/{endpoint}?{urlencode({**query, **fixed}, quote_via=quote)}"
        return decoded(self._fetch(url, self._headers, timeout_s=self._timeout_s), shape, source=self.name)

    def _check_zone(self, asked: str, answered: str) -> None:
        if answered != asked:
            raise GridError(f"{self.name} was asked for {asked} and answered for {answered!r}", code="G102")


def _their_name(zone: str) -> str:
    """Countries are alpha-2 there; zones inside a country have the names that the catalogue took over."""
    return next((country.alpha2 for country in zones.countries() if country.alpha3 == zone), zone)
