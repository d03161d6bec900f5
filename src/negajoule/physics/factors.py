"""The factors that turn energy and time into indicators, resolved once for a place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from negajoule.catalog import Fact, first_of, lookup, search, zones
from negajoule.errors import CatalogError
from negajoule.units import Carbon, CarbonIntensity, Factor, Quantity, Ratio, WaterIntensity

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Factors", "factors_for"]

_J_PER_KWH = 3.6e6


class Factors(msgspec.Struct, frozen=True):
    """What a joule and a second cost at one place.

    Attributes:
        zone: canonical zone; ``world`` also when the place isn't known.
        pue: power usage effectiveness [1].
        carbon_location: intensity of the zone's mix [gCO2e/J].
        carbon_market: intensity of the user's contracts [gCO2e/J]; ``None`` if not stated.
        wue: water evaporated on site [L per J of IT energy].
        water_grid: water consumed in power stations [L/J].
        embodied_core: making one physical core of a server with its share of the rest [gCO2e].
        embodied_memory: making one byte of memory [gCO2e].
        lifetime: service life of the hardware [s].
        embodied_accelerator: making one accelerator with its share of its server [gCO2e].
        lifetime_accelerator: service life of accelerators [s].
        abiotic_depletion: minerals and metals of electricity, key and [gSbeq/J] as (value, low, high).
        primary_energy: primary energy of electricity, key and [J/J] as (value, low, high).
        notes: what the reader must know about these choices.
    """

    zone: str
    pue: Factor
    carbon_location: Factor
    carbon_market: Factor | None
    wue: Factor
    water_grid: Factor | None
    embodied_core: Factor
    embodied_memory: Factor
    lifetime: Factor
    embodied_accelerator: Factor
    lifetime_accelerator: Factor
    abiotic_depletion: Fact | None
    primary_energy: Fact | None
    notes: tuple[str, ...] = ()

    @property
    def used(self) -> tuple[Factor, ...]:
        """The factors on energy that are known."""
        found = (self.pue, self.carbon_location, self.carbon_market, self.wue, self.water_grid)
        return tuple(factor for factor in found if factor is not None)


def factors_for(
    zone: str | None,
    *,
    pue: float | None = None,
    wue_l_per_kwh: float | None = None,
    carbon_g_per_kwh: float | None = None,
    market_g_per_kwh: float | None = None,
    provider: str | None = None,
    notes: Sequence[str] = (),
) -> Factors:
    """Resolve every factor for a place; what the user states beats the catalogue.

    Args:
        zone: a zone the catalogue knows; ``world`` for the mean of all grids; ``None`` for a kWh of which the
            place isn't known, whose interval is much wider than that of the mean.
        pue: the site's power usage effectiveness [1].
        wue_l_per_kwh: the site's water usage effectiveness [L/kWh of IT energy].
        carbon_g_per_kwh: location-based intensity [gCO2e/kWh].
        market_g_per_kwh: market-based intensity [gCO2e/kWh].
        provider: hosting provider, for its PUE and WUE; ``None`` or ``world`` for those of all sites.
        notes: carried into every footprint made with these factors.

    Raises:
        CatalogError: (F101) if the zone or the provider doesn't exist.
    """
    place = "world" if zone is None else zones.canonical(zone)
    remarks = list(notes)
    carbon = _carbon_of(zone and place)
    if carbon_g_per_kwh is None and zone is not None and not carbon.key.endswith(f".{place}"):
        remarks.append(f"no carbon intensity is known for {place}: {carbon.key} is used")
    return Factors(
        zone=place,
        pue=_factor("PUE", _site("pue", provider), given=_given(Ratio, pue)),
        carbon_location=_factor(
            "carbon intensity", carbon, given=_given(CarbonIntensity, carbon_g_per_kwh, _J_PER_KWH)
        ),
        carbon_market=None
        if market_g_per_kwh is None
        else Factor(
            "market intensity", "user", CarbonIntensity.exact(market_g_per_kwh / _J_PER_KWH, "assumed")
        ),
        wue=_factor("WUE", _site("wue", provider), given=_given(WaterIntensity, wue_l_per_kwh, _J_PER_KWH)),
        water_grid=_factor("grid water", first_of(zones.keys_of("grid.water", place))),
        embodied_core=_factor("embodied core", lookup("embodied.core")),
        embodied_memory=_factor("embodied memory", lookup("embodied.memory")),
        lifetime=_factor("lifetime", lookup("lifetime.server")),
        embodied_accelerator=_factor("embodied accelerator", lookup("embodied.gpu.with-server")),
        lifetime_accelerator=_factor("lifetime", lookup("lifetime.gpu")),
        abiotic_depletion=_optional(zones.keys_of("grid.adpe", place)),
        primary_energy=_optional(zones.keys_of("grid.primary", place)),
        notes=tuple(remarks),
    )


def _carbon_of(place: str | None) -> Fact:
    """Intensity of a place; where none is known, that of an unknown place and not the narrow mean."""
    unknown = "grid.carbon.unknown"
    if place is None or place == "world":
        return lookup("grid.carbon.world" if place else unknown)
    return first_of((*zones.keys_of("grid.carbon", place)[:-1], unknown))


def _site(family: str, provider: str | None) -> Fact:
    """The row of a provider's sites, or that of all sites."""
    if provider is None or provider == "world":
        return lookup(f"{family}.world")
    try:
        return lookup(f"{family}.provider.{provider.lower()}")
    except CatalogError:
        start = "pue.provider."
        known = sorted(fact.key.removeprefix(start) for fact in search(start))
        raise CatalogError(
            f"no PUE or WUE is known for the provider {provider!r}", fix=f"one of {', '.join(known)}, world"
        ) from None


def _given(kind: type[Quantity], value: float | None, divisor: float = 1.0) -> Quantity | None:
    return None if value is None else kind.exact(value / divisor, "assumed")


def _factor(name: str, fact: Fact, *, given: Quantity | None = None) -> Factor:
    if given is not None:
        return Factor(name, "user", given)
    return Factor(name, fact.key, fact.quantity(), fact.year)


def _optional(keys: Sequence[str]) -> Fact | None:
    try:
        return first_of(keys)
    except CatalogError:
        return None


def embodied_share(node_seconds: float, cores: float, memory_gb: float, factors: Factors) -> Carbon:
    """Share of making the hardware: reserved part of the node x time used / service life.

    Linear allocation over a service life, as ISO/IEC 21031 (SCI) does with M = TE x TS x RS.

    Args:
        node_seconds: time for which the part of the node was held [s].
        cores: physical cores held [1].
        memory_gb: memory held [GB].
        factors: embodied and lifetime factors.

    Returns:
        Embodied carbon, boundary ``life cycle`` [gCO2e].
    """
    core, memory, life = (
        factor.quantity for factor in (factors.embodied_core, factors.embodied_memory, factors.lifetime)
    )
    value, low, high = (
        node_seconds * (c * cores + m * memory_gb) / seconds
        for c, m, seconds in (
            (core.value, memory.value, life.value),
            (core.low, memory.low, life.high),
            (core.high, memory.high, life.low),
        )
    )
    return Carbon(value, low, high, "assumed", "life cycle")
