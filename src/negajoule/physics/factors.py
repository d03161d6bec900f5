"""The factors that turn energy and time into indicators, resolved once for a place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from negajoule.catalog import Fact, first_of, lookup, zones
from negajoule.units import Carbon, CarbonIntensity, Factor, Quantity, Ratio, WaterIntensity

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Factors", "factors_for"]

_J_PER_KWH = 3.6e6


class Factors(msgspec.Struct, frozen=True):
    """What a joule and a second cost at one place.

    Attributes:
        zone: canonical zone, or ``world`` when the place isn't known.
        pue: power usage effectiveness [1].
        carbon_location: intensity of the zone's mix [gCO2e/J].
        carbon_market: intensity of the user's contracts [gCO2e/J]; ``None`` if not stated.
        wue: water evaporated on site [L per J of IT energy].
        water_grid: water consumed in power stations [L/J].
        embodied_core: making one physical core of a server with its share of the rest [gCO2e].
        embodied_memory: making one byte of memory [gCO2e].
        lifetime: service life of the hardware [s].
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
    abiotic_depletion: Fact | None
    primary_energy: Fact | None
    notes: tuple[str, ...] = ()


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
        zone: a zone the catalogue knows; ``None`` for the world's mean with its interval.
        pue: the site's power usage effectiveness [1].
        wue_l_per_kwh: the site's water usage effectiveness [L/kWh of IT energy].
        carbon_g_per_kwh: location-based intensity [gCO2e/kWh].
        market_g_per_kwh: market-based intensity [gCO2e/kWh].
        provider: hosting provider, for its published PUE and WUE.
        notes: carried into every footprint made with these factors.

    Raises:
        CatalogError: (F101) if the zone doesn't exist.
    """
    place = "world" if zone is None else zones.canonical(zone)
    remarks = list(notes)
    carbon = first_of([f"grid.carbon.{place}", "grid.carbon.world"])
    if carbon_g_per_kwh is None and carbon.key == "grid.carbon.world" and place != "world":
        remarks.append(f"no carbon intensity is known for {place}: the world's mean is used")
    country = place.split("-")[0]
    country = zones.canonical(country) if country != place else place
    water = _optional([f"grid.water.{place}", f"grid.water.{country}", "grid.water.world"])
    site = [f".provider.{provider}"] if provider else []
    return Factors(
        zone=place,
        pue=_factor("PUE", first_of([f"pue{s}" for s in (*site, ".world")]), given=_given(Ratio, pue)),
        carbon_location=_factor(
            "carbon intensity", carbon, given=_given(CarbonIntensity, carbon_g_per_kwh, _J_PER_KWH)
        ),
        carbon_market=None
        if market_g_per_kwh is None
        else Factor(
            "market intensity", "user", CarbonIntensity.exact(market_g_per_kwh / _J_PER_KWH, "assumed")
        ),
        wue=_factor(
            "WUE",
            first_of([f"wue{s}" for s in (*site, ".world")]),
            given=_given(WaterIntensity, wue_l_per_kwh, _J_PER_KWH),
        ),
        water_grid=None if water is None else _factor("grid water", water),
        embodied_core=_factor("embodied core", lookup("embodied.core")),
        embodied_memory=_factor("embodied memory", lookup("embodied.memory")),
        lifetime=_factor("lifetime", lookup("lifetime.server")),
        abiotic_depletion=_optional([f"grid.adpe.{place}", f"grid.adpe.{country}"]),
        primary_energy=_optional([f"grid.primary.{place}", f"grid.primary.{country}"]),
        notes=tuple(remarks),
    )


def _given(kind: type[Quantity], value: float | None, divisor: float = 1.0) -> Quantity | None:
    return None if value is None else kind.exact(value / divisor, "assumed")


def _factor(name: str, fact: Fact, *, given: Quantity | None = None) -> Factor:
    if given is not None:
        return Factor(name, "user", given)
    return Factor(name, fact.key, fact.quantity(), fact.year)


def _optional(keys: list[str]) -> Fact | None:
    from negajoule.errors import CatalogError

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
