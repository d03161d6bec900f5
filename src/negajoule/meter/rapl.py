"""RAPL through Linux powercap: packages and DRAM, wraps and resets, permissions.

Layout of ``/sys/class/powercap``: top zones ``intel-rapl:0`` (named ``package-0``, on some chips one a die,
``package-0-die-1``) or ``psys``; sub-zones ``intel-rapl:0:1`` (``core``, ``uncore``, ``dram``). AMD uses the
same names. Package contains core and uncore; DRAM stands beside it; psys contains all of them and more, so
it is only compared. ``intel-rapl-mmio`` zones repeat a package and are left out.
"""

from __future__ import annotations

import os
import time
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from negajoule.catalog import lookup
from negajoule.meter.kernel_files import read_number, read_text
from negajoule.meter.probe import Capability, Component, Gap, Reading
from negajoule.meter.track import CounterTrack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["RaplProbe", "rapl_capability", "rapl_zones"]

POWERCAP = "sys/class/powercap"
MIN_CHECKED_J = 5.0
CONFIRMATIONS = 3
"""Readings that must look like one counter, with the counter moving, before two zones are taken for one."""


class Zone(NamedTuple):
    """A powercap zone that we would count or compare."""

    domain: str
    path: Path
    component: Component
    readable: bool


def rapl_zones(root: Path) -> list[Zone]:
    """Find packages, DRAM and psys under ``root``; core, uncore and memory-mapped twins are left out."""
    zones: list[Zone] = []
    folder = root / POWERCAP
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return zones
    for name in names:
        kind, _, number = name.partition(":")
        if kind not in ("intel-rapl", "amd-rapl") or not number:
            continue
        path = folder / name
        label = read_text(path / "name")
        top = ":" not in number
        component: Component
        if top and label.startswith("package"):
            domain, component = label, "cpu"
        elif top and label == "psys":
            domain, component = label, "check"
        elif label == "dram":
            domain, component = f"dram-{number.split(':')[0]}", "memory"
        else:
            continue
        zones.append(Zone(domain, path, component, os.access(path / "energy_uj", os.R_OK)))
    return zones


def rapl_capability(root: Path) -> Capability:
    """What RAPL can do here, and the line that would let it."""
    zones = rapl_zones(root)
    if not zones:
        return Capability("rapl", "absent", f"no zone in /{POWERCAP}", _modprobe(root))
    shut = [zone.domain for zone in zones if not zone.readable]
    if shut:
        return Capability(
            "rapl",
            "unreadable",
            f"the kernel lets only root read {', '.join(shut)}",
            f"sudo chmod a+r $(find /{POWERCAP}/ -follow -maxdepth 2 -name energy_uj 2>/dev/null)",
        )
    return Capability("rapl", "ready", ", ".join(zone.domain for zone in zones))


class RaplProbe:
    """Reads every readable package, DRAM and psys zone.

    Two zones may be one counter shown twice (some chips repeat the package for each die). Zones that hold
    the same value are therefore read in a bracket, first, second, first again: one counter can only give
    rising values, two counters leave the bracket as soon as they drift apart. Until that is decided the
    second zone's energy counts in the upper bound alone; once decided it is either counted in full or
    dropped.

    Args:
        root: where the file system starts; a fake tree in tests.
        clock: monotonic clock [s].

    Raises:
        OSError: if no zone can be read.
    """

    name = "rapl"

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        zones = [zone for zone in rapl_zones(root) if zone.readable]
        accuracy = lookup("meter.accuracy.rapl").value
        ceiling_w = lookup("meter.ceiling.package").value
        self._zones = [_OpenZone(zone, ceiling_w, accuracy) for zone in zones]
        if not any(zone.component == "cpu" for zone in self._zones):
            raise OSError("no RAPL package can be read")
        self._suspects = [
            _Suspicion(a, b)
            for a, b in combinations([zone for zone in self._zones if zone.component == "cpu"], 2)
            if _bracketed(a, b)
        ]
        self.mirrored: set[str] = set()
        self.heartbeat_s: float | None = min(zone.wrap_s for zone in self._zones) / 2
        self.read()

    def read(self) -> tuple[Reading, ...]:
        """Read all zones; never raises."""
        now_s = self._clock()
        for suspicion in self._suspects:
            suspicion.weigh()
        for zone in self._zones:
            zone.advance(now_s)
        for suspicion in [item for item in self._suspects if item.verdict is not None]:
            self._suspects.remove(suspicion)
            if suspicion.verdict == "one counter":
                self.mirrored.add(suspicion.second.domain)
                self._zones.remove(suspicion.second)
                self._suspects = [item for item in self._suspects if suspicion.second not in item.pair]
        held = {id(suspicion.second) for suspicion in self._suspects}
        readings = tuple(zone.reading(held=id(zone) in held) for zone in self._zones)
        return self._checked(readings, now_s)

    def _checked(self, readings: tuple[Reading, ...], now_s: float) -> tuple[Reading, ...]:
        """Compare psys with what it contains; one that is smaller says that something isn't what it seems."""
        whole = [item for item in readings if item.component == "check" and item.energy_j is not None]
        inner_j = sum(item.low_j or 0.0 for item in readings if item.component != "check")
        if len(whole) != 1 or inner_j < MIN_CHECKED_J or (whole[0].high_j or 0.0) >= inner_j:
            return readings
        detail = f"psys says {whole[0].energy_j:.0f} J, less than the packages and memory in it"
        gap = Gap("disagreement", whole[0].domain, now_s, now_s, detail)
        return tuple(
            msgspec.structs.replace(item, gap=gap) if item is whole[0] else item for item in readings
        )

    def close(self) -> None:
        """Close the files."""
        for zone in self._zones:
            zone.close()


class _OpenZone:
    """One zone with its file kept open, so that a reading costs one system call."""

    def __init__(self, zone: Zone, ceiling_w: float, accuracy: float) -> None:
        self.domain, self.component = zone.domain, zone.component
        wrap_j = read_number(zone.path / "max_energy_range_uj")
        self.ceiling_w = ceiling_w
        self.wrap_s = wrap_j / 1e6 / ceiling_w if wrap_j else float("inf")
        self._file = os.open(zone.path / "energy_uj", os.O_RDONLY)
        self._track = CounterTrack(
            zone.domain, ceiling_w=ceiling_w, wrap_j=wrap_j / 1e6 if wrap_j else None, accuracy=accuracy
        )

    def raw_uj(self) -> int | None:
        try:
            return int(os.pread(self._file, 32, 0))
        except (OSError, ValueError):
            return None

    def advance(self, now_s: float) -> None:
        raw = self.raw_uj()
        self._track.advance(None if raw is None else raw / 1e6, now_s)

    def reading(self, *, held: bool) -> Reading:
        track = self._track
        return Reading(
            domain=self.domain,
            energy_j=0.0 if held else track.energy_j,
            power_w=None,
            source=f"rapl {self.domain}",
            grade=track.grade,
            component=self.component,
            low_j=0.0 if held else track.low_j,
            high_j=track.high_j,
            gap=track.gap,
        )

    def close(self) -> None:
        os.close(self._file)


class _Suspicion:
    """Two zones that may be one counter."""

    def __init__(self, first: _OpenZone, second: _OpenZone) -> None:
        self.first, self.second = first, second
        self.pair = (first, second)
        self.verdict: str | None = None
        self._seen = first.raw_uj()
        self._agreed = 0

    def weigh(self) -> None:
        """Bracket once more: a value outside decides at once, a moved counter inside confirms."""
        if not _bracketed(self.first, self.second):
            self.verdict = "two counters"
            return
        raw = self.first.raw_uj()
        if raw != self._seen:
            self._seen = raw
            self._agreed += 1
            if self._agreed >= CONFIRMATIONS:
                self.verdict = "one counter"


def _bracketed(first: _OpenZone, second: _OpenZone) -> bool:
    before, between, after = first.raw_uj(), second.raw_uj(), first.raw_uj()
    if before is None or between is None or after is None:
        return False
    return before <= between <= after


def _modprobe(root: Path) -> str:
    vendor = read_text(root / "proc/cpuinfo", 4096)
    if "hypervisor" in vendor:
        return ""
    return "sudo modprobe intel_rapl_msr" if "GenuineIntel" in vendor or "AuthenticAMD" in vendor else ""
