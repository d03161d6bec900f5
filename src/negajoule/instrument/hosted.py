"""The footprint of requests to models that run elsewhere: ``negajoule.estimate``.

The zone of the settings is where *your* machines are, so it isn't used here: where a provider computes is
unknown unless you say it. A closed model is taken to be served by its maker, whose PUE and WUE are used.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from negajoule.catalog import default_catalog
from negajoule.instrument.provider import provider_of_model
from negajoule.physics import estimate as estimate_energy
from negajoule.physics import factors_for, hosted_footprint
from negajoule.physics.hosted_setting import checked_number

if TYPE_CHECKING:
    from negajoule.catalog import Catalog
    from negajoule.physics import Factors, HostedFootprint

__all__ = ["estimate", "serving_factors"]


def estimate(
    model: str | None = None,
    tokens_in: float | None = None,
    tokens_out: float = 0,
    *,
    batch: float | tuple[float, float] | None = None,
    zone: str | None = None,
    provider: str | None = None,
    cached_tokens: float = 0,
    reasoning_tokens: float = 0,
    accelerator: str | None = None,
    accelerators: int | None = None,
    precision: str | None = None,
    active_parameters_b: float | tuple[float, float] | None = None,
    total_parameters_b: float | None = None,
    task: str | None = None,
    pue: float | None = None,
    wue_l_per_kwh: float | None = None,
    carbon_g_per_kwh: float | None = None,
) -> HostedFootprint:
    """Estimate what one request to a hosted model costs.

    >>> footprint = estimate("gpt-4o", 1200, 300)
    >>> footprint.it_energy.low < footprint.it_energy.value < footprint.it_energy.high
    True

    Args:
        model: its name, as the provider writes it; ``None`` if the parameters are given.
        tokens_in: length of the prompt, cached part included; ``None`` for the typical prompt of ``task``.
        tokens_out: length of the answer.
        batch: sequences decoded together, or an interval (low, high); ``None`` for the catalogue's.
        zone: where the model is served; ``None`` if you don't know, ``world`` for the mean of all grids.
        provider: who serves it, for PUE and WUE; ``None`` for the maker of a closed model and else for those
            of all sites, ``world`` for those of all sites.
        cached_tokens: part of the prompt that came out of a cache.
        reasoning_tokens: hidden output, if ``tokens_out`` doesn't include it already.
        accelerator: its name; ``None`` for the usual ones, as an interval.
        accelerators: number of them that hold the model.
        precision: number format of the weights.
        active_parameters_b: parameters used for one token, or an interval [1e9].
        total_parameters_b: all parameters [1e9].
        task: ``chat``, ``reasoning``, ``image``, ``video`` or ``code``; only used without ``tokens_in``.
        pue: power usage effectiveness of the site, if you know it [1].
        wue_l_per_kwh: water usage effectiveness of the site [L/kWh of IT energy].
        carbon_g_per_kwh: location-based intensity of its electricity [gCO2e/kWh].

    Returns:
        A footprint of boundary ``facility``; ``contributors`` tells what makes its intervals wide.

    Raises:
        CatalogError: (F101) if the model, the accelerator, the zone or the provider isn't known.
        ConfigError: (C101) if a number is negative, not finite or out of place.
    """
    found = estimate_energy(
        model,
        tokens_in,
        tokens_out,
        cached_tokens=cached_tokens,
        reasoning_tokens=reasoning_tokens,
        task=task,
        batch=batch,
        accelerator=accelerator,
        accelerators=accelerators,
        precision=precision,
        active_parameters_b=active_parameters_b,
        total_parameters_b=total_parameters_b,
    )
    return hosted_footprint(
        found, serving_factors(model, zone, provider, pue, wue_l_per_kwh, carbon_g_per_kwh)
    )


def serving_factors(
    model: str | None,
    zone: str | None = None,
    provider: str | None = None,
    pue: float | None = None,
    wue_l_per_kwh: float | None = None,
    carbon_g_per_kwh: float | None = None,
) -> Factors:
    """What a joule costs where a model is served; arguments as for ``estimate``.

    Raises:
        CatalogError: (F101) if the zone or the provider isn't known.
        ConfigError: (C101) if a number is out of place.
    """
    return _factors(default_catalog(), model, zone, provider, pue, wue_l_per_kwh, carbon_g_per_kwh)


@lru_cache(maxsize=1024)
def _factors(
    _catalog: Catalog,
    model: str | None,
    zone: str | None,
    provider: str | None,
    pue: float | None,
    wue_l_per_kwh: float | None,
    carbon_g_per_kwh: float | None,
) -> Factors:
    """Kept for each catalogue, for the user's own rows may differ."""
    notes = []
    for name, value, least in (
        ("pue", pue, 1.0),
        ("wue_l_per_kwh", wue_l_per_kwh, 0.0),
        ("carbon_g_per_kwh", carbon_g_per_kwh, 0.0),
    ):
        if value is not None:
            checked_number(name, value, least)
    site = provider
    if site is None and model is not None:
        site = provider_of_model(model)
        if site is not None and None in (pue, wue_l_per_kwh):
            notes.append(f"served by its maker, it is assumed: PUE and WUE of {site}")
    if zone is None and carbon_g_per_kwh is None:
        notes.append("location unknown: where the model is served isn't said, so any grid is in the interval")
    return factors_for(
        zone,
        pue=pue,
        wue_l_per_kwh=wue_l_per_kwh,
        carbon_g_per_kwh=carbon_g_per_kwh,
        provider=site,
        notes=notes,
    )
