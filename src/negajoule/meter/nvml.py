"""NVIDIA GPUs through NVML: the energy counter first, power where a board has none.

Volta and later count energy in mJ since the driver was loaded. The counter and the power sensor may disagree
(187 against 327 J in five idle seconds, ml-energy/zeus#181), so both are read: the counter is the value, and
where samples are close enough to integrate, the sensor's integral widens the interval and a gap names the
difference. With MIG on, NVML gives one figure for the whole board; the source says so.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from negajoule.catalog import lookup
from negajoule.errors import ExtraMissingError
from negajoule.extras import require
from negajoule.meter.probe import Capability, Gap, Reading
from negajoule.meter.track import CounterTrack, PowerTrack

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

__all__ = ["NvmlProbe", "nvml_capability", "nvml_present"]

PERIOD_S = 1.0
MIN_COMPARED_J = 5.0
OVERSHOOT = 2.0
"""Short peaks exceed the power limit; above this multiple a value is an error, not a peak."""


def nvml_present(root: Path) -> bool:
    """Whether an NVIDIA driver is loaded; asked before the binding is imported, which costs time."""
    return any((root / path).exists() for path in ("dev/nvidiactl", "proc/driver/nvidia", "dev/dxg"))


def nvml_capability(root: Path) -> Capability:
    """What NVML can do here, and the line that would let it."""
    if not nvml_present(root):
        return Capability("nvml", "absent", "no NVIDIA driver is loaded")
    try:
        probe = NvmlProbe()
    except ExtraMissingError as error:
        return Capability("nvml", "unreadable", "an NVIDIA driver, but no binding", error.fix)
    except Exception as error:
        return Capability("nvml", "unreadable", f"NVML can't start: {error}", "nvidia-smi")
    try:
        found = probe.describe()
    finally:
        probe.close()
    if not found:
        return Capability("nvml", "absent", "the driver shows no GPU")
    grade = "A" if all("counter" in text for text in found) else "B"
    return Capability("nvml", "ready", "; ".join(found), grade=grade)


class NvmlProbe:
    """Reads all boards.

    Args:
        clock: monotonic clock [s].
        binding: the module ``pynvml`` or a stand-in with its surface.

    Raises:
        ExtraMissingError: if the binding isn't installed.
    """

    name = "nvml"

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        binding: Any = None,  # noqa: ANN401 (an untyped module)
    ) -> None:
        self._nvml = binding or require("pynvml", extra="gpu", purpose="read NVIDIA GPUs")
        self._clock = clock
        self.heartbeat_s: float | None = PERIOD_S
        self._nvml.nvmlInit()
        count = self._nvml.nvmlDeviceGetCount()
        self._boards = [_Board(self._nvml, index) for index in range(count)]
        self.read()

    def read(self) -> tuple[Reading, ...]:
        """Read all boards; never raises."""
        now_s = self._clock()
        return tuple(board.read(now_s) for board in self._boards)

    def describe(self) -> list[str]:
        """One phrase a board, for ``doctor``."""
        return [board.description for board in self._boards]

    def uuids(self) -> dict[str, str]:
        """Domain to the board's UUID, for telling ranks apart."""
        return {board.domain: board.uuid for board in self._boards}

    def shares(self, pids: Collection[int], *, numbers_match: bool) -> dict[str, tuple[float, float, float]]:
        """Which part of each board some processes use: value, low, high [1].

        By SM utilisation where NVML gives it, else by memory held; a board that nobody else uses is all
        theirs.

        Args:
            pids: the processes.
            numbers_match: whether process numbers here are the driver's. In a container they aren't: then its
                boards count as its own, with nothing as the lower bound.
        """
        mine = frozenset(pids) if numbers_match else None
        return {board.domain: board.share(mine) for board in self._boards}

    def close(self) -> None:
        """Shut the library down."""
        self._nvml.nvmlShutdown()


class _Board:
    def __init__(self, nvml: Any, index: int) -> None:  # noqa: ANN401
        self._nvml = nvml
        self.domain = f"gpu {index}"
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self.uuid = str(_asked(nvml.nvmlDeviceGetUUID, self._handle) or f"index {index}")
        self._model = str(_asked(nvml.nvmlDeviceGetName, self._handle) or "GPU")
        limit_mw = _asked(nvml.nvmlDeviceGetEnforcedPowerLimit, self._handle)
        ceiling_w = OVERSHOOT * (limit_mw / 1e3 if limit_mw else lookup("meter.ceiling.gpu").value)
        mig = _asked(nvml.nvmlDeviceGetMigMode, self._handle)
        self._mig = bool(mig and mig[0])
        counts = _asked(nvml.nvmlDeviceGetTotalEnergyConsumption, self._handle) is not None
        accuracy = lookup("meter.accuracy.nvml").value
        self._counter = CounterTrack(self.domain, ceiling_w=ceiling_w, accuracy=accuracy) if counts else None
        self._power = PowerTrack(self.domain, ceiling_w=ceiling_w, accuracy=accuracy, period_s=PERIOD_S)
        self._compared = [0.0, 0.0]
        self._widen_low_j = 0.0
        self._widen_high_j = 0.0

    @property
    def description(self) -> str:
        how = "energy counter" if self._counter else "power sampling"
        return f"{self.domain} {self._model}: {how}" + (", MIG on: whole board only" if self._mig else "")

    def read(self, now_s: float) -> Reading:
        milliwatts = _asked(self._nvml.nvmlDeviceGetPowerUsage, self._handle)
        power_w = None if milliwatts is None else milliwatts / 1e3
        counter, power = self._counter, self._power
        sampled_j = power.energy_j
        power.advance(power_w, now_s)
        sampled_j = power.energy_j - sampled_j
        track: CounterTrack | PowerTrack = power
        gap = power.gap
        if counter is not None:
            counted_j = counter.energy_j
            raw_mj = _asked(self._nvml.nvmlDeviceGetTotalEnergyConsumption, self._handle)
            counter.advance(None if raw_mj is None else raw_mj / 1e3, now_s)
            track, gap = counter, counter.gap
            if not counter.bridging and not power.bridging:
                gap = self._compare(counter.energy_j - counted_j, sampled_j, now_s) or gap
        whole = " (whole board, MIG on)" if self._mig else ""
        return Reading(
            domain=self.domain,
            energy_j=track.energy_j,
            power_w=power_w,
            source=f"nvml {self.domain} {'counter' if counter else 'power'}{whole}",
            grade="E" if track.bridging else "A" if counter else "B",
            component="gpu",
            low_j=track.low_j - self._widen_low_j,
            high_j=track.high_j + self._widen_high_j,
            gap=gap,
        )

    def _compare(self, counted_j: float, sampled_j: float, now_s: float) -> Gap | None:
        """Widen by what the sensor's integral differs from the counter, judged over joules enough to tell."""
        compared = self._compared
        compared[0] += counted_j
        compared[1] += sampled_j
        if min(compared) < MIN_COMPARED_J:
            return None
        counted_j, sampled_j = compared
        self._compared = [0.0, 0.0]
        difference_j = sampled_j - counted_j
        tolerance = 2 * self._power.accuracy
        if abs(difference_j) <= tolerance * max(counted_j, sampled_j):
            return None
        if difference_j > 0:
            self._widen_high_j += difference_j
        else:
            self._widen_low_j -= difference_j
        return Gap(
            "disagreement",
            self.domain,
            now_s,
            now_s,
            f"the counter says {counted_j:.0f} J, the power sensor {sampled_j:.0f} J",
        )

    def share(self, mine: frozenset[int] | None) -> tuple[float, float, float]:
        nvml, handle = self._nvml, self._handle
        if mine is None:
            return (1.0, 0.0, 1.0)
        processes = _asked(nvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
        held = {process.pid: process.usedGpuMemory or 0 for process in processes}
        others = held.keys() - mine
        if not others:
            return (1.0, 1.0, 1.0) if held else (0.0, 0.0, 1.0)
        if not held.keys() & mine:
            return (0.0, 0.0, 0.0)
        by_memory = sum(held[pid] for pid in held.keys() & mine) / max(sum(held.values()), 1)
        samples = _asked(nvml.nvmlDeviceGetProcessUtilization, handle, 0) or []
        busy = sum(sample.smUtil for sample in samples)
        if self._mig or not busy:
            return (by_memory, 0.0, 1.0)
        by_use = sum(sample.smUtil for sample in samples if sample.pid in mine) / busy
        return (by_use, min(by_use, by_memory), max(by_use, by_memory))


def _asked(function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401
    """Ask the binding; whatever it raises (not supported, GPU lost, no permission) means no answer."""
    try:
        return function(*arguments)
    except Exception:
        return None
