"""The footprint of one piece of work: every indicator, its parts and the factors behind it."""

from __future__ import annotations

from typing import Any

import msgspec

from negajoule.errors import UnitError
from negajoule.units.quantity import (
    AbioticDepletion,
    Boundary,
    Carbon,
    Energy,
    PrimaryEnergy,
    Quantity,
    Water,
)

__all__ = ["INDICATORS", "Factor", "Footprint", "Part"]

SCHEMA = "negajoule.footprint/1"


class Part(msgspec.Struct, frozen=True):
    """A named share of the IT energy.

    Attributes:
        name: what drew it, e.g. ``cpu active``.
        energy: how much [J].
        source: where the figure comes from, e.g. ``rapl package-0`` or a catalogue key.
        grade: A counter, B sampled power, C calibrated model, D uncalibrated model, E unknown.
    """

    name: str
    energy: Energy
    source: str
    grade: str


class Factor(msgspec.Struct, frozen=True, cache_hash=True):
    """A factor that turned energy or time into an indicator.

    Attributes:
        name: its role, e.g. ``carbon intensity``.
        key: the catalogue row, for ``negajoule explain``; or the user's setting.
        quantity: its value with interval.
        year: the year it describes, ``None`` if it isn't tied to one.
    """

    name: str
    key: str
    quantity: Quantity
    year: int | None = None


class Footprint(msgspec.Struct, frozen=True):
    """What a piece of work cost. An indicator that isn't known is ``None``, never zero.

    Attributes:
        boundary: the widest boundary that the operational figures include.
        it_energy: energy of the IT equipment, before PUE [J].
        facility_energy: the same with cooling and power conversion [J].
        carbon_location: operational greenhouse gases by the grid's mix [gCO2e].
        carbon_market: the same by contracts; ``None`` unless the user states them [gCO2e].
        water_onsite: water evaporated at the site [L].
        water_offsite: water consumed to make the electricity [L].
        embodied: share of making the hardware [gCO2e].
        abiotic_depletion: share of minerals and metals [gSbeq].
        primary_energy: primary energy of the electricity [J].
        parts: shares that add up to ``it_energy``.
        factors: what turned energy and time into the indicators.
        notes: what the reader must know, e.g. that the location is unknown.
    """

    boundary: Boundary
    it_energy: Energy | None = None
    facility_energy: Energy | None = None
    carbon_location: Carbon | None = None
    carbon_market: Carbon | None = None
    water_onsite: Water | None = None
    water_offsite: Water | None = None
    embodied: Carbon | None = None
    abiotic_depletion: AbioticDepletion | None = None
    primary_energy: PrimaryEnergy | None = None
    parts: tuple[Part, ...] = ()
    factors: tuple[Factor, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: Footprint) -> Footprint:
        """Add indicator by indicator; where either is unknown the sum is unknown.

        Raises:
            UnitError: (U102) if the boundaries differ.
        """
        if self.boundary != other.boundary:
            raise UnitError(
                f"can't add footprints of different boundaries: {self.boundary!r} and {other.boundary!r}",
                code="U102",
            )
        sums: dict[str, Any] = {}
        for name in INDICATORS:
            mine, theirs = getattr(self, name), getattr(other, name)
            sums[name] = None if mine is None or theirs is None else mine + theirs
        return Footprint(
            boundary=self.boundary,
            **sums,
            parts=_merge(self.parts, other.parts),
            factors=tuple(dict.fromkeys((*self.factors, *other.factors))),
            notes=tuple(dict.fromkeys((*self.notes, *other.notes))),
        )

    @property
    def widest(self) -> str | None:
        """Name of the part or factor that adds most to the width of the carbon figure.

        Parts count with their share of the energy's width, factors with their relative width, both relative
        to the carbon figure they help to make; ``None`` when nothing has a width.
        """
        widths: dict[str, float] = {}
        if self.it_energy is not None and self.it_energy.value > 0:
            for part in self.parts:
                widths[part.name] = widths.get(part.name, 0.0) + part.energy.spread / self.it_energy.value
        for factor in self.factors:
            if factor.name in ("PUE", "carbon intensity") and factor.quantity.value > 0:
                relative = factor.quantity.spread / factor.quantity.value
                widths[factor.name] = max(widths.get(factor.name, 0.0), relative)
        name = max(widths, key=widths.__getitem__, default=None)
        return name if name is not None and widths[name] > 0 else None

    def to_dict(self, *, detail: bool = True) -> dict[str, Any]:
        """The JSON form, schema ``negajoule.footprint/1``.

        Args:
            detail: whether parts and factors are listed in full; else only the factors' keys.
        """
        result: dict[str, Any] = {"schema": SCHEMA, "boundary": self.boundary}
        for name in INDICATORS:
            quantity = getattr(self, name)
            result[name] = None if quantity is None else quantity.to_dict()
        result["widest"] = self.widest
        if detail:
            result["parts"] = [
                {"name": p.name, "source": p.source, "grade": p.grade, **p.energy.to_dict()}
                for p in self.parts
            ]
            result["factors"] = [
                {"name": f.name, "key": f.key, "year": f.year, **f.quantity.to_dict()} for f in self.factors
            ]
        else:
            result["factors"] = {factor.name: factor.key for factor in self.factors}
        result["notes"] = list(self.notes)
        return result


INDICATORS: dict[str, type[Quantity]] = {
    "it_energy": Energy,
    "facility_energy": Energy,
    "carbon_location": Carbon,
    "carbon_market": Carbon,
    "water_onsite": Water,
    "water_offsite": Water,
    "embodied": Carbon,
    "abiotic_depletion": AbioticDepletion,
    "primary_energy": PrimaryEnergy,
}
"""The indicator fields of a footprint and their kinds, in the order they are shown."""


def _merge(first: tuple[Part, ...], second: tuple[Part, ...]) -> tuple[Part, ...]:
    merged: dict[tuple[str, str, str], Part] = {}
    for part in (*first, *second):
        key = (part.name, part.source, part.grade)
        seen = merged.get(key)
        merged[key] = (
            part if seen is None else Part(part.name, seen.energy + part.energy, part.source, part.grade)
        )
    return tuple(merged.values())
