"""Whose CPU time and memory: a process tree's or the whole machine's, the Linux way or through psutil."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple, Protocol

__all__ = ["MachineUsage", "PortableTree", "Tree", "Usage", "tree_of"]


NOT_BUSY = frozenset({"idle", "iowait", "steal", "guest", "guest_nice"})
"""Fields that aren't busy, or that others contain."""


class Usage(NamedTuple):
    """What a tree has used.

    Attributes:
        cpu_s: CPU time since an arbitrary start, user and system; never falls [s].
        resident_bytes: memory held now; what descendants share through files counts once [B].
        resident_low_bytes: the largest single process's, as forked ones may share the rest [B].
        passing_bytes: the most that a process held which ended since the last reading; 0 if none did [B].
        peak_bytes: the most that the root ever held; 0 if that isn't known [B].
    """

    cpu_s: float
    resident_bytes: int
    resident_low_bytes: int
    passing_bytes: int = 0
    peak_bytes: int = 0


class Tree(Protocol):
    """Processes whose CPU time and memory can be asked for."""

    def read(self) -> Usage:
        """Usage now; never raises."""

    def pids(self) -> frozenset[int]:
        """Process numbers seen alive at the last reading."""

    def close(self) -> None:
        """Give back handles."""


def tree_of(root: int | None = None, *, only_descendants: bool = False) -> Tree:
    """The tree of a process, by default this one.

    Args:
        root: process number.
        only_descendants: leave the root itself out: for a program that starts another one to measure it.
    """
    if sys.platform.startswith("linux"):
        from negajoule.meter.process_tree import ProcessTree

        return ProcessTree(root, only_descendants=only_descendants)
    return PortableTree(root, only_descendants=only_descendants)


class PortableTree:
    """A tree where there's no ``/proc``; the time of a process that vanished is kept as last seen."""

    def __init__(self, root: int | None = None, *, only_descendants: bool = False) -> None:
        import psutil

        self._psutil = psutil
        self._root = psutil.Process(root)
        self._only_descendants = only_descendants
        self._cpu_s: dict[tuple[int, float], float] = {}
        self._pids: frozenset[int] = frozenset()

    def read(self) -> Usage:
        """CPU time and memory now."""
        processes = [] if self._only_descendants else [self._root]
        try:
            processes += self._root.children(recursive=True)
        except self._psutil.Error:
            processes = []
        sizes = []
        for process in processes:
            try:
                times = process.cpu_times()
                sizes.append(process.memory_info().rss)
                key = (process.pid, process.create_time())
            except self._psutil.Error:
                continue
            self._cpu_s[key] = max(self._cpu_s.get(key, 0.0), times.user + times.system)
        self._pids = frozenset(process.pid for process in processes)
        return Usage(sum(self._cpu_s.values()), sum(sizes), max(sizes, default=0))

    def pids(self) -> frozenset[int]:
        """Process numbers seen alive at the last reading."""
        return self._pids

    def close(self) -> None:
        """Nothing to give back."""


class MachineUsage:
    """Busy CPU time and used memory of the whole machine.

    Args:
        root: where the file system starts; a fake tree in tests.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._last_s = 0.0
        self._offset_s = 0.0
        try:
            self._file = os.open(root / "proc/stat", os.O_RDONLY)
        except OSError:
            self._file = -1

    def cpu_s(self) -> float:
        """Busy time of all processors since an arbitrary start; never falls [s].

        Counts user, nice, system and interrupts; idle, waiting for disks and time stolen by a hypervisor
        aren't busy (proc(5), line ``cpu``).
        """
        try:
            busy_s = _busy_s(self._file) if self._file >= 0 else _portable_busy_s()
        except (OSError, ValueError, IndexError):
            return self._last_s
        if busy_s + self._offset_s < self._last_s:
            self._offset_s = self._last_s - busy_s
        self._last_s = busy_s + self._offset_s
        return self._last_s

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _busy_s(file: int) -> float:
    fields = os.pread(file, 256, 0).split(b"\n", 1)[0].split()
    user, nice, system, _idle, _iowait, irq, softirq = map(int, fields[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _portable_busy_s() -> float:
    import psutil

    times: dict[str, float] = psutil.cpu_times()._asdict()
    return sum(value for name, value in times.items() if name not in NOT_BUSY)
