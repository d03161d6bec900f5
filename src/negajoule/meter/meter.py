"""The meter: reads the counters or the model, keeps running sums, and gives the energy between two readings.

Every reading closes a stretch: what each domain gave since the last one is split at once and added to the
running sum of its part, with both bounds. A snapshot is a copy of the sums and a window the difference of
two snapshots, so windows may nest, overlap and run in any thread, and consecutive windows add exactly to the
whole.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from negajoule.errors import MeterError
from negajoule.meter.attribution import (
    Claim,
    Counted,
    CpuShare,
    Slice,
    machine_slices,
    modelled,
    reserved_cores,
    reserved_share,
    split,
)
from negajoule.meter.discovery import find_probes
from negajoule.meter.host import read_host
from negajoule.meter.model import ONE, ZERO, Coefficients, Span, from_catalog
from negajoule.meter.probe import Gap, Probe, Reading, SharingProbe
from negajoule.meter.usage import MachineUsage, Tree, Usage, tree_of
from negajoule.units import Energy, Part, total

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from negajoule.meter.host import Host
    from negajoule.units import Basis

__all__ = ["Meter", "Snapshot", "Window", "grade_shares"]

KEPT_GAPS = 4096
CLOCK_TOLERANCE_S = 1.0


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


class _Account:
    """The running sum of one part."""

    __slots__ = ("basis", "grade", "high_j", "low_j", "name", "ours", "source", "value_j")

    def __init__(self, slice_: Slice, *, ours: bool) -> None:
        self.name, self.source, self.grade = slice_.name, slice_.source, slice_.grade
        self.basis: Basis = slice_.basis
        self.ours = ours
        self.value_j = self.low_j = self.high_j = 0.0


class Meter:
    """One for each process or machine, safe to read from several threads; made by the ``for_`` methods.

    Args:
        host: the machine.
        coefficients: of the model.
        probes: instruments to read; empty for the model alone.
        tree: whose share is wanted; ``None`` for the whole machine.
        machine: the machine's CPU time; needed with probes, or without a tree.
        clock: monotonic clock [s].
        wall: UTC clock [s].
    """

    def __init__(
        self,
        host: Host,
        coefficients: Coefficients,
        *,
        probes: Sequence[Probe] = (),
        tree: Tree | None = None,
        machine: MachineUsage | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.host, self.coefficients = host, coefficients
        self._probes = list(probes)
        self._tree, self._machine = tree, machine
        self._clock, self._wall = clock, wall
        self._sharing = [probe for probe in probes if isinstance(probe, SharingProbe)]
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._accounts: dict[tuple[bool, str, str, str], _Account] = {}
        self._gaps: deque[Gap] = deque(maxlen=KEPT_GAPS)
        self._seen: dict[str, Reading] = {}
        self._owners: dict[str, str] = {}
        self._time_s, self._wall_s = clock(), wall()
        self._usage = self._read_usage()
        self._shares = CpuShare(self._time_s, self._usage.cpu_s, machine.cpu_s() if machine else 0.0)
        self._poll()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.read()

    @classmethod
    def for_process(
        cls,
        root: int | None = None,
        *,
        only_descendants: bool = False,
        files: Path = Path("/"),
        probes: Sequence[Probe] | None = None,
    ) -> Self:
        """A meter for a process tree, by default this one; starts a heartbeat only if a probe needs one.

        Args:
            root: process number of the tree's root.
            only_descendants: leave the root itself out.
            files: where the file system starts; a fake tree in tests.
            probes: instruments instead of those found here.
        """
        found = find_probes(files) if probes is None else probes
        host = read_host(files)
        meter = cls(
            host,
            from_catalog(host),
            probes=found,
            tree=tree_of(root, only_descendants=only_descendants),
            machine=MachineUsage(files) if found else None,
        )
        meter.start_heartbeat()
        return meter

    @classmethod
    def for_command(cls, *, files: Path = Path("/"), probes: Sequence[Probe] | None = None) -> Self:
        """A meter for what this process starts, itself left out; arguments as in ``for_process``."""
        return cls.for_process(only_descendants=True, files=files, probes=probes)

    @classmethod
    def for_machine(cls, *, files: Path = Path("/"), probes: Sequence[Probe] | None = None) -> Self:
        """A meter for the whole machine; arguments as in ``for_process``."""
        host = read_host(files)
        found = find_probes(files) if probes is None else probes
        meter = cls(host, from_catalog(host), probes=found, machine=MachineUsage(files))
        meter.start_heartbeat()
        return meter

    def read(self) -> Snapshot:
        """Close the stretch since the last reading, and copy the sums; never raises."""
        if os.getpid() != self._pid:
            self._after_fork()
        with self._lock:
            now_s, wall_s = self._clock(), self._wall()
            usage = self._read_usage()
            self._close_stretch(now_s, wall_s, usage)
            sums: list[float] = []
            for account in self._accounts.values():
                sums += (account.value_j, account.low_j, account.high_j)
            return Snapshot(now_s, wall_s, usage.cpu_s, tuple(sums), id(self))

    def between(self, first: Snapshot, last: Snapshot) -> Window:
        """What was used from one snapshot to a later one.

        Raises:
            MeterError: (M104) if they are in the wrong order or another meter's.
        """
        if first.meter != id(self) or last.meter != id(self):
            raise MeterError("a snapshot of another meter was used", code="M104")
        if last.time_s < first.time_s:
            raise MeterError("the window ends before it begins", code="M104", fix="swap the snapshots")
        ours: list[Part] = []
        others: list[Part] = []
        for index, account in enumerate(list(self._accounts.values())[: len(last.sums) // 3]):
            at = 3 * index
            start = first.sums[at : at + 3] or (0.0, 0.0, 0.0)
            value_j, low_j, high_j = (
                after - before for after, before in zip(last.sums[at : at + 3], start, strict=True)
            )
            if high_j <= 0 and account.grade == "E":
                continue
            energy = Energy(value_j, min(low_j, value_j), max(high_j, value_j), account.basis, "node")
            (ours if account.ours else others).append(
                Part(account.name, energy, account.source, account.grade)
            )
        gaps = tuple(
            gap for gap in list(self._gaps) if gap.start_s <= last.time_s and gap.end_s >= first.time_s
        )
        return Window(
            seconds=last.time_s - first.time_s,
            cpu_s=last.cpu_s - first.cpu_s,
            parts=tuple(ours),
            energy=total(part.energy for part in ours) or Energy.exact(0.0, "assumed", "node"),
            unattributed=tuple(others),
            gaps=gaps,
            notes=self.coefficients.notes,
        )

    def start_heartbeat(self) -> None:
        """Read in the background as often as the most demanding probe needs; do nothing if none does."""
        periods = [probe.heartbeat_s for probe in self._probes if probe.heartbeat_s is not None]
        if periods and self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(
                target=self._beat, args=(min(periods),), name="negajoule-meter", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Stop the heartbeat and give back handles; snapshots already taken stay usable."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)
            self._thread = None
        with self._lock:
            probes, self._probes = self._probes, []
            for item in (*probes, self._tree, self._machine):
                if item is not None:
                    item.close()

    def _beat(self, period_s: float) -> None:
        while not self._stop.wait(period_s):
            self.read()

    def _after_fork(self) -> None:
        """A forked child has neither our threads nor our CPU time: begin anew on the inherited sums."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        if self._tree is not None:
            self._tree = tree_of()
        self._usage = self._read_usage()
        self._shares = CpuShare(self._clock(), self._usage.cpu_s, self._shares.machine_s)
        if self._thread is not None:
            self._thread, self._stop = None, threading.Event()
            self.start_heartbeat()

    def _read_usage(self) -> Usage:
        if self._tree is not None:
            return self._tree.read()
        size = self.host.memory_bytes
        return Usage(self._machine.cpu_s() if self._machine else 0.0, size, size)

    def _close_stretch(self, now_s: float, wall_s: float, usage: Usage) -> None:
        before = self._usage
        seconds = max(now_s - self._time_s, 0.0)
        cpu_s = max(usage.cpu_s - before.cpu_s, 0.0)
        if abs((wall_s - self._wall_s) - (now_s - self._time_s)) > CLOCK_TOLERANCE_S:
            moved_s = (wall_s - self._wall_s) - (now_s - self._time_s)
            self._gaps.append(
                Gap("clock", "wall clock", self._time_s, now_s, f"the wall clock moved by {moved_s:.1f} s")
            )
        self._time_s, self._wall_s, self._usage = now_s, wall_s, usage
        counted = self._poll()
        coefficients, host = self.coefficients, self.host
        whole = self._tree is None
        all_cores = coefficients.cores_per_reserved_thread.scaled(host.threads)
        cores = all_cores if whole else reserved_cores(host, coefficients, cpu_s=cpu_s, seconds=seconds)
        memory = self._memory(before, usage)
        for piece in modelled(
            coefficients,
            seconds=seconds,
            cpu_s=cpu_s,
            cores=cores,
            memory_bytes=memory,
            counted=frozenset(self._owners),
        ):
            self._book(piece, ours=True)
        if not counted:
            return
        if whole:
            for item in machine_slices(counted):
                self._book(item, ours=True)
            return
        machine_s = self._machine.cpu_s() if self._machine else 0.0
        claim = Claim(
            cpu=self._shares.since(now_s, usage.cpu_s, machine_s),
            reserved=reserved_share(host, cpu_s=cpu_s, seconds=seconds),
            memory=memory.scaled(1 / host.memory_bytes) if host.memory_bytes else ONE,
            gpus=self._gpu_shares(),
        )
        idle_j = coefficients.package_idle_w.times(all_cores).scaled(seconds)
        memory_idle_j = coefficients.memory_w_per_byte.scaled(host.memory_bytes * seconds)
        server_j = coefficients.idle_w.times(all_cores).scaled(seconds)
        server_j = Span(*(a + b for a, b in zip(server_j, memory_idle_j, strict=True)))
        result = split(counted, [claim], idle_j=idle_j, server_idle_j=server_j)
        for piece in result.claims[0]:
            self._book(piece, ours=True)
        for piece in result.unattributed:
            self._book(piece, ours=False)

    def _memory(self, before: Usage, usage: Usage) -> Span:
        """Bytes over a stretch: the container's limit where one is set, else what was held, by trapezoid."""
        if self._tree is None:
            return ONE.scaled(self.host.memory_bytes)
        limit = self.host.memory_limit_bytes
        if limit is not None:
            return ONE.scaled(limit)
        return Span(
            (before.resident_bytes + usage.resident_bytes) / 2,
            min(before.resident_low_bytes, usage.resident_low_bytes),
            max(before.resident_bytes, usage.resident_bytes),
        )

    def _poll(self) -> list[Counted]:
        """Read the probes; the first that gives a component keeps it, so that none is counted twice."""
        counted: list[Counted] = []
        for probe in self._probes:
            try:
                readings = probe.read()
            except Exception as error:
                self._gaps.append(Gap("failed read", probe.name, self._time_s, self._time_s, str(error)))
                continue
            for reading in readings:
                if reading.gap is not None:
                    self._gaps.append(reading.gap)
                if reading.energy_j is None or reading.component == "check":
                    continue
                if reading.component != "gpu" and (
                    self._owners.setdefault(reading.component, probe.name) != probe.name
                ):
                    continue
                key = f"{probe.name} {reading.domain}"
                last, self._seen[key] = self._seen.get(key), reading
                energy_j = _grown(last, reading) if last is not None else ZERO
                counted.append(
                    Counted(reading.component, reading.domain, reading.source, reading.grade, energy_j)
                )
        return counted

    def _gpu_shares(self) -> dict[str, Span]:
        if not self._sharing or self._tree is None:
            return {}
        pids, match = self._tree.pids(), self.host.first_pid_namespace
        shares: dict[str, Span] = {}
        for probe in self._sharing:
            try:
                found = probe.shares(pids, numbers_match=match)
            except Exception as error:
                self._gaps.append(Gap("failed read", probe.name, self._time_s, self._time_s, str(error)))
                continue
            shares |= {domain: Span(*share) for domain, share in found.items()}
        return shares

    def _book(self, piece: Slice, *, ours: bool) -> None:
        key = (ours, piece.name, piece.source, piece.grade)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account(piece, ours=ours)
        value_j, low_j, high_j = piece.energy_j
        account.value_j += value_j
        account.low_j += low_j
        account.high_j += high_j


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


def _grown(last: Reading, reading: Reading) -> Span:
    """What a domain gave since its last reading; a probe without bounds is taken at its word."""
    assert reading.energy_j is not None
    assert last.energy_j is not None
    value = max(reading.energy_j - last.energy_j, 0.0)
    low = value if reading.low_j is None or last.low_j is None else reading.low_j - last.low_j
    high = value if reading.high_j is None or last.high_j is None else reading.high_j - last.high_j
    return Span(value, min(max(low, 0.0), value), max(high, value))
