"""NVIDIA GPUs through NVML: the energy counter first, power where a board has none.

Volta and later count energy in mJ since the driver was loaded. The counter and the power sensor may disagree
(187 against 327 J in five idle seconds, ml-energy/zeus#181), so both are read: the counter is the value, and
where samples are close enough to integrate, the sensor's integral widens the interval and a gap names the
difference. With MIG on, NVML gives one figure for the whole board; the source says so.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from negajoule.catalog import lookup
from negajoule.errors import ExtraMissingError
from negajoule.extras import require
from negajoule.meter.board import Board, Sensors
from negajoule.meter.probe import Capability, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["NvmlProbe", "nvml_capability"]

PERIOD_S = 1.0
OVERSHOOT = 2.0
"""Short peaks exceed the power limit; above this multiple a value is an error, not a peak."""


def nvml_capability() -> Capability:
    """What NVML can do on a machine with an NVIDIA driver, and the line that would let it."""
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
        self._gpus = [_Gpu(self._nvml, index) for index in range(count)]
        self.read()

    def read(self) -> tuple[Reading, ...]:
        """Read all boards; never raises."""
        now_s = self._clock()
        return tuple(gpu.board.read(now_s) for gpu in self._gpus)

    def describe(self) -> list[str]:
        """One phrase a board, for ``doctor``."""
        return [gpu.description for gpu in self._gpus]

    def uuids(self) -> dict[str, str]:
        """Domain to the board's UUID, for telling ranks apart."""
        return {gpu.domain: gpu.uuid for gpu in self._gpus}

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
        return {gpu.domain: gpu.share(mine) for gpu in self._gpus}

    def close(self) -> None:
        """Shut the library down."""
        self._nvml.nvmlShutdown()


class _Gpu:
    def __init__(self, nvml: Any, index: int) -> None:  # noqa: ANN401
        self._nvml = nvml
        self.domain = f"gpu {index}"
        self._handle = handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self.uuid = str(_asked(nvml.nvmlDeviceGetUUID, handle) or f"index {index}")
        self._model = str(_asked(nvml.nvmlDeviceGetName, handle) or "GPU")
        limit_mw = _asked(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
        mig = _asked(nvml.nvmlDeviceGetMigMode, handle)
        self._mig = bool(mig and mig[0])
        counts = _asked(nvml.nvmlDeviceGetTotalEnergyConsumption, handle) is not None
        self.board = Board(
            self.domain,
            "nvml",
            Sensors(
                counter_j=partial(_thousandth, nvml.nvmlDeviceGetTotalEnergyConsumption, handle)
                if counts
                else None,
                power_w=partial(_thousandth, nvml.nvmlDeviceGetPowerUsage, handle),
            ),
            ceiling_w=OVERSHOOT * limit_mw / 1e3 if limit_mw else lookup("meter.ceiling.gpu").value,
            accuracy=lookup("meter.accuracy.nvml").value,
            period_s=PERIOD_S,
            remark=" (whole board, MIG on)" if self._mig else "",
        )

    @property
    def description(self) -> str:
        how = "energy counter" if self.board.counts else "power sampling"
        return f"{self.domain} {self._model}: {how}" + (", MIG on: whole board only" if self._mig else "")

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


def _thousandth(function: Callable[..., Any], *arguments: object) -> float | None:
    """NVML counts in thousandths."""
    value = _asked(function, *arguments)
    return None if value is None else value / 1e3


def _asked(function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401
    """Ask the binding; whatever it raises (not supported, GPU lost, no permission) means no answer."""
    try:
        return function(*arguments)
    except Exception:
        return None
