"""Boards through NVML. Changing a limit needs root, or a driver that allows it to others."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from negajoule.errors import MeterError
from negajoule.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["NvmlBoard", "nvml_boards"]


class NvmlBoard:
    """One GPU; errors of NVML become (M106).

    Args:
        binding: the module ``pynvml`` or a stand-in with its surface.
        index: of the GPU.
    """

    def __init__(self, binding: Any, index: int) -> None:  # noqa: ANN401 (an untyped module)
        self._nvml = binding
        self._handle = binding.nvmlDeviceGetHandleByIndex(index)
        self.uuid = _text(self._asked("read its id", binding.nvmlDeviceGetUUID))
        self.title = f"gpu {index} {_text(self._asked('read its name', binding.nvmlDeviceGetName))}"

    def _asked(self, what: str, function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401
        try:
            return function(self._handle, *arguments)
        except self._nvml.NVMLError as error:
            raise MeterError(
                f"NVML can't {what}: {error}", code="M106", fix="run as root, or ask who administers it"
            ) from None

    def power_limit_w(self) -> float:
        """The limit of now [W]."""
        return float(self._asked("read the power limit", self._nvml.nvmlDeviceGetPowerManagementLimit)) / 1e3

    def power_range_w(self) -> tuple[float, float]:
        """Lowest and highest limit it takes [W]."""
        low, high = self._asked(
            "read the range of power limits", self._nvml.nvmlDeviceGetPowerManagementLimitConstraints
        )
        return low / 1e3, high / 1e3

    def clocks_mhz(self) -> tuple[float, ...]:
        """Clocks that it takes, rising [MHz]."""
        memory = self._asked("read its clocks", self._nvml.nvmlDeviceGetSupportedMemoryClocks)
        clocks = self._asked("read its clocks", self._nvml.nvmlDeviceGetSupportedGraphicsClocks, max(memory))
        return tuple(sorted(float(clock) for clock in clocks))

    def set_power_limit(self, power_w: float) -> None:
        """Limit its power [W]."""
        milliwatts = round(power_w * 1e3)
        self._asked("set the power limit", self._nvml.nvmlDeviceSetPowerManagementLimit, milliwatts)

    def lock_clock(self, clock_mhz: float) -> None:
        """Lock the clock of its processors [MHz]."""
        clock = round(clock_mhz)
        self._asked("lock the clock", self._nvml.nvmlDeviceSetGpuLockedClocks, clock, clock)

    def unlock_clock(self) -> None:
        """Let it choose its clock again."""
        self._asked("unlock the clock", self._nvml.nvmlDeviceResetGpuLockedClocks)

    def energy_j(self) -> float | None:
        """Its counter; None without one [J]."""
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
        except self._nvml.NVMLError:
            return None


@contextmanager
def nvml_boards(binding: Any = None) -> Iterator[list[NvmlBoard]]:  # noqa: ANN401 (an untyped module)
    """All GPUs, while the block lasts.

    Raises:
        ExtraMissingError: (X101) without pynvml.
        MeterError: (M106) if NVML can't start or shows no GPU.
    """
    nvml = binding or require("pynvml", extra="gpu", purpose="set clocks and power limits")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise MeterError(f"NVML can't start: {error}", code="M106", fix="an NVIDIA driver") from None
    try:
        boards = [NvmlBoard(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
        if not boards:
            raise MeterError("NVML shows no GPU", code="M106", fix="an NVIDIA GPU on this machine")
        yield boards
    finally:
        nvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
