"""Fake file trees and instruments for the tests of this room; nothing here measures anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.meter.host import Host
from negajoule.meter.model import Coefficients, Span
from negajoule.meter.probe import Reading
from negajoule.meter.usage import Usage

if TYPE_CHECKING:
    from pathlib import Path

CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 106
model name\t: Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz
siblings\t: 64
cpu cores\t: 32
flags\t\t: fpu vme {extra}

processor\t: 1
"""


def write(root: Path, path: str, text: object) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")
    return file


class Powercap:
    """A powercap tree whose counters are set in joules."""

    def __init__(self, root: Path, *, wrap_j: float = 262_143.0) -> None:
        self.root, self.wrap_j = root, wrap_j

    def zone(self, number: str, name: str, energy_j: float = 0.0, *, kind: str = "intel-rapl") -> Path:
        folder = f"sys/class/powercap/{kind}:{number}"
        write(self.root, f"{folder}/name", name)
        write(self.root, f"{folder}/max_energy_range_uj", int(self.wrap_j * 1e6))
        return write(self.root, f"{folder}/energy_uj", int(energy_j * 1e6))

    def set(self, number: str, energy_j: float) -> None:
        (self.root / f"sys/class/powercap/intel-rapl:{number}/energy_uj").write_text(
            f"{int(energy_j * 1e6)}\n"
        )

    def two_sockets(self) -> None:
        """The tree on which peers were tested: packages, DRAM, cores and psys on two sockets."""
        self.zone("0", "package-0", 1000)
        self.zone("0:0", "core", 700)
        self.zone("0:1", "dram", 200)
        self.zone("1", "package-1", 2000)
        self.zone("1:0", "dram", 300)
        self.zone("2", "psys", 5000)


class Clock:
    """A clock that is moved by hand [s]."""

    def __init__(self, start_s: float = 1000.0) -> None:
        self.now_s = start_s

    def __call__(self) -> float:
        return self.now_s

    def forward(self, seconds: float) -> None:
        self.now_s += seconds


class ScriptedProbe:
    """A fake instrument: domains whose energies the test sets."""

    def __init__(self, name: str = "fake", heartbeat_s: float | None = None, **components: str) -> None:
        self.name, self.heartbeat_s = name, heartbeat_s
        self.components = components
        self.energy_j = dict.fromkeys(components, 0.0)
        self.closed = False
        self.broken = False

    def read(self) -> tuple[Reading, ...]:
        if self.broken:
            raise RuntimeError("the fake is broken")
        return tuple(
            Reading(domain, self.energy_j[domain], None, f"{self.name} {domain}", "A", component)
            for domain, component in self.components.items()
        )

    def close(self) -> None:
        self.closed = True


class ScriptedTree:
    """A fake process tree whose usage the test sets."""

    def __init__(self, cpu_s: float = 0.0, resident_bytes: int = 0) -> None:
        self.cpu_s, self.resident_bytes, self.passing_bytes = cpu_s, resident_bytes, 0

    def read(self) -> Usage:
        return Usage(self.cpu_s, self.resident_bytes, self.resident_bytes, self.passing_bytes)

    def pids(self) -> frozenset[int]:
        return frozenset({1})

    def close(self) -> None:
        pass


class ScriptedMachine:
    """A fake machine clock whose busy time the test sets."""

    def __init__(self, busy_s: float = 0.0) -> None:
        self.busy_s = busy_s

    def cpu_s(self) -> float:
        return self.busy_s

    def close(self) -> None:
        pass


def host(**changes: object) -> Host:
    """A server with 32 cores of two threads and 256 GB."""
    fields: dict[str, object] = {
        "cpu": "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz",
        "family": 6,
        "model": 106,
        "threads": 64,
        "threads_per_core": 2,
        "memory_bytes": 256 * 10**9,
        "virtual": False,
        "affinity": 64,
        "quota_cpus": None,
        "memory_limit_bytes": None,
        "first_pid_namespace": True,
        "host_id": "0123456789abcdef",
        "boot_id": "boot",
    }
    return Host(**(fields | changes))


def coefficients(**changes: object) -> Coefficients:
    """Round numbers: a busy core 4 W (3 to 5), an idle one 2 W (1 to 3) of which a package sees half."""
    fields: dict[str, object] = {
        "active_w": Span(4.0, 3.0, 5.0),
        "idle_w": Span(2.0, 1.0, 3.0),
        "package_idle_w": Span(1.0, 0.5, 1.5),
        "memory_w_per_byte": Span(0.3e-9, 0.2e-9, 0.4e-9),
        "cores_per_busy_thread": Span(0.75, 0.5, 1.0),
        "cores_per_reserved_thread": Span(0.5, 0.5, 0.5),
        "active_grade": "D",
        "idle_grade": "D",
        "active_source": "cpu.core.active_power",
        "idle_source": "cpu.core.idle_power",
    }
    return Coefficients(**(fields | changes))
