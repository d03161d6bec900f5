"""How many cores this process may really use: not the machine's count, but its share of it."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["usable_cores"]

_CGROUP_ROOT = Path("/sys/fs/cgroup")


def usable_cores(*, proc: Path = Path("/proc/self/cgroup"), cgroup_root: Path = _CGROUP_ROOT) -> int:
    """Count the cores that this process may keep busy.

    The smallest of: the physical cores (a second thread on a core adds next to nothing to matrix products),
    the affinity mask, and the CPU quota of the process's own control group and of all above it (version 2).

    Args:
        proc: file that names the process's control group.
        cgroup_root: where control groups are mounted.
    """
    import psutil

    limits = [psutil.cpu_count(logical=False) or os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    limits += [max(1, int(quota)) for quota in _quotas(proc, cgroup_root)]
    return min(limits)


def _quotas(proc: Path, cgroup_root: Path) -> list[float]:
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return []
    own = next((line[3:].strip("/") for line in lines if line.startswith("0::")), "")
    group = cgroup_root / own
    quotas = []
    for folder in (group, *group.parents):
        try:
            quota, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            quota = "max"
        if quota != "max":
            quotas.append(int(quota) / int(period))
        if folder == cgroup_root:
            break
    return quotas
