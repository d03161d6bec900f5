"""The machine we run on: processor, memory, limits of our container, identity."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import msgspec

from negajoule.fingerprint import fingerprint
from negajoule.meter.kernel_files import read_number, read_text

__all__ = ["Host", "cgroup_limits", "read_host"]

FIRST_PID_NAMESPACE = "pid:[4026531836]"
"""The kernel's fixed inode of the first process namespace; any other means a container."""

MACHINES_OF_HYPERVISORS = (
    "kvm",
    "qemu",
    "vmware",
    "virtual machine",
    "xen",
    "google compute engine",
    "hvm domu",
)


class Host(msgspec.Struct, frozen=True):
    """What attribution must know of the machine.

    Attributes:
        cpu: the processor's name as the system gives it, empty if it gives none.
        family: CPU family by CPUID, ``None`` off x86.
        model: model by CPUID, ``None`` off x86.
        threads: hardware threads, or virtual processors of a virtual machine.
        threads_per_core: hardware threads that share a core, as the system says; a virtual machine may not
            know.
        memory_bytes: memory of the machine [B].
        virtual: whether this is a virtual machine, ``None`` if that can't be told.
        affinity: threads that this process may run on.
        quota_cpus: the container's processor limit in threads, ``None`` without one.
        memory_limit_bytes: the container's memory limit, ``None`` without one [B].
        first_pid_namespace: whether process numbers are the host's own.
        host_id: a hash of the machine's id, stable and not reversible; empty if there's none.
        boot_id: changes with every boot; empty if the system has none.
    """

    cpu: str
    family: int | None
    model: int | None
    threads: int
    threads_per_core: int
    memory_bytes: int
    virtual: bool | None
    affinity: int
    quota_cpus: float | None
    memory_limit_bytes: int | None
    first_pid_namespace: bool
    host_id: str
    boot_id: str

    @property
    def physical_cores(self) -> float:
        """Cores as far as the system says; half a core is possible only by a wrong table."""
        return self.threads / self.threads_per_core

    @property
    def reserved_threads(self) -> float:
        """Threads set aside for us: the tightest of quota, affinity and the machine itself."""
        return min(float(self.threads), float(self.affinity), self.quota_cpus or float("inf"))

    @property
    def reservation_is_explicit(self) -> bool:
        """Whether someone set a limit; without one the whole machine is only presumed to be ours."""
        return self.reserved_threads < self.threads


def read_host(root: Path = Path("/")) -> Host:
    """Look the machine up; what can't be found is left empty, nothing is raised.

    Args:
        root: where the file system starts; a fake tree in tests.
    """
    fields = _cpuinfo(root)
    threads = os.cpu_count() or 1
    quota_cpus, memory_limit = cgroup_limits(root)
    memory = _memory_bytes(root)
    if memory_limit is not None and memory and memory_limit >= memory:
        memory_limit = None
    return Host(
        cpu=fields.get("model name") or _board(root) or platform.processor() or platform.machine(),
        family=_number(fields.get("cpu family", "")),
        model=_number(fields.get("model", "")),
        threads=threads,
        threads_per_core=_threads_per_core(root, fields),
        memory_bytes=memory,
        virtual=_virtual(root, fields),
        affinity=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else threads,
        quota_cpus=quota_cpus,
        memory_limit_bytes=memory_limit,
        first_pid_namespace=_namespace(root) in (FIRST_PID_NAMESPACE, ""),
        host_id=_host_id(root),
        boot_id=read_text(root / "proc/sys/kernel/random/boot_id") or _boot_time(),
    )


def cgroup_limits(root: Path = Path("/")) -> tuple[float | None, int | None]:
    """Processor limit [threads] and memory limit [B] of our control group and all above it; v1 and v2."""
    quotas: list[float] = []
    memories: list[int] = []
    mount = root / "sys/fs/cgroup"
    for line in read_text(root / "proc/self/cgroup", 65536).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        names = controllers.split(",")
        if controllers == "":
            for folder in _upwards(mount, path):
                quota, _, period = read_text(folder / "cpu.max").partition(" ")
                if quota.isdigit() and period.isdigit() and int(period) > 0:
                    quotas.append(int(quota) / int(period))
                memories += _limit(folder / "memory.max")
        elif "cpu" in names:
            for folder in _upwards(_mounted(mount, controllers, "cpu"), path):
                quota_us = read_number(folder / "cpu.cfs_quota_us")
                period_us = read_number(folder / "cpu.cfs_period_us")
                if quota_us and period_us:
                    quotas.append(quota_us / period_us)
        elif "memory" in names:
            for folder in _upwards(_mounted(mount, controllers, "memory"), path):
                memories += _limit(folder / "memory.limit_in_bytes")
    return min(quotas, default=None), min(memories, default=None)


def _mounted(mount: Path, controllers: str, name: str) -> Path:
    joint = mount / controllers
    return joint if joint.is_dir() else mount / name


def _upwards(mount: Path, path: str) -> list[Path]:
    """The group's folder and those above it; in a container the path may be the host's."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _cpuinfo(root: Path) -> dict[str, str]:
    block = read_text(root / "proc/cpuinfo", 8192).split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _threads_per_core(root: Path, fields: dict[str, str]) -> int:
    siblings, cores = fields.get("siblings", ""), fields.get("cpu cores", "")
    if siblings.isdigit() and cores.isdigit() and int(cores) > 0:
        return max(1, round(int(siblings) / int(cores)))
    shared = read_text(root / "sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
    if shared:
        return max(1, len(_expand(shared)))
    return 1


def _expand(ranges: str) -> list[int]:
    """``0-1,4`` as numbers."""
    numbers: list[int] = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            numbers += range(int(first), int(last if last.isdigit() else first) + 1)
    return numbers


def _memory_bytes(root: Path) -> int:
    for line in read_text(root / "proc/meminfo", 512).splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    import psutil  # slow to import, and needed only where there's no /proc

    return int(psutil.virtual_memory().total)


def _virtual(root: Path, fields: dict[str, str]) -> bool | None:
    if "flags" in fields:
        return "hypervisor" in fields["flags"].split()
    names = [read_text(root / "sys/class/dmi/id" / name).lower() for name in ("sys_vendor", "product_name")]
    if any(known in name for known in MACHINES_OF_HYPERVISORS for name in names):
        return True
    return False if any(names) else None


def _board(root: Path) -> str:
    return read_text(root / "sys/firmware/devicetree/base/model").rstrip("\0")


def _namespace(root: Path) -> str:
    try:
        return str((root / "proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _host_id(root: Path) -> str:
    identity = (
        read_text(root / "etc/machine-id") or read_text(root / "var/lib/dbus/machine-id") or platform.node()
    )
    return fingerprint(f"negajoule {identity}".encode(), 8) if identity else ""


def _boot_time() -> str:
    """Systems without a boot id: the minute of the boot."""
    clock = getattr(time, "CLOCK_BOOTTIME", None) or getattr(time, "CLOCK_UPTIME_RAW", None)
    if clock is None:
        return ""
    return f"minute {round((time.time() - time.clock_gettime(clock)) / 60)}"


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _limit(path: Path) -> list[int]:
    limit = read_number(path)
    return [] if limit is None else [limit]
