"""Fit idle power and power per busy thread on this machine, against a counter or an external meter.

The machine is loaded step by step; in every step power and busy time are read several times, and a straight
line is fitted through the points:

    power = idle + thread x busy threads

Its intervals are Student's at 95 %, widened by the reference's own error and, for the slope, to the steepest
and the flattest step: real machines bend, and a straight line mustn't hide it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from math import pi, sqrt, tan
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING, NamedTuple

from negajoule.catalog import lookup
from negajoule.errors import MeterError
from negajoule.meter.bank import ProbeBank
from negajoule.meter.calibration import Calibration
from negajoule.meter.meter_file import MeterFile
from negajoule.meter.model import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from negajoule.meter.host import Host
    from negajoule.meter.probe import Probe
    from negajoule.meter.usage import MachineUsage

__all__ = ["LoadPoint", "calibrate_machine", "fit_line", "load_steps", "spinning"]

CONFIDENCE = 0.95
POINTS_PER_STEP = 4
COUNTING = """import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000):
        pass
"""
SETTLE_SHARE = 0.2
"""The first part of a step is left out: clocks and fans settle."""


class LoadPoint(NamedTuple):
    """One stretch of a step.

    Attributes:
        step: how many threads were asked to spin.
        busy_threads: how many were busy on average, our own and everybody else's.
        start_s: UTC seconds since 1970 [s].
        end_s: likewise [s].
        counted_w: power by the counters, ``None`` without [W].
    """

    step: int
    busy_threads: float
    start_s: float
    end_s: float
    counted_w: float | None


def calibrate_machine(
    host: Host,
    machine: MachineUsage,
    probes: Sequence[Probe],
    *,
    meter_file: Path | None = None,
    seconds: float = 10.0,
    load: Callable[[int], AbstractContextManager[None]] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    wall: Callable[[], float] = time.time,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Load the machine in steps and fit; takes some five times ``seconds``.

    Args:
        host: the machine.
        machine: its busy time.
        probes: its instruments; packages or a platform among them are the reference.
        meter_file: recording of an external meter, read after the last step; it beats the probes.
        seconds: length of a step [s].
        load: keeps that many threads busy; ``spinning`` by default.
        sleep: how to wait.
        wall: UTC clock [s].
        progress: told the steps done and their number.

    Raises:
        MeterError: (M101) if there is nothing to calibrate against, (M105) if the points make no line.
        ConfigError: (C106) if the meter's file is missing or malformed.
    """
    bank = ProbeBank(probes)
    bank.poll(0.0)
    reference = next((name for name in ("platform", "cpu") if name in bank.components), None)
    if meter_file is None and reference is None:
        raise MeterError(
            "there is nothing to calibrate against",
            code="M101",
            tried="energy counters of this machine; none can be read",
            using="the catalogue's range for machines of this kind",
            fix="record an external meter while this runs and give its file, or see `negajoule doctor`",
        )
    points = load_steps(
        host,
        machine,
        bank,
        reference,
        seconds=seconds,
        load=load or spinning,
        sleep=sleep,
        wall=wall,
        progress=progress,
    )
    if meter_file is not None:
        recorded = MeterFile.read(meter_file)
        watts = [recorded.mean_w(point.start_s, point.end_s) for point in points]
        accuracy, name, boundary = lookup("meter.accuracy.chassis").value, meter_file.name, "machine"
    else:
        watts = [point.counted_w for point in points]
        whole = reference == "platform"
        accuracy = lookup("meter.accuracy.chassis" if whole else "meter.accuracy.rapl").value
        name, boundary = bank.owner(reference or ""), "machine" if whole else "package"
    known = [(point, power) for point, power in zip(points, watts, strict=True) if power is not None]
    if len({point.step for point, _ in known}) < 2:
        raise MeterError(
            f"{name} covers {len(known)} of {len(points)} stretches, of fewer than two load steps",
            code="M105",
            fix="let the recording run from before the start to after the end, with UTC times",
        )
    idle_w, thread_w, residual_w = fit_line(
        [(point.step, point.busy_threads, power) for point, power in known], accuracy=accuracy
    )
    return Calibration(
        host_id=host.host_id,
        cpu=host.cpu,
        created=datetime.fromtimestamp(wall(), UTC).isoformat(timespec="seconds"),
        boundary="package" if boundary == "package" else "machine",
        reference=name,
        idle_w=idle_w,
        thread_w=thread_w,
        residual_w=residual_w,
        points=len(known),
    )


def load_steps(
    host: Host,
    machine: MachineUsage,
    bank: ProbeBank,
    reference: str | None,
    *,
    seconds: float,
    load: Callable[[int], AbstractContextManager[None]],
    sleep: Callable[[float], None],
    wall: Callable[[], float],
    progress: Callable[[int, int], None] | None = None,
) -> list[LoadPoint]:
    """Keep none, a quarter, half, three quarters and all of our threads busy, and read in between.

    Args:
        host: the machine.
        machine: its busy time.
        bank: its instruments.
        reference: the component to add up; ``None`` for none.
        seconds: length of a step [s].
        load: keeps that many threads busy.
        sleep: how to wait.
        wall: UTC clock [s].
        progress: told the steps done and their number.
    """
    threads = max(int(host.reserved_threads), 1)
    steps = sorted({round(threads * quarter / 4) for quarter in range(5)})
    points: list[LoadPoint] = []
    for done, step in enumerate(steps):
        if progress:
            progress(done, len(steps))
        with load(step):
            sleep(seconds * SETTLE_SHARE)
            bank.poll(0.0)
            start_s, busy_s = wall(), machine.cpu_s()
            for _ in range(POINTS_PER_STEP):
                sleep(seconds * (1 - SETTLE_SHARE) / POINTS_PER_STEP)
                counted = [item for item in bank.poll(0.0) if item.component == reference]
                now_s, now_busy_s = wall(), machine.cpu_s()
                span_s = max(now_s - start_s, 1e-9)
                sound = bool(counted) and all(item.grade in ("A", "B") for item in counted)
                watts = sum(item.energy_j.value for item in counted) / span_s if sound else None
                points.append(LoadPoint(step, (now_busy_s - busy_s) / span_s, start_s, now_s, watts))
                start_s, busy_s = now_s, now_busy_s
    if progress:
        progress(len(steps), len(steps))
    return points


@contextmanager
def spinning(threads: int) -> Iterator[None]:
    """Keep that many processors busy with processes that only count, and end if they are orphaned."""
    command = [sys.executable, "-S", "-c", COUNTING, str(os.getpid())]
    workers = [subprocess.Popen(command) for _ in range(threads)]
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.wait()


def fit_line(points: Sequence[tuple[int, float, float]], *, accuracy: float) -> tuple[Span, Span, float]:
    """Least squares through (step, busy threads, watts); idle power, power per thread, residual [W].

    Args:
        points: at least three, from at least two steps.
        accuracy: relative error of the reference [1].

    Raises:
        MeterError: (M105) if load and power don't rise together.
    """
    busy = [point[1] for point in points]
    watts = [point[2] for point in points]
    count, centre, mean_w = len(points), fmean(busy), fmean(watts)
    spread = sum((x - centre) ** 2 for x in busy)
    slope = (
        sum((x - centre) * (y - mean_w) for x, y in zip(busy, watts, strict=True)) / spread if spread else 0.0
    )
    idle = mean_w - slope * centre
    if count < 3 or slope <= 0 or idle < 0:
        raise MeterError(
            f"power doesn't rise with load as it should: {idle:.1f} W idle, {slope:.2f} W a thread, "
            f"{count} points",
            code="M105",
            fix="let nothing else run meanwhile; make sure that the meter is this machine's",
        )
    left = sum((y - idle - slope * x) ** 2 for x, y in zip(busy, watts, strict=True))
    residual_w = sqrt(left / (count - 2))
    quantile = _student(count - 2)
    slope_error = quantile * residual_w / sqrt(spread)
    idle_error = quantile * residual_w * sqrt(1 / count + centre**2 / spread)
    secants = _secants(points)
    return (
        _widened(idle, idle - idle_error, idle + idle_error, accuracy),
        _widened(slope, min([slope - slope_error, *secants]), max([slope + slope_error, *secants]), accuracy),
        residual_w,
    )


def _secants(points: Sequence[tuple[int, float, float]]) -> list[float]:
    """Slopes from the mean of each step to the mean of the next, as far as load rises."""
    means = []
    for step in sorted({point[0] for point in points}):
        own = [point for point in points if point[0] == step]
        means.append((fmean(point[1] for point in own), fmean(point[2] for point in own)))
    return [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(means) if b[0] - a[0] > 0.1]


def _widened(value: float, low: float, high: float, accuracy: float) -> Span:
    return Span(
        value,
        max(min(low, value) - abs(low) * accuracy, 0.0),
        max(high, value) + abs(high) * accuracy,
    )


def _student(freedom: int) -> float:
    """Two-sided quantile of Student's t: exact for 1 and 2, else Hill's series (CACM algorithm 396, 1970)."""
    tail = (1 + CONFIDENCE) / 2
    if freedom == 1:
        return tan(pi * (tail - 0.5))
    if freedom == 2:
        return (2 * tail - 1) * sqrt(2 / (4 * tail * (1 - tail)))
    z = NormalDist().inv_cdf(tail)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
