"""This machine at this place: what turns a share of it into a footprint."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from negajoule.config import Settings
from negajoule.grid import age_note, is_configured, locate
from negajoule.meter import read_host
from negajoule.physics import factors_for, footprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.grid import LiveIntensity, Location, Resolved
    from negajoule.meter import Host, Window
    from negajoule.physics import Factors
    from negajoule.units import Footprint, Part

__all__ = ["Here", "find_here"]


class Here(NamedTuple):
    """A machine, its place and what a joule and a second cost there.

    Attributes:
        host: the machine.
        location: its place.
        factors: what a joule and a second cost, by settings and catalogue.
        grid: the intensity hour by hour, if a grid source is configured; it replaces the factors' own.
    """

    host: Host
    location: Location
    factors: Factors
    grid: LiveIntensity | None = None

    @property
    def cores(self) -> float:
        """Physical cores reserved for us: the cgroup's quota, the affinity or the whole machine [1]."""
        return self.host.reserved_threads / self.host.threads_per_core

    @property
    def memory_gb(self) -> float:
        """Memory reserved for us: the cgroup's limit or the whole machine's [GB]."""
        return (self.host.memory_limit_bytes or self.host.memory_bytes) / 1e9

    def cost(self, parts: Sequence[Part], node_seconds: float, *, notes: Sequence[str] = ()) -> Footprint:
        """The footprint of a share of this machine, by the grid of this moment; never waits.

        Args:
            parts: energies of the share [J].
            node_seconds: the share's part of the machine's time [s].
            notes: remarks that go with it.
        """
        return self._cost(parts, node_seconds, None if self.grid is None else self.grid.now(), notes)

    def cost_of(self, window: Window) -> Footprint:
        """The footprint of a window of the meter that has just ended, its gaps named.

        By the grid of its hours: a configured grid source may be asked, up to its deadline.
        """
        gaps = [f"{gap.kind} of {gap.domain}: {gap.detail}" for gap in window.gaps]
        now_s = time.time()
        intensity = None if self.grid is None else self.grid.over(now_s - window.seconds, now_s)
        return self._cost(window.parts, window.seconds, intensity, (*window.notes, *gaps))

    def _cost(
        self, parts: Sequence[Part], node_seconds: float, intensity: Resolved | None, notes: Sequence[str]
    ) -> Footprint:
        factors = self.factors
        if intensity is not None:
            factors = msgspec.structs.replace(
                factors, carbon_location=intensity.factor(), notes=(*factors.notes, *intensity.notes)
            )
        return footprint(
            parts,
            factors,
            node_seconds=node_seconds,
            cores=self.cores,
            memory_gb=self.memory_gb,
            notes=notes,
        )


def find_here(settings: Settings | None = None) -> Here:
    """Look at the machine and its place.

    Nothing is asked of the network here, unless ``cloud_metadata`` is set; a grid source, if one is
    configured, is asked when something is to be costed.

    Raises:
        ConfigError: for wrong settings.
        CatalogError: (F101) if the stated zone doesn't exist.
    """
    settings = Settings() if settings is None else settings
    location = locate(settings)
    factors = factors_for(
        location.zone,
        pue=settings["pue"],
        wue_l_per_kwh=settings["wue"],
        carbon_g_per_kwh=settings["carbon_intensity"],
        market_g_per_kwh=settings["market_intensity"],
        notes=(location.note,) if location.note else (),
    )
    if settings["carbon_intensity"] is not None:
        return Here(read_host(), location, factors)
    if is_configured(settings):
        from negajoule.grid import Grid, LiveIntensity

        return Here(read_host(), location, factors, LiveIntensity(Grid(settings), location.zone))
    old = age_note(factors.carbon_location.year, time.time())
    if old:
        factors = msgspec.structs.replace(factors, notes=(*factors.notes, old))
    return Here(read_host(), location, factors)
