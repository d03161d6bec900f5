"""The answer to "which intensity counts here": value, origin, and every source that was tried."""

from __future__ import annotations

from typing import Any

import msgspec

from negajoule.grid.signal import J_PER_KWH, Kind, Scope, utc_text
from negajoule.units import CarbonIntensity, Factor

__all__ = ["Attempt", "Resolved"]


class Attempt(msgspec.Struct, frozen=True):
    """A source that was tried.

    Attributes:
        source: its name.
        answered: whether it gave something that could be used.
        reason: how it answered, or why it didn't.
        code: the code of the failure, for ``negajoule explain``; empty if it answered.
    """

    source: str
    answered: bool
    reason: str
    code: str = ""


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """The intensity of a place over a span, and how it's known.

    Attributes:
        zone: canonical place, or ``world`` when it isn't known.
        start_s: beginning of the span, UTC seconds since 1970 [s].
        end_s: its end [s].
        intensity: location-based mean [gCO2e/J].
        market: by the user's contracts [gCO2e/J]; ``None`` unless the user states it.
        origin: ``user``, ``catalogue`` or the source's name.
        key: the catalogue's row, ``user``, or source and zone.
        kind: average or forecast; never marginal.
        scope: life cycle, direct or as given.
        year: the year it describes; ``None`` if the user states it.
        covered: share of the span that the source knows [1].
        estimated: share that it estimated [1].
        attempts: the sources that were tried, in order.
        marginal_g_per_kwh: what one more kilowatt-hour causes [gCO2e/kWh]; in no total.
        notes: what the reader of a footprint must know.
    """

    zone: str
    start_s: float
    end_s: float
    intensity: CarbonIntensity
    market: CarbonIntensity | None
    origin: str
    key: str
    kind: Kind = "average"
    scope: Scope = "as given"
    year: int | None = None
    covered: float = 1.0
    estimated: float = 0.0
    attempts: tuple[Attempt, ...] = ()
    marginal_g_per_kwh: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_fallback(self) -> bool:
        """Whether a source was configured and none gave an average: the catalogue stands in."""
        return self.origin == "catalogue" and bool(self.attempts)

    def factor(self) -> Factor:
        """It, as the factor of a footprint."""
        return Factor("carbon intensity", self.key, self.intensity, self.year)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, intensities in gCO2e/kWh."""
        return {
            "zone": self.zone,
            "start": utc_text(self.start_s),
            "end": utc_text(self.end_s),
            "location_based": _per_kwh(self.intensity),
            "market_based": None if self.market is None else _per_kwh(self.market),
            "marginal_g_per_kwh": self.marginal_g_per_kwh,
            "origin": self.origin,
            "key": self.key,
            "kind": self.kind,
            "scope": self.scope,
            "year": self.year,
            "covered": self.covered,
            "estimated": self.estimated,
            "fallback": self.is_fallback,
            "attempts": [msgspec.structs.asdict(attempt) for attempt in self.attempts],
            "notes": list(self.notes),
        }


def _per_kwh(intensity: CarbonIntensity) -> dict[str, float | str]:
    return {
        "value": round(intensity.value * J_PER_KWH, 6),
        "low": round(intensity.low * J_PER_KWH, 6),
        "high": round(intensity.high * J_PER_KWH, 6),
        "unit": "gCO2e/kWh",
        "basis": intensity.basis,
    }
