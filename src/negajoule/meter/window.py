"""What the meter gives: a moment, and what was used between two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from negajoule.meter.probe import Gap
from negajoule.units import Energy, Part

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Snapshot", "Window", "grade_shares"]


class Snapshot(msgspec.Struct, frozen=True):
    """The meter at one moment.

    Attributes:
        time_s: monotonic clock [s].
        wall_s: UTC seconds since 1970; may jump [s].
        cpu_s: CPU time so far of the tree, or of the machine [s].
        sums: value, low and high of every part, in the meter's order [J].
        meter: which meter took it.
    """

    time_s: float
    wall_s: float
    cpu_s: float
    sums: tuple[float, ...]
    meter: int


class Window(msgspec.Struct, frozen=True):
    """What was used between two snapshots.

    Attributes:
        seconds: its length [s].
        cpu_s: CPU time in it [s].
        parts: shares that add up to ``energy``.
        energy: IT energy of the node that is ours [J].
        unattributed: what counters gave and nobody claimed; with ``parts`` it makes the machine.
        gaps: stretches in it that no counter vouches for.
        notes: what the reader must know.
    """

    seconds: float
    cpu_s: float
    parts: tuple[Part, ...]
    energy: Energy
    unattributed: tuple[Part, ...] = ()
    gaps: tuple[Gap, ...] = ()
    notes: tuple[str, ...] = ()


def grade_shares(parts: Sequence[Part]) -> dict[str, float]:
    """Which share of the energy has which grade [1]; empty when there's no energy.

    Args:
        parts: of a window or a footprint.
    """
    whole = sum(part.energy.value for part in parts)
    shares: dict[str, float] = {}
    for part in parts:
        if whole > 0:
            shares[part.grade] = shares.get(part.grade, 0.0) + part.energy.value / whole
    return dict(sorted(shares.items()))
