"""The machine as it is now: energy by device and by process, since the last look and since the first.

Every process gets its share of the machine's active energy by CPU time, of memory by bytes, of a GPU by its
use (``meter.attribution``). What no process accounts for is kept apart: processes that ended, that can't be
seen or that aren't shown, and what is drawn whoever works. Processes, others and idle add to the whole.
"""

from __future__ import annotations

import os
from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from negajoule.instrument.processes import Running, running, tree_under
from negajoule.meter import Meter, find_probes
from negajoule.meter.attribution import MACHINE_CLOCK_ERROR_S, Claim, Counted, split
from negajoule.meter.model import ZERO, Span
from negajoule.meter.probe import SharingProbe
from negajoule.units import Energy, Power, weakest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from negajoule.instrument.here import Here
    from negajoule.meter import Probe, Window
    from negajoule.units import Basis, Footprint, Part

__all__ = ["DeviceLine", "Frame", "Live", "ProcessLine", "Share"]

TICK_S = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01
GPU_ASKED = 32
"""For how many processes, the busiest first, a GPU's driver is asked."""
_BUSY = ("cpu active", "machine active")


class Share(NamedTuple):
    """What something used.

    Attributes:
        power: since the last look [W].
        energy: since the first [J].
    """

    power: Power
    energy: Energy


class DeviceLine(NamedTuple):
    """A device or part of the machine; grade and source as in ``units.Part``."""

    name: str
    source: str
    grade: str
    share: Share


class ProcessLine(NamedTuple):
    """A process; ``cpu_share`` is 1 for one busy thread [1]."""

    pid: int
    name: str
    cpu_share: float
    share: Share


class Frame(NamedTuple):
    """One look.

    Attributes:
        time_s: UTC seconds since 1970 [s].
        seconds: since the last look [s].
        elapsed_s: since the first [s].
        whole: the machine.
        now: the footprint since the last look.
        since_start: the footprint since the first.
        devices: parts that add up to the machine.
        processes: busiest first; with ``others`` and ``idle`` they add up to the machine.
        others: processes that aren't in the list, that ended or that can't be seen.
        others_cpu_share: their part of the busy time [1].
        idle: what is drawn whoever works, and memory that no process holds.
    """

    time_s: float
    seconds: float
    elapsed_s: float
    whole: Share
    now: Footprint
    since_start: Footprint
    devices: tuple[DeviceLine, ...]
    processes: tuple[ProcessLine, ...]
    others: Share
    others_cpu_share: float
    idle: Share


class Live:
    """Looks at the machine again and again.

    Args:
        here: this machine and place.
        meter: of the whole machine.
        probes: what the meter reads.
        root: only this process and its descendants by name, all others together.
        top: how many processes by name.
        processes: who runs.
    """

    def __init__(
        self,
        here: Here,
        meter: Meter,
        probes: Sequence[Probe],
        *,
        root: int | None = None,
        top: int = 10,
        processes: Callable[[], list[Running]] = running,
    ) -> None:
        readings = [reading for probe in probes for reading in probe.read()]
        self._kinds = {reading.domain: reading.component for reading in readings}
        self._platforms = {reading.source for reading in readings if reading.component == "platform"}
        self._sharing = [probe for probe in probes if isinstance(probe, SharingProbe)]
        self._meter = meter
        host = self._meter.host
        whole = msgspec.structs.replace(host, affinity=host.threads, quota_cpus=None, memory_limit_bytes=None)
        self._here = here._replace(host=whole)
        self._root, self._top, self._processes = root, top, processes
        self._energies: dict[tuple[int, float], Span] = {}
        self._others_j = self._idle_j = ZERO
        self._seen = self._look_around()
        self._first = self._last = self._meter.read()

    @classmethod
    def for_machine(cls, here: Here, *, root: int | None = None, top: int = 10) -> Self:
        """With all instruments that can be read here; arguments as above."""
        probes = find_probes()
        return cls(here, Meter.for_machine(probes=probes), probes, root=root, top=top)

    @property
    def root_lives(self) -> bool:
        """Whether the process asked for was there at the last look; True if none was asked for."""
        return self._root is None or any(one.pid == self._root for one in self._seen.values())

    def close(self) -> None:
        """Give back the instruments."""
        self._meter.close()

    def look(self) -> Frame:
        """What was used since the last look and since the first."""
        snapshot = self._meter.read()
        before, self._seen = self._seen, self._look_around()
        window = self._meter.between(self._last, snapshot)
        whole = self._meter.between(self._first, snapshot)
        self._last = snapshot
        burnt_s = {
            key: max(one.cpu_s - (before[key].cpu_s if key in before else 0.0), 0.0)
            for key, one in self._seen.items()
        }
        busy_s = max(window.cpu_s, sum(burnt_s.values()))
        shares, others_j, idle_j = self._share_out(window, burnt_s, busy_s)
        shown = self._shown(burnt_s)
        for key in [key for key in self._energies if key not in self._seen]:
            self._others_j = _plus(self._others_j, self._energies.pop(key))
        for key, joules in shares.items():
            self._energies[key] = _plus(self._energies.get(key, ZERO), joules)
        self._others_j, self._idle_j = _plus(self._others_j, others_j), _plus(self._idle_j, idle_j)
        rest, rest_total = others_j, self._others_j
        for key in self._seen.keys() - set(shown):
            rest, rest_total = _plus(rest, shares[key]), _plus(rest_total, self._energies[key])
        seconds = max(window.seconds, 1e-9)
        basis = weakest("inferred", whole.energy.basis)

        def share(joules: Span, total_j: Span) -> Share:
            return Share(_power(joules, seconds, basis), _energy(total_j, basis))

        return Frame(
            time_s=snapshot.wall_s,
            seconds=window.seconds,
            elapsed_s=whole.seconds,
            whole=Share(_power(_span(window.energy), seconds, whole.energy.basis), whole.energy),
            now=self._here.cost(window.parts, window.seconds, notes=window.notes),
            since_start=self._here.cost(whole.parts, whole.seconds, notes=whole.notes),
            devices=_devices(window.parts, whole.parts, seconds),
            processes=tuple(
                ProcessLine(
                    key[0],
                    self._seen[key].name,
                    burnt_s[key] / seconds,
                    share(shares[key], self._energies[key]),
                )
                for key in shown
            ),
            others=share(rest, rest_total),
            others_cpu_share=max(busy_s - sum(burnt_s[key] for key in shown), 0.0) / seconds,
            idle=share(idle_j, self._idle_j),
        )

    def total(self) -> tuple[float, Footprint]:
        """Seconds and footprint from the first look to now; a configured grid source may be asked."""
        window = self._meter.between(self._first, self._meter.read())
        return window.seconds, self._here.cost_of(window)

    def _look_around(self) -> dict[tuple[int, float], Running]:
        return {(one.pid, one.born_s): one for one in self._processes()}

    def _shown(self, burnt_s: dict[tuple[int, float], float]) -> list[tuple[int, float]]:
        """The busiest; those equally busy by the memory they hold."""
        keys = list(burnt_s)
        if self._root is not None:
            own = tree_under(self._root, list(self._seen.values()))
            keys = [key for key in keys if key[0] in own]
        keys.sort(key=lambda key: (burnt_s[key], self._seen[key].memory_bytes), reverse=True)
        return keys[: self._top]

    def _share_out(
        self, window: Window, burnt_s: dict[tuple[int, float], float], busy_s: float
    ) -> tuple[dict[tuple[int, float], Span], Span, Span]:
        """Joules of each process, of others, and of nobody [J]."""
        counted, idle_j, apart = self._counted(window)
        claims = self._claims(counted, burnt_s, busy_s)
        result = split(counted, list(claims.values()), idle_j=idle_j, server_idle_j=idle_j)
        shares = {
            key: _sum(slice_.energy_j for slice_ in own)
            for key, own in zip(claims, result.claims, strict=True)
        }
        others_j = _sum(slice_.energy_j for slice_ in result.unattributed if slice_.name in _BUSY)
        nobody = [slice_.energy_j for slice_ in result.unattributed if slice_.name not in _BUSY]
        return shares, others_j, _sum([*nobody, *apart])

    def _counted(self, window: Window) -> tuple[list[Counted], Span, list[Span]]:
        """What can be shared out, what of it the processors draw idle, and what is shared by nobody."""
        coefficients, host = self._meter.coefficients, self._meter.host
        cores = coefficients.cores_per_reserved_thread.scaled(host.threads)
        counted: list[Counted] = []
        apart: list[Span] = []
        idle_j = ZERO
        for part in window.parts:
            energy_j = _span(part.energy)
            kind = self._kinds.get(part.name)
            if part.name == "cpu active" or part.name == "memory":
                kind = "cpu" if part.name == "cpu active" else "memory"
            elif kind == "cpu":
                idle_j = coefficients.package_idle_w.times(cores).scaled(window.seconds)
            elif part.source in self._platforms and "cpu" not in self._kinds.values():
                kind = "platform"
                memory_w = coefficients.memory_w_per_byte.scaled(host.memory_bytes)
                idle_w = _plus(coefficients.idle_w.times(cores), memory_w)
                idle_j = idle_w.scaled(window.seconds)
            if kind in ("cpu", "memory", "gpu", "platform"):
                counted.append(Counted(kind, part.name, part.source, part.grade, energy_j))
            else:
                apart.append(energy_j)
        return counted, idle_j, apart

    def _claims(
        self, counted: list[Counted], burnt_s: dict[tuple[int, float], float], busy_s: float
    ) -> dict[tuple[int, float], Claim]:
        memory = max(self._meter.host.memory_bytes, 1)
        asked: list[tuple[int, float]] = []
        # Elsewhere a driver's process numbers aren't ours.
        if self._meter.host.first_pid_namespace and any(item.component == "gpu" for item in counted):
            asked = sorted(burnt_s, key=burnt_s.__getitem__, reverse=True)[:GPU_ASKED]
        claims = {}
        for key, seconds in burnt_s.items():
            one = self._seen[key]
            claims[key] = Claim(
                cpu=_cpu_share(seconds, busy_s),
                reserved=ZERO,
                memory=Span(*(size / memory for size in (one.own_bytes, one.own_bytes, one.memory_bytes))),
                gpus=self._gpu_shares(one.pid) if key in asked else {},
            )
        return claims

    def _gpu_shares(self, pid: int) -> dict[str, Span]:
        """A process's part of each board, where the driver tells; else the board is nobody's."""
        shares: dict[str, Span] = {}
        for probe in self._sharing:
            with suppress(Exception):  # a driver that refuses tells nothing
                found = probe.shares((pid,), numbers_match=True)
                shares |= {domain: Span(*share) for domain, share in found.items()}
        return shares


def _cpu_share(seconds: float, busy_s: float) -> Span:
    """A process's part of the busy time, both read in whole ticks [1]."""
    if seconds <= 0 or busy_s <= 0:
        return ZERO
    value = seconds / busy_s
    surely_s = seconds - TICK_S if seconds > 1.01 * TICK_S else 0.0
    low = surely_s / (busy_s + MACHINE_CLOCK_ERROR_S)
    high = (seconds + TICK_S) / max(busy_s - MACHINE_CLOCK_ERROR_S, seconds)
    return Span(value, min(low, value), max(min(high, 1.0), value))


def _devices(now: Sequence[Part], since_start: Sequence[Part], seconds: float) -> tuple[DeviceLine, ...]:
    recent = {(part.name, part.source, part.grade): part.energy for part in now}
    lines = []
    for part in sorted(since_start, key=attrgetter("energy.value"), reverse=True):
        energy = recent.get((part.name, part.source, part.grade))
        power = _power(ZERO if energy is None else _span(energy), seconds, part.energy.basis)
        lines.append(DeviceLine(part.name, part.source, part.grade, Share(power, part.energy)))
    return tuple(lines)


def _span(energy: Energy) -> Span:
    return Span(energy.value, energy.low, energy.high)


def _plus(a: Span, b: Span) -> Span:
    return Span(a.value + b.value, a.low + b.low, a.high + b.high)


def _sum(spans: Iterable[Span]) -> Span:
    result = ZERO
    for span in spans:
        result = _plus(result, span)
    return result


def _power(joules: Span, seconds: float, basis: Basis) -> Power:
    value = joules.value / seconds
    return Power(value, min(joules.low / seconds, value), max(joules.high / seconds, value), basis, "node")


def _energy(joules: Span, basis: Basis) -> Energy:
    value = joules.value
    return Energy(value, min(joules.low, value), max(joules.high, value), basis, "node")
