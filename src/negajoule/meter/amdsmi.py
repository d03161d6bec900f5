"""AMD GPUs through AMD SMI: the accumulator first, socket power as check and stand-in.

The accumulator counts in steps of ``counter_resolution`` microjoules; older versions call it ``power``.
Boards of two dies (MI250) report the whole board on the even die and nothing on the odd one, which is
therefore shown and not counted. Values a driver doesn't have come as the text ``N/A``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from negajoule.catalog import lookup
from negajoule.errors import ExtraMissingError
from negajoule.extras import require
from negajoule.meter.board import Board, Sensors
from negajoule.meter.probe import Capability, Component, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["AmdProbe", "amd_capability"]

PERIOD_S = 1.0
OVERSHOOT = 2.0
"""Short peaks exceed the power cap; above this multiple a value is an error, not a peak."""
TWO_DIES = ("MI250",)


def amd_capability() -> Capability:
    """What AMD SMI can do on a machine with AMD's compute driver, and the line that would let it."""
    try:
        probe = AmdProbe()
    except ExtraMissingError as error:
        return Capability("amdsmi", "unreadable", "an AMD driver, but no binding", error.fix)
    except Exception as error:
        fix = "sudo usermod -aG render,video $USER"
        return Capability("amdsmi", "unreadable", f"AMD SMI can't start: {error}", fix)
    try:
        found = probe.describe()
    finally:
        probe.close()
    return Capability("amdsmi", "ready" if found else "absent", "; ".join(found) or "the driver shows no GPU")


class AmdProbe:
    """Reads all boards.

    Args:
        clock: monotonic clock [s].
        binding: the module ``amdsmi`` or a stand-in with its surface.

    Raises:
        ExtraMissingError: if the binding isn't installed.
    """

    name = "amdsmi"

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        binding: Any = None,  # noqa: ANN401 (an untyped module)
    ) -> None:
        self._smi = binding or _binding()
        self._clock = clock
        self.heartbeat_s: float | None = PERIOD_S
        self._smi.amdsmi_init()
        handles = self._smi.amdsmi_get_processor_handles()
        self._gpus = [_Gpu(self._smi, handle, index) for index, handle in enumerate(handles)]
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
        """Which part of each board some processes use, by memory held; arguments as for ``NvmlProbe``."""
        mine = frozenset(pids) if numbers_match else None
        return {gpu.domain: gpu.share(mine) for gpu in self._gpus}

    def close(self) -> None:
        """Shut the library down."""
        self._smi.amdsmi_shut_down()


def _binding() -> Any:  # noqa: ANN401
    """The module that came with the driver: it must fit its version, so no extra of ours installs it."""
    try:
        return require("amdsmi", extra="gpu", purpose="read AMD GPUs")
    except ExtraMissingError as error:
        error.fix = "pip install /opt/rocm/share/amd_smi"
        raise


class _Gpu:
    def __init__(self, smi: Any, handle: Any, index: int) -> None:  # noqa: ANN401
        self._smi, self._handle = smi, handle
        self.domain = f"amd gpu {index}"
        self.uuid = str(_asked(smi.amdsmi_get_gpu_device_uuid, handle) or f"index {index}")
        self._model = str(
            (_asked(smi.amdsmi_get_gpu_asic_info, handle) or {}).get("market_name") or "AMD GPU"
        )
        cap_uw = _number((_asked(smi.amdsmi_get_power_cap_info, handle) or {}).get("power_cap"))
        self._shadow = index % 2 == 1 and any(name in self._model for name in TWO_DIES)
        component: Component = "check" if self._shadow else "gpu"
        self.board = Board(
            self.domain,
            "amdsmi",
            Sensors(
                counter_j=self._counted_j if self._counted_j() is not None else None,
                power_w=self._power_w,
            ),
            component=component,
            ceiling_w=OVERSHOOT * cap_uw / 1e6 if cap_uw else lookup("meter.ceiling.gpu").value,
            accuracy=lookup("meter.accuracy.amdsmi").value,
            period_s=PERIOD_S,
        )

    @property
    def description(self) -> str:
        if self._shadow:
            return f"{self.domain} {self._model}: second die, counted with the first"
        how = "energy counter" if self.board.counts else "power sampling"
        return f"{self.domain} {self._model}: {how}"

    def share(self, mine: frozenset[int] | None) -> tuple[float, float, float]:
        if mine is None:
            return (1.0, 0.0, 1.0)
        listed = _asked(self._smi.amdsmi_get_gpu_process_list, self._handle) or []
        held = {int(item["pid"]): _held_bytes(item) for item in listed if isinstance(item, dict)}
        ours = held.keys() & mine
        if not held.keys() - mine:
            return (1.0, 1.0, 1.0) if held else (0.0, 0.0, 1.0)
        if not ours:
            return (0.0, 0.0, 0.0)
        return (sum(held[pid] for pid in ours) / max(sum(held.values()), 1.0), 0.0, 1.0)

    def _counted_j(self) -> float | None:
        answer = _asked(self._smi.amdsmi_get_energy_count, self._handle) or {}
        steps = _number(answer.get("energy_accumulator", answer.get("power")))
        step_uj = _number(answer.get("counter_resolution"))
        return None if steps is None or step_uj is None else steps * step_uj / 1e6

    def _power_w(self) -> float | None:
        answer = _asked(self._smi.amdsmi_get_power_info, self._handle) or {}
        for name in ("current_socket_power", "average_socket_power", "socket_power"):
            power_w = _number(answer.get(name))
            if power_w is not None:
                return power_w
        return None


def _held_bytes(item: dict[str, Any]) -> float:
    usage = item.get("memory_usage")
    held = usage.get("vram_mem") if isinstance(usage, dict) else item.get("mem")
    return _number(held) or 0.0


def _number(value: object) -> float | None:
    """A number that is one; text such as ``N/A`` isn't."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _asked(function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401
    """Ask the binding; whatever it raises means no answer."""
    try:
        return function(*arguments)
    except Exception:
        return None
