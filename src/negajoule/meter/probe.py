"""What every instrument promises: domains with energy since an arbitrary start, and no exceptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Capability", "Component", "Gap", "Probe", "Reading", "SharingProbe"]

Component = Literal["cpu", "memory", "gpu", "platform", "check"]
"""What a domain feeds. ``platform`` is a whole machine, so it contains the others; ``check`` (psys, a board's
sub-rail) is shown and compared but never added to anything."""


class Gap(msgspec.Struct, frozen=True):
    """A stretch of time that no counter vouches for.

    Attributes:
        kind: ``failed read``, ``reset``, ``jump``, ``several wraps``, ``standstill``, ``bad value``,
            ``unsampled``, ``disagreement``, ``clock`` or ``lost``.
        domain: which domain, e.g. ``package-0``.
        start_s: when it began, on the meter's monotonic clock [s].
        end_s: when it ended [s].
        detail: one sentence for people: what happened and how it was bridged.
    """

    kind: str
    domain: str
    start_s: float
    end_s: float
    detail: str


class Reading(msgspec.Struct, frozen=True):
    """One domain at one moment.

    Attributes:
        domain: its name, unique within the probe, e.g. ``package-0``, ``dram-0``, ``gpu 0``.
        energy_j: energy since an arbitrary start, after wrap correction; never falls. ``None`` if the domain
            has never given an energy [J].
        power_w: power now, ``None`` if it isn't known [W].
        source: the counter or sensor behind it, e.g. ``rapl package-0``.
        grade: A counter, B sampled power, E bridged over a gap.
        component: what the domain feeds.
        low_j: lower bound of ``energy_j``; it falls behind by the instrument's error and by gaps [J].
        high_j: upper bound [J].
        gap: set when the stretch that this reading closes had a gap.
    """

    domain: str
    energy_j: float | None
    power_w: float | None
    source: str
    grade: str
    component: Component
    low_j: float | None = None
    high_j: float | None = None
    gap: Gap | None = None


class Probe(Protocol):
    """An instrument. ``read`` never raises: what fails shows as a gap in its readings.

    Attributes:
        name: its family, e.g. ``rapl``.
        heartbeat_s: it must be read at least this often to lose nothing; ``None`` if window edges are enough
            [s].
    """

    name: str
    heartbeat_s: float | None

    def read(self) -> tuple[Reading, ...]:
        """All domains now."""

    def close(self) -> None:
        """Give back handles; reading after that is an error."""


@runtime_checkable
class SharingProbe(Protocol):
    """A probe of devices that processes share: it can say which part of each some of them use."""

    name: str

    def shares(self, pids: Collection[int], *, numbers_match: bool) -> dict[str, tuple[float, float, float]]:
        """Domain to value, low and high [1]; ``numbers_match`` is False if pids here aren't the driver's."""

    def uuids(self) -> dict[str, str]:
        """Domain to the device's UUID."""


class Capability(msgspec.Struct, frozen=True):
    """What one instrument can do here, for ``doctor``.

    Attributes:
        name: the instrument, e.g. ``rapl``.
        state: ``ready``, ``unreadable`` (there, but not for us) or ``absent``.
        detail: what was found.
        fix: the exact shell line that would improve it, empty if none would.
        grade: the grade its energy would have.
    """

    name: str
    state: Literal["ready", "unreadable", "absent"]
    detail: str
    fix: str = ""
    grade: str = "A"
