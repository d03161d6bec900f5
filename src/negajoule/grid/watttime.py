"""WattTime: marginal intensity, what one more kilowatt-hour causes; never mixed into location-based totals.

As its documentation (https://docs.watttime.org, API version 3) and its own Python client describe it:
``GET https://api.watttime.org/login`` with HTTP Basic gives a ``token`` for 30 minutes, sent as bearer from
then on. ``GET /v3/historical?region=&start=&end=&signal_type=co2_moer`` gives ``data`` of ``point_time`` and
``value`` and ``meta`` with ``region``, ``signal_type``, ``units`` (``lbs_co2_per_mwh``) and
``data_point_period_seconds`` (300); ``GET /v3/forecast`` the same for the hours to come. It names regions its
own way (``CAISO_NORTH``), so the setting ``grid_region`` is needed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, NamedTuple
from urllib.parse import urlencode

import msgspec

from negajoule.errors import GridError
from negajoule.grid.fetch import decoded, fetch_url
from negajoule.grid.signal import Signal, Slot, moment_s, orderly, plausible, utc_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.grid.fetch import Fetch

__all__ = ["WattTime"]

_G_PER_LB = 453.59237
_KWH_PER_MWH = 1000.0
_UNITS = "lbs_co2_per_mwh"
_SIGNAL = "co2_moer"
_TOKEN_S = 25 * 60.0
_CHUNK_S = 30 * 86_400.0


class _Point(msgspec.Struct):
    point_time: str
    value: float


class _Meta(msgspec.Struct):
    region: str
    signal_type: str
    units: str
    data_point_period_seconds: Annotated[int, msgspec.Meta(ge=1)]


class _Data(msgspec.Struct):
    data: list[_Point]
    meta: _Meta


class _Login(msgspec.Struct):
    token: str


class _Token(NamedTuple):
    text: str
    until_s: float


class WattTime:
    """Ask WattTime.

    Args:
        user: name of the account.
        password: its password.
        region: WattTime's name for the place.
        timeout_s: deadline for each answer [s].
        fetch: how URLs are asked.
        base_url: where it lives.
        clock: UTC seconds since 1970 [s].
    """

    name = "watttime"

    def __init__(
        self,
        user: str,
        password: str,
        region: str,
        *,
        timeout_s: float = 5.0,
        fetch: Fetch = fetch_url,
        base_url: str = "https://api.watttime.org",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._user = user
        self._password = password
        self._region = region
        self._timeout_s = timeout_s
        self._fetch = fetch
        self._base_url = base_url
        self._clock = clock
        self._token: _Token | None = None

    def intensity(self, zone: str, start_s: float, end_s: float) -> Signal:
        """The marginal intensity of a span, five minutes at a time.

        Raises:
            GridError: (G101, G102) if it gives nothing that can be used.
        """
        now_s = self._clock()
        slots: list[Slot] = []
        if start_s > now_s:
            slots += self._slots("forecast", {})
        else:
            at_s = start_s // 300 * 300
            while at_s <= end_s:
                until_s = min(end_s, at_s + _CHUNK_S)
                slots += self._slots("historical", {"start": utc_text(at_s), "end": utc_text(until_s)})
                at_s = until_s + 300
        return Signal(zone, "marginal", "direct", self.name, now_s, orderly(slots, source=self.name))

    def _slots(self, endpoint: str, span: dict[str, str]) -> list[Slot]:
        query = urlencode({"region": self._region, "signal_type": _SIGNAL, **span})
        url = f"{self._base_url}/v3/{endpoint}?{query}"
        headers = {"Authorization": f"Bearer {self._valid_token()}", "Accept": "application/json"}
        answer = self._fetch(url, headers, timeout_s=self._timeout_s)
        if answer.status == 401:
            self._token = None  # it ended early: the next question logs in again
        found = decoded(answer, _Data, source=self.name)
        expected = (self._region, _SIGNAL, _UNITS)
        given = (found.meta.region, found.meta.signal_type, found.meta.units)
        if given != expected:
            raise GridError(
                f"{self.name} was asked for {' '.join(expected)} and answered with {' '.join(given)}",
                code="G102",
            )
        slots = []
        for point in found.data:
            at_s = moment_s(point.point_time, source=self.name)
            grams = point.value * _G_PER_LB / _KWH_PER_MWH
            grams = plausible(grams, "direct", source=self.name)
            slots.append(Slot(at_s, at_s + found.meta.data_point_period_seconds, grams))
        return slots

    def _valid_token(self) -> str:
        now_s = self._clock()
        if self._token is None or now_s >= self._token.until_s:
            from base64 import b64encode

            pair = b64encode(f"{self._user}:{self._password}".encode()).decode()
            answer = self._fetch(
                f"{self._base_url}/login", {"Authorization": f"Basic {pair}"}, timeout_s=self._timeout_s
            )
            self._token = _Token(decoded(answer, _Login, source=self.name).token, now_s + _TOKEN_S)
        return self._token.text
