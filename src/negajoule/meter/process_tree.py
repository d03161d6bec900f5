"""CPU time and memory of a process and everything it starts, on Linux.

A tree's CPU time is that of its root, plus what its reaped children left behind, plus that of its living
descendants. A living process is read through its CPU clock (nanoseconds, one system call); ``/proc`` is
walked only to learn who exists, seldom, and not at all while there are no children. Time once seen never
disappears: when a process vanishes and no living ancestor inherited its time (the system reaped it, or
nobody), what was last seen is kept.

A process that outlives its parent is handed to the nearest ancestor that asked for orphans
(``adopt_orphans``), else to the system; known ones are followed either way.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from negajoule.meter.usage import Usage

if sys.platform != "win32":
    import resource

__all__ = ["ProcessTree", "adopt_orphans", "reap_orphans"]

SCAN_S = 0.05
SCAN_SHARE = 0.01
"""A walk through ``/proc`` is repeated after ``SCAN_S``, or later if it would take a larger share of time."""

TICK_S = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
PR_SET_CHILD_SUBREAPER = 36


class _Seen(NamedTuple):
    """A process as last seen; ``inherited_s`` is what it took over from children it reaped."""

    parent: int
    started: int
    own_s: float
    inherited_s: float

    @property
    def total_s(self) -> float:
        return self.own_s + self.inherited_s


class ProcessTree:
    """A tree on Linux.

    Args:
        root: process number of the root, by default this process.
        only_descendants: leave the root's own CPU time and memory out: for a program that starts another one
            in order to measure it.
    """

    def __init__(self, root: int | None = None, *, only_descendants: bool = False) -> None:
        self._root = os.getpid() if root is None else root
        self._own = self._root == os.getpid()
        self._only_descendants = only_descendants
        self._statm = _open(f"/proc/{self._root}/statm")
        self._root_s = 0.0
        self._inherited_s = 0.0
        self._settled_s = 0.0
        self._lost_s = 0.0
        self._living: dict[int, _Seen] = {}
        self._next_scan_s = float("-inf")
        self._highest_s = 0.0
        self._peak_bytes = 0
        self._read_root()
        self._settled_s = self._inherited_s
        self._tolerance_s = 1e-3 if self._own else 2 * TICK_S

    def read(self) -> Usage:
        """CPU time and memory now; a tree that has ended keeps its last CPU time."""
        inherited_s = self._inherited_s
        self._read_root()
        if self._living or not self._own or _has_children():
            complete = self._refresh()
            started_s = time.monotonic()
            if not complete or started_s >= self._next_scan_s:
                self._scan()
                now_s = time.monotonic()
                self._next_scan_s = now_s + max(SCAN_S, (now_s - started_s) / SCAN_SHARE)
        cpu_s = self._inherited_s + self._lost_s + (0.0 if self._only_descendants else self._root_s)
        for seen in self._living.values():
            cpu_s += seen.own_s + seen.inherited_s
        self._highest_s = max(self._highest_s, cpu_s)
        passing_bytes = self._peak_bytes if self._inherited_s > inherited_s else 0
        return Usage(self._highest_s, *self._memory(), passing_bytes, self._own_peak_bytes())

    def pids(self) -> frozenset[int]:
        """Process numbers seen alive at the last reading."""
        return frozenset(self._living) if self._only_descendants else frozenset((self._root, *self._living))

    def close(self) -> None:
        """Close the root's file."""
        if self._statm >= 0:
            os.close(self._statm)
            self._statm = -1

    def _read_root(self) -> None:
        if self._own:
            self._root_s = time.process_time()
            usage = resource.getrusage(resource.RUSAGE_CHILDREN)
            self._inherited_s = max(self._inherited_s, usage.ru_utime + usage.ru_stime)
            self._peak_bytes = usage.ru_maxrss * 1024
            return
        self._root_s = max(self._root_s, _clock_s(self._root) or 0.0)
        seen = _stat(self._root)
        if seen is not None:
            self._inherited_s = max(self._inherited_s, seen.inherited_s)

    def _refresh(self) -> bool:
        """Read the clocks of those we know; False if somebody has vanished."""
        complete = True
        for pid, seen in self._living.items():
            seconds = _clock_s(pid)
            if seconds is None:
                complete = False
            elif seconds > seen.own_s:
                self._living[pid] = seen._replace(own_s=seconds)
        return complete

    def _scan(self) -> None:
        """Learn who is alive, and settle the accounts of those who aren't."""
        before, found = self._living, {}
        census = _Census()
        waiting = [(pid, True) for pid in census.children(self._root)]
        waiting += [(pid, False) for pid in before]
        while waiting:
            pid, is_child = waiting.pop(0)
            if pid in found or pid == self._root:
                continue
            seen, known = _stat(pid), before.get(pid)
            if seen is None:
                continue
            if known is not None and known.started != seen.started:
                known = None
            if known is None and not is_child:
                continue
            own_s = max(_clock_s(pid) or 0.0, seen.own_s, known.own_s if known else 0.0)
            inherited_s = max(seen.inherited_s, known.inherited_s if known else 0.0)
            found[pid] = _Seen(seen.parent, seen.started, own_s, inherited_s)
            waiting += [(child, True) for child in census.children(pid)]
        self._read_root()
        self._settle(before, found)
        self._living = found

    def _settle(self, before: dict[int, _Seen], found: dict[int, _Seen]) -> None:
        """Keep the time of the vanished that their nearest living ancestor didn't inherit."""
        vanished = {pid: seen for pid, seen in before.items() if found.get(pid, seen).started != seen.started}
        vanished |= {pid: seen for pid, seen in before.items() if pid not in found}
        owed: dict[int, float] = {}
        for seen in vanished.values():
            ancestor = seen.parent
            while ancestor in vanished:
                ancestor = vanished[ancestor].parent
            owed[ancestor] = owed.get(ancestor, 0.0) + seen.total_s
        for ancestor, owed_s in owed.items():
            tolerance_s = 2 * TICK_S
            if ancestor == self._root:
                inherited_s, tolerance_s = self._inherited_s - self._settled_s, self._tolerance_s
            elif ancestor in found and ancestor in before:
                inherited_s = found[ancestor].inherited_s - before[ancestor].inherited_s
            else:
                inherited_s = 0.0
            shortfall_s = owed_s - inherited_s
            if shortfall_s > tolerance_s:
                self._lost_s += shortfall_s
        self._settled_s = self._inherited_s

    def _own_peak_bytes(self) -> int:
        if not self._own or self._only_descendants:
            return 0
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def _memory(self) -> tuple[int, int]:
        total = largest = 0
        if not self._only_descendants:
            total = largest = _resident(self._statm)[0]
        for pid in self._living:
            file = _open(f"/proc/{pid}/statm")
            if file >= 0:
                resident, shared = _resident(file)
                os.close(file)
                total += resident - shared
                largest = max(largest, resident)
        return max(total, largest), largest


def adopt_orphans() -> bool:
    """Ask the system to hand orphaned descendants to this process; False where that isn't possible.

    The caller must then collect them (``reap_orphans``), or they stay as zombies until it ends.
    """
    import ctypes  # slow to import, and only needed by those who start commands

    try:
        return ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0  # type: ignore[no-any-return]
    except (OSError, AttributeError):
        return False


def reap_orphans(keep: int) -> int:
    """Collect adopted processes that have ended, all but one that somebody else waits for.

    Args:
        keep: process number to leave alone.

    Returns:
        How many of our children, ``keep`` aside, still live.
    """
    alive = 0
    for pid in _Census().children(os.getpid()):
        if pid == keep:
            continue
        try:
            alive += os.waitpid(pid, os.WNOHANG)[0] == 0
        except ChildProcessError:
            continue
    return alive


class _Census:
    """Who is whose child, by the kernel's list for each thread or else by everybody's parent."""

    def __init__(self) -> None:
        self._by_parent: dict[int, list[int]] | None = None

    def children(self, pid: int) -> list[int]:
        try:
            threads = [entry.name for entry in os.scandir(f"/proc/{pid}/task")]
        except OSError:
            return []
        numbers: list[int] = []
        try:
            for thread in threads:
                numbers += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_bytes().split())
        except FileNotFoundError:
            return self._parents().get(pid, [])
        except OSError:
            return numbers
        return numbers

    def _parents(self) -> dict[int, list[int]]:
        if self._by_parent is None:
            self._by_parent = {}
            for entry in os.scandir("/proc"):
                seen = _stat(int(entry.name)) if entry.name.isdigit() else None
                if seen is not None:
                    self._by_parent.setdefault(seen.parent, []).append(int(entry.name))
        return self._by_parent


def _has_children() -> bool:
    """Whether this process has any child, living or not yet collected; about 2 us."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _clock_s(pid: int) -> float | None:
    """CPU time of another process by its clock; the id is made as ``clock_getcpuclockid(3)`` makes it."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return None


def _stat(pid: int) -> _Seen | None:
    """Fields 4, 14 to 17 and 22 of ``/proc/PID/stat``, see proc(5)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    user, system, children_user, children_system = map(int, fields[11:15])
    return _Seen(
        parent=int(fields[1]),
        started=int(fields[19]),
        own_s=(user + system) * TICK_S,
        inherited_s=(children_user + children_system) * TICK_S,
    )


def _resident(file: int) -> tuple[int, int]:
    """Resident and file-shared bytes from an open ``statm``; zeros once the process is gone."""
    try:
        fields = os.pread(file, 128, 0).split()
        return int(fields[1]) * PAGE_BYTES, int(fields[2]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0, 0


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
