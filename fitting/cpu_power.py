"""Watts per core and per gigabyte of servers, fitted from published SPECpower_ssj2008 results.

    python fitting/cpu_power.py --data ../shared/data [--check]

Reads ``hardware/specpower_2026-03-09.csv`` (AC watts of whole servers at 100 % load and at active idle) and
``hardware/cpu_load_vs_rapl_codecarbon.csv`` (package watts of four CPUs over load); writes ``cpu.core.csv``,
``cpu.architecture.csv`` and ``memory.csv``. A server is split so that nothing is counted twice:

    AC power = idle per core x cores + W/GB x memory + active per core x busy cores

Method and findings: ``docs/design/catalog.md``.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from catalog_files import Row, arguments, fingerprint, settle

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from negajoule.catalog.processors import architecture_of, cpu_tdp

FIRST_YEAR = 2018  # for the rows of all servers: about the age of what data centres run
FIRST_YEAR_OF_ARCHITECTURES = 2012
FEWEST_SERVERS = 5
LEAST_GB_PER_CORE = 0.5  # below it the source has lost a thousands separator: "1" stands for 1,024
SOURCE = "SPEC SPECpower_ssj2008 results to 2026-03, compiled by Cloud Carbon Footprint (b0032d9)"
LICENCE = "Apache-2.0 (compilation); SPEC fair use"


class Server(NamedTuple):
    """One published result."""

    cpu: str
    vendor: str
    full_w: float
    idle_w: float
    cores: int
    chips: int
    memory_gb: float
    year: int

    @property
    def memory_is_credible(self) -> bool:
        """Whether the memory was read whole."""
        return self.memory_gb >= LEAST_GB_PER_CORE * self.cores


def read_servers(path: Path) -> list[Server]:
    """All published results."""
    with path.open(encoding="utf-8", newline="") as stream:
        return [
            Server(
                row["CPU Description"].strip(" ,"),
                row["Hardware Vendor"],
                float(row["avg. watts @ 100%"]),
                float(row["avg. watts @ active idle"]),
                int(row["# Cores"]),
                int(row["Chips"]),
                float(row["Total Memory (GB)"]),
                int(row["Published"][-4:]),
            )
            for row in csv.DictReader(stream)
        ]


def light_load_factor(path: Path) -> float:
    """Median, over all points up to 30 % load, of W per unit of load relative to full load.

    A package wakes with its first core, so the first busy cores cost more than the last.
    """
    sweeps: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            sweeps[row["cpu_dir"], row["mode"]].append(
                (float(row["cpu_load"]) / 100, float(row["rapl_power"]))
            )
    factors = []
    for (cpu, mode), points in sorted(sweeps.items()):
        points.sort()
        idle_w, full_w = points[0][1], points[-1][1]
        factors += [(w - idle_w) / (u * (full_w - idle_w)) for u, w in points[1:] if u <= 0.3]
        print(f"  {cpu:18} {mode:10} package {idle_w:5.1f} W idle, {full_w:5.1f} W full")
    low, median, high = np.percentile(factors, [5, 50, 95])
    print(f"  light-load factor {median:.2f} (5 % {low:.2f}, 95 % {high:.2f}, {len(factors)} points)")
    return float(median)


def memory_w_per_gb(servers: list[Server]) -> tuple[float, float, float]:
    """Standing power of memory: (value, low, high) [W/GB].

    Value: median over pairs of results of one vendor, CPU and number of chips whose memory differs. Low: the
    coefficient of a robust regression of idle watts. High: the upper 95 % of that of full-load watts, memory
    under traffic.
    """
    usable = [s for s in servers if s.memory_is_credible and s.cores >= 16]
    counts: dict[str, int] = defaultdict(int)
    for server in usable:
        counts[architecture_of(server.cpu) or ""] += 1
    groups = sorted(name for name, count in counts.items() if name and count >= 8)
    usable = [s for s in usable if architecture_of(s.cpu) in groups]
    # Per core: chips, a constant of each architecture, gigabytes.
    matrix = np.array(
        [
            [s.chips / s.cores, *(float(architecture_of(s.cpu) == g) for g in groups), s.memory_gb / s.cores]
            for s in usable
        ]
    )
    rng = np.random.default_rng(2026)
    draws = [rng.integers(0, len(usable), len(usable)) for _ in range(200)]
    estimates = {}
    for name in ("idle_w", "full_w"):
        watts = np.array([getattr(s, name) / s.cores for s in usable])
        fits = [robust_fit(matrix[draw], watts[draw])[-1] for draw in draws]
        estimates[name] = (robust_fit(matrix, watts)[-1], *np.percentile(fits, [5, 95]))
        value, low, high = estimates[name]
        print(
            f"  regression of {name}: {value:.3f} W/GB (90 % {low:.3f} to {high:.3f}), {len(usable)} servers"
        )
    slopes = memory_slopes(usable)
    print(f"  pairs: median {np.median(slopes):.3f} W/GB at idle, {len(slopes)} pairs")
    return float(np.median(slopes)), float(estimates["idle_w"][0]), float(estimates["full_w"][2])


def memory_slopes(servers: list[Server]) -> list[float]:
    """Idle watts per gigabyte between results that differ in memory only [W/GB]."""
    twins: dict[tuple[str, str, int], list[Server]] = defaultdict(list)
    for server in servers:
        twins[server.cpu, server.vendor, server.chips].append(server)
    return [
        (a.idle_w - b.idle_w) / (a.memory_gb - b.memory_gb)
        for group in twins.values()
        for i, a in enumerate(group)
        for b in group[:i]
        if abs(a.memory_gb - b.memory_gb) >= 64
    ]


def robust_fit(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Huber regression by reweighted least squares (k = 1.345)."""
    weights = np.ones(len(target))
    for _ in range(30):
        root = np.sqrt(weights)
        solution = np.linalg.lstsq(matrix * root[:, None], target * root, rcond=None)[0]
        residual = target - matrix @ solution
        scale = 1.4826 * np.median(np.abs(residual)) + 1e-12
        weights = 1 / np.maximum(1, np.abs(residual) / (1.345 * scale))
    return solution


def print_tdp_share(servers: list[Server]) -> None:
    """Print AC watts above idle at full load as a share of the processors' TDP."""
    listed = [(s, tdp.value * s.chips) for s in servers if (tdp := cpu_tdp(s.cpu)) is not None]
    low, median, high = np.percentile([(s.full_w - s.idle_w) / tdp for s, tdp in listed], [5, 50, 95])
    print(f"  above idle / TDP: {median:.2f} ({low:.2f} to {high:.2f}), {len(listed)} servers")


def core_rows(start: str, servers: list[Server], w_per_gb: float, light: float, what: str) -> list[Row]:
    """Rows of active and idle power per core, 5 % to 95 % over the servers."""
    active = [(s.full_w - s.idle_w) / s.cores for s in servers]
    idle = [(s.idle_w - w_per_gb * s.memory_gb) / s.cores for s in servers if s.memory_is_credible]
    low, median, high = (float(number) for number in np.percentile(active, [5, 50, 95]))
    idle_low, idle_median, idle_high = (float(number) for number in np.percentile(idle, [5, 50, 95]))
    newest = max(s.year for s in servers)
    about = f"{what}; {len(servers)} servers {min(s.year for s in servers)}-{newest}; 5-95 %"
    return [
        Row(
            f"{start}.active_power",
            median,
            low,
            max(high, light * median),
            "W/core",
            newest,
            SOURCE,
            LICENCE,
            f"AC watts above idle per busy core; {about}, high at least median x {light:.2f} (light load)",
        ),
        Row(
            f"{start}.idle_power",
            idle_median,
            max(idle_low, 0.0),
            idle_high,
            "W/core",
            newest,
            SOURCE,
            LICENCE,
            f"AC watts of the idle server without its memory, per core; {about}",
        ),
    ]


def main() -> None:
    """Fit, print and write."""
    data, check = arguments("Fit watts per core and per gigabyte of servers.")
    source = data / "hardware/specpower_2026-03-09.csv"
    sweep = data / "hardware/cpu_load_vs_rapl_codecarbon.csv"
    digest, sweep_digest = fingerprint(source), fingerprint(sweep)
    servers = read_servers(source)
    recent = [s for s in servers if s.year >= FIRST_YEAR]
    light = light_load_factor(sweep)
    print_tdp_share(recent)
    w_per_gb, memory_low, memory_high = memory_w_per_gb(recent)

    generic = core_rows("cpu.core", recent, w_per_gb, light, f"all servers, data sha256 {digest}")
    groups: dict[str, list[Server]] = defaultdict(list)
    for server in servers:
        name = architecture_of(server.cpu)
        if name and server.year >= FIRST_YEAR_OF_ARCHITECTURES:
            groups[name].append(server)
    for maker in ("epyc", "xeon"):
        groups[maker] = [
            s for s in recent if maker in s.cpu.lower() and architecture_of(s.cpu) not in (None, "desktop")
        ]
    by_architecture = [
        row
        for name, members in sorted(groups.items())
        if len(members) >= FEWEST_SERVERS
        for row in core_rows(f"cpu.architecture.{name}.core", members, w_per_gb, light, name)
    ]
    for row in (*generic, *by_architecture):
        print(f"  {row.key:50} {row.value:6.2f} ({row.low:.2f} to {row.high:.2f})  {row.note.split(';')[2]}")
    memory = Row(
        "memory.power",
        w_per_gb,
        memory_low,
        memory_high,
        "W/GB",
        max(s.year for s in servers),
        SOURCE,
        LICENCE,
        f"standing power of server DRAM at the plug; data sha256 {digest}; value: pairs of like servers, low:"
        " regression at idle, high: upper 95 % at full load (traffic)",
    )
    print(f"sweep sha256 {sweep_digest} gives the light-load factor")
    settle(
        {"cpu.core.csv": generic, "cpu.architecture.csv": by_architecture, "memory.csv": [memory]},
        check=check,
    )


if __name__ == "__main__":
    main()
