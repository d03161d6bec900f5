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
from pathlib import Path
from typing import TYPE_CHECKING, Self

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
from negajoule.meter.bank import ProbeBank
from negajoule.meter.calibration import coefficients_for
from negajoule.meter.discovery import Discovery, discover
from negajoule.meter.host import read_host
from negajoule.meter.model import ONE, Coefficients, Span
from negajoule.meter.probe import Gap, Probe
from negajoule.meter.usage import MachineUsage, Tree, Usage, tree_of
from negajoule.meter.window import Snapshot, Window
from negajoule.units import Energy, Part, total

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from negajoule.meter.host import Host
    from negajoule.units import Basis

__all__ = ["Meter"]

CLOCK_TOLERANCE_S = 1.0
COMMAND_PERIOD_S = 0.25
LOWEST_SPAN_S = 0.5
"""A package's lowest power is taken over at least this long."""


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
        notes: what readers of every window must know.
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
        notes: tuple[str, ...] = (),
    ) -> None:
        self._notes = notes
        self.host, self.coefficients = host, coefficients
        self.probes = ProbeBank(probes)
        self._tree, self._machine = tree, machine
        self._clock, self._wall = clock, wall
        self._lock = threading.RLock()  # a signal handler may read while we do
        self._pid = os.getpid()
        self._accounts: dict[tuple[bool, str, str, str], _Account] = {}
        self._lowest_w = float("inf")
        self._time_s, self._wall_s = clock(), wall()
        self._usage = self._read_usage()
        self._shares = CpuShare(self._time_s, self._usage.cpu_s, machine.cpu_s() if machine else 0.0)
        self.probes.poll(self._time_s)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._period_s = 0.0
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
        found = discover(files) if probes is None else Discovery(list(probes))
        host = read_host(files)
        meter = cls(
            host,
            coefficients_for(host),
            probes=found.probes,
            tree=tree_of(root, only_descendants=only_descendants),
            machine=MachineUsage(files) if found.probes else None,
            notes=found.notes,
        )
        meter.start_heartbeat()
        return meter

    @classmethod
    def for_command(cls, *, files: Path = Path("/"), probes: Sequence[Probe] | None = None) -> Self:
        """A meter for what this process starts, itself left out; arguments as in ``for_process``.

        It reads in the background, to see memory and processes that come and go; that costs the commands
        nothing.
        """
        meter = cls.for_process(only_descendants=True, files=files, probes=probes)
        meter.start_heartbeat(COMMAND_PERIOD_S)
        return meter

    @classmethod
    def for_machine(cls, *, files: Path = Path("/"), probes: Sequence[Probe] | None = None) -> Self:
        """A meter for the whole machine; arguments as in ``for_process``."""
        host = read_host(files)
        found = discover(files) if probes is None else Discovery(list(probes))
        meter = cls(
            host,
            coefficients_for(host),
            probes=found.probes,
            machine=MachineUsage(files),
            notes=found.notes,
        )
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
        return Window(
            seconds=last.time_s - first.time_s,
            cpu_s=last.cpu_s - first.cpu_s,
            parts=tuple(ours),
            energy=total(part.energy for part in ours) or Energy.exact(0.0, "assumed", "node"),
            unattributed=tuple(others),
            gaps=self.probes.gaps(first.time_s, last.time_s),
            notes=(*self.coefficients.notes, *self._notes),
        )

    def start_heartbeat(self, period_s: float | None = None) -> None:
        """Read in the background as often as the most demanding probe needs; do nothing if none does.

        Args:
            period_s: read at least this often, whatever the probes need [s].
        """
        periods = [period for period in (period_s, self.probes.period_s) if period is not None]
        if not periods or (self._thread is not None and min(periods) >= self._period_s):
            return
        self._halt()
        self._period_s = min(periods)
        self._thread = threading.Thread(
            target=self._beat, args=(self._period_s,), name="negajoule-meter", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop the heartbeat and give back handles; snapshots already taken stay usable."""
        self._halt()
        with self._lock:
            for item in (self.probes, self._tree, self._machine):
                if item is not None:
                    item.close()

    def _halt(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)
        self._thread, self._stop = None, threading.Event()

    def _beat(self, period_s: float) -> None:
        stop = self._stop
        while not stop.wait(period_s):
            self.read()

    def _after_fork(self) -> None:
        """A forked child has neither our threads nor our CPU time: begin anew on the inherited sums."""
        self._pid = os.getpid()
        self._lock = threading.RLock()
        if self._tree is not None:
            self._tree = tree_of()
        self._usage = self._read_usage()
        self._shares = CpuShare(self._clock(), self._usage.cpu_s, self._shares.machine_s)
        if self._thread is not None:
            self._thread, self._stop = None, threading.Event()
            self.start_heartbeat(self._period_s)

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
            self.probes.note(
                Gap("clock", "wall clock", self._time_s, now_s, f"the wall clock moved by {moved_s:.1f} s")
            )
        self._time_s, self._wall_s, self._usage = now_s, wall_s, usage
        counted = self.probes.poll(now_s)
        coefficients, host = self.coefficients, self.host
        all_cores = coefficients.cores_per_reserved_thread.scaled(host.threads)
        cores = all_cores
        if self._tree is not None:
            cores = reserved_cores(host, coefficients, cpu_s=cpu_s, seconds=seconds)
        memory = self._memory(before, usage)
        for piece in modelled(
            coefficients,
            seconds=seconds,
            cpu_s=cpu_s,
            cores=cores,
            memory_bytes=memory,
            counted=self.probes.components,
        ):
            self._book(piece, ours=True)
        if not counted:
            return
        if self._tree is None:
            for item in machine_slices(counted):
                self._book(item, ours=True)
            return
        machine_s = self._machine.cpu_s() if self._machine else 0.0
        claim = Claim(
            cpu=self._shares.since(now_s, usage.cpu_s, machine_s),
            reserved=reserved_share(host, cpu_s=cpu_s, seconds=seconds),
            memory=memory.scaled(1 / host.memory_bytes) if host.memory_bytes else ONE,
            gpus=self.probes.shares(
                counted, self._tree.pids(), now_s, numbers_match=host.first_pid_namespace
            ),
        )
        idle_j = self._package_idle_w(counted, all_cores, seconds).scaled(seconds)
        memory_idle_j = coefficients.memory_w_per_byte.scaled(host.memory_bytes * seconds)
        server_j = coefficients.idle_w.times(all_cores).scaled(seconds)
        server_j = Span(*(a + b for a, b in zip(server_j, memory_idle_j, strict=True)))
        result = split(counted, [claim], idle_j=idle_j, server_idle_j=server_j)
        for piece in result.claims[0]:
            self._book(piece, ours=True)
        for piece in result.unattributed:
            self._book(piece, ours=False)

    def _memory(self, before: Usage, usage: Usage) -> Span:
        """Bytes over a stretch: the container's limit where one is set, else what was held, by trapezoid.

        What grew and shrank again within the stretch is taken to have done so evenly: a new peak of the
        root's, and a process that came and went, which then counts with half its peak.
        """
        if self._tree is None:
            return ONE.scaled(self.host.memory_bytes)
        limit = self.host.memory_limit_bytes
        if limit is not None:
            return ONE.scaled(limit)
        edges = before.resident_bytes, usage.resident_bytes
        held = sum(edges) / 2
        if usage.peak_bytes > max(before.peak_bytes, *edges):
            held = (held + usage.peak_bytes) / 2
        return Span(
            held + usage.passing_bytes / 2,
            min(before.resident_low_bytes, usage.resident_low_bytes),
            max(*edges, usage.peak_bytes) + usage.passing_bytes,
        )

    def _package_idle_w(self, counted: list[Counted], cores: Span, seconds: float) -> Span:
        """Idle power of the packages: the coefficient's, but no more than the least that was ever seen."""
        packages = [item for item in counted if item.component == "cpu"]
        if seconds >= LOWEST_SPAN_S and packages and all(item.grade == "A" for item in packages):
            self._lowest_w = min(self._lowest_w, sum(item.energy_j.value for item in packages) / seconds)
        idle_w = self.coefficients.package_idle_w.times(cores)
        return Span(*(min(watts, self._lowest_w) for watts in idle_w))

    def _book(self, piece: Slice, *, ours: bool) -> None:
        key = (ours, piece.name, piece.source, piece.grade)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account(piece, ours=ours)
        value_j, low_j, high_j = piece.energy_j
        account.value_j += value_j
        account.low_j += low_j
        account.high_j += high_j
