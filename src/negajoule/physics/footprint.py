"""From IT energy and time to every indicator.

    facility energy = IT energy x PUE
    carbon          = facility energy x intensity of the grid
    water on site   = IT energy x WUE          (WUE is defined per IT energy: PUE must not be applied twice)
    water off site  = facility energy x water intensity of the grid
    embodied        = share of the hardware's making, by time held and service life

PUE and WUE as The Green Grid defines them (ISO/IEC 30134-2 and -9); operational and embodied carbon as in
ISO/IEC 21031 (SCI).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negajoule.physics.factors import Factors, embodied_share
from negajoule.units import (
    AbioticDepletion,
    Basis,
    Carbon,
    CarbonIntensity,
    Energy,
    Factor,
    Footprint,
    Part,
    PrimaryEnergy,
    Ratio,
    Water,
    WaterIntensity,
    total,
    weakest,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.catalog import Fact

__all__ = ["footprint", "operational"]

_J_PER_KWH = 3.6e6


def footprint(
    parts: Sequence[Part],
    factors: Factors,
    *,
    node_seconds: float,
    cores: float,
    memory_gb: float,
    notes: Sequence[str] = (),
) -> Footprint:
    """Work out every indicator of a piece of work.

    Args:
        parts: energies that add up to the IT energy, boundary ``node`` [J]; none at all means unknown.
        factors: what a joule and a second cost here.
        node_seconds: time for which the node's part was held [s].
        cores: physical cores held [1].
        memory_gb: memory held [GB].
        notes: remarks on this piece of work, added to those of the factors.

    Returns:
        A footprint of boundary ``facility``; indicators that can't be worked out are ``None``.
    """
    energy = total(part.energy for part in parts)
    all_notes = (*factors.notes, *notes)
    embodied = embodied_share(node_seconds, cores, memory_gb, factors)
    if energy is None:
        return Footprint(boundary="facility", embodied=embodied, notes=(*all_notes, "energy isn't known"))
    return Footprint(
        boundary="facility",
        **operational(energy, factors),
        embodied=embodied,
        parts=tuple(parts),
        factors=(*factors.used, factors.embodied_core, factors.embodied_memory, factors.lifetime),
        notes=all_notes,
    )


def operational(it_energy: Energy, factors: Factors) -> dict[str, Any]:
    """Every indicator of using energy at a place, by the name of its field; making the hardware comes apart.

    Args:
        it_energy: energy of the IT equipment, boundary ``node`` [J].
        factors: what a joule costs there.
    """
    at_site = facility_energy(it_energy, factors.pue)
    return {
        "it_energy": it_energy,
        "facility_energy": at_site,
        "carbon_location": _carbon(at_site, factors.carbon_location),
        "carbon_market": None if factors.carbon_market is None else _carbon(at_site, factors.carbon_market),
        "water_onsite": _water(it_energy, factors.wue).within("facility"),
        "water_offsite": None if factors.water_grid is None else _water(at_site, factors.water_grid),
        "abiotic_depletion": _depletion(at_site, factors.abiotic_depletion),
        "primary_energy": _primary(at_site, factors.primary_energy),
    }


def facility_energy(it_energy: Energy, pue: Factor) -> Energy:
    """IT energy x PUE, boundary ``facility`` [J]."""
    assert isinstance(pue.quantity, Ratio)
    scaled = it_energy * pue.quantity
    return Energy(scaled.value, scaled.low, scaled.high, _derived(it_energy), "facility")


def _carbon(energy: Energy, intensity: Factor) -> Carbon:
    assert isinstance(intensity.quantity, CarbonIntensity)
    grams = energy * intensity.quantity
    return Carbon(grams.value, grams.low, grams.high, _derived(energy), "facility")


def _water(energy: Energy, intensity: Factor) -> Water:
    assert isinstance(intensity.quantity, WaterIntensity)
    litres = energy * intensity.quantity
    return Water(litres.value, litres.low, litres.high, _derived(energy), energy.boundary)


def _depletion(energy: Energy, fact: Fact | None) -> AbioticDepletion | None:
    if fact is None:
        return None
    scale = 1e3 / _J_PER_KWH  # kgSbeq/kWh to gSbeq/J
    return AbioticDepletion(*_scaled(energy, fact, scale), "assumed", "facility")


def _primary(energy: Energy, fact: Fact | None) -> PrimaryEnergy | None:
    if fact is None:
        return None
    scale = 1e6 / _J_PER_KWH  # MJ/kWh to J/J
    return PrimaryEnergy(*_scaled(energy, fact, scale), "assumed", "facility")


def _scaled(energy: Energy, fact: Fact, scale: float) -> tuple[float, float, float]:
    return (
        energy.value * fact.value * scale,
        energy.low * fact.low * scale,
        energy.high * fact.high * scale,
    )


def _derived(energy: Energy) -> Basis:
    """A product with an assumed factor is at best modelled: the factor was looked up, not measured."""
    return weakest(energy.basis, "modelled")
