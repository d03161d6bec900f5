"""This machine at this place: what turns a share of it into a footprint."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from negajoule.config import Settings
from negajoule.grid import locate
from negajoule.meter import read_host
from negajoule.physics import factors_for, footprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.grid import Location
    from negajoule.meter import Host, Window
    from negajoule.physics import Factors
    from negajoule.units import Footprint, Part

__all__ = ["Here", "find_here"]


class Here(NamedTuple):
    """A machine, its place and what a joule and a second cost there."""

    host: Host
    location: Location
    factors: Factors

    @property
    def cores(self) -> float:
        """Physical cores reserved for us: the cgroup's quota, the affinity or the whole machine [1]."""
        return self.host.reserved_threads / self.host.threads_per_core

    @property
    def memory_gb(self) -> float:
        """Memory reserved for us: the cgroup's limit or the whole machine's [GB]."""
        return (self.host.memory_limit_bytes or self.host.memory_bytes) / 1e9

    def cost(self, parts: Sequence[Part], node_seconds: float, *, notes: Sequence[str] = ()) -> Footprint:
        """The footprint of a share of this machine.

        Args:
            parts: energies of the share [J].
            node_seconds: the share's part of the machine's time [s].
            notes: remarks that go with it.
        """
        return footprint(
            parts,
            self.factors,
            node_seconds=node_seconds,
            cores=self.cores,
            memory_gb=self.memory_gb,
            notes=notes,
        )

    def cost_of(self, window: Window) -> Footprint:
        """The footprint of a whole window of the meter, its gaps named."""
        gaps = [f"{gap.kind} of {gap.domain}: {gap.detail}" for gap in window.gaps]
        return self.cost(window.parts, window.seconds, notes=(*window.notes, *gaps))


def find_here(settings: Settings | None = None) -> Here:
    """Look at the machine and its place, without asking the network.

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
    return Here(read_host(), location, factors)
