"""Apple silicon: counters of IOReport through a binding, else ``powermetrics``.

The binding (``zeus-apple-silicon``) needs no rights and gives millijoules since it was opened.
``powermetrics`` needs root and gives estimates of watts; Apple warns that they may be inaccurate.
"""

from __future__ import annotations

import plistlib
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from negajoule.catalog import lookup
from negajoule.errors import ExtraMissingError
from negajoule.extras import require
from negajoule.meter.board import Board, Sensors
from negajoule.meter.probe import Capability, Component, Reading
from negajoule.meter.sampler import SampledProbe

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AppleProbe", "apple_capability", "powermetrics_probe", "powermetrics_watts"]

PERIOD_S = 2.0
TIMEOUT_S = 10.0
COMMAND = (
    "sudo",
    "-n",
    "powermetrics",
    "-n",
    "1",
    "-i",
    "1000",
    "-f",
    "plist",
    "--samplers",
    "cpu_power,gpu_power",
)
DOMAINS: dict[str, tuple[Component, tuple[str, ...]]] = {
    "apple cpu": ("cpu", ("cpu_total_mj",)),
    "apple gpu": ("gpu", ("gpu_mj", "gpu_sram_mj")),
    "apple neural engine": ("gpu", ("ane_mj",)),
    "apple dram": ("memory", ("dram_mj",)),
}
KEYS: dict[str, str] = {
    "apple cpu": "cpu_power",
    "apple gpu": "gpu_power",
    "apple neural engine": "ane_power",
    "apple dram": "dram_power",
}


def apple_capability() -> Capability:
    """What can be read of an Apple chip, and the line that would let it."""
    try:
        AppleProbe()
    except ExtraMissingError as error:
        return Capability("apple", "unreadable", "energy counters, but no binding", error.fix)
    except Exception as error:
        return Capability("apple", "unreadable", f"IOReport can't be read: {error}", "sudo powermetrics -n 1")
    return Capability("apple", "ready", "processor, memory, GPU and neural engine")


class AppleProbe:
    """Reads the chip's counters.

    Args:
        clock: monotonic clock [s].
        binding: the module ``zeus_apple_silicon`` or a stand-in with its surface.

    Raises:
        ExtraMissingError: if the binding isn't installed.
    """

    name = "apple"
    heartbeat_s: float | None = None

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        binding: Any = None,  # noqa: ANN401 (an untyped module)
    ) -> None:
        module = binding or _binding()
        self._monitor = module.AppleEnergyMonitor()
        self._clock = clock
        self._metrics: Any = self._asked()
        ceiling_w, accuracy = lookup("meter.ceiling.package").value, lookup("meter.accuracy.apple").value
        self._boards = [
            Board(
                domain,
                self.name,
                Sensors(counter_j=partial(self._counted_j, fields), power_w=None),
                component=component,
                ceiling_w=ceiling_w,
                accuracy=accuracy,
                period_s=PERIOD_S,
            )
            for domain, (component, fields) in DOMAINS.items()
            if self._counted_j(fields) is not None
        ]
        self.read()

    def read(self) -> tuple[Reading, ...]:
        """All counters now; never raises."""
        self._metrics = self._asked()
        now_s = self._clock()
        return tuple(board.read(now_s) for board in self._boards)

    def close(self) -> None:
        """Nothing to give back."""

    def _asked(self) -> Any:  # noqa: ANN401
        try:
            return self._monitor.get_cumulative_energy()
        except Exception:
            return None

    def _counted_j(self, fields: tuple[str, ...]) -> float | None:
        counts = [getattr(self._metrics, field, None) for field in fields]
        known = [count for count in counts if count is not None]
        return sum(known) / 1e3 if known else None


def _binding() -> Any:  # noqa: ANN401
    """A module for macOS alone, which no extra of ours can therefore install."""
    try:
        return require("zeus_apple_silicon", extra="gpu", purpose="read Apple chips")
    except ExtraMissingError as error:
        error.fix = "pip install zeus-apple-silicon"
        raise


def powermetrics_probe(
    *, run: Callable[[], bytes] | None = None, clock: Callable[[], float] = time.monotonic, start: bool = True
) -> SampledProbe:
    """A probe that runs ``powermetrics``; only for those who may use ``sudo`` without a password.

    Args:
        run: returns a property list; a recorded one in tests.
        clock: monotonic clock [s].
        start: whether to start asking at once.
    """
    return SampledProbe(
        "powermetrics",
        lambda: powermetrics_watts((run or _powermetrics)()),
        {domain: DOMAINS[domain][0] for domain in KEYS},
        ceiling_w=lookup("meter.ceiling.package").value,
        accuracy=lookup("meter.accuracy.apple").value,
        period_s=PERIOD_S,
        clock=clock,
        start=start,
    )


def powermetrics_watts(document: bytes) -> dict[str, float]:
    """Watts by domain from the last property list in what ``powermetrics -f plist`` wrote.

    Samples are separated by a NUL byte; power stands in milliwatts under ``processor``.

    Raises:
        ValueError: if it isn't a property list.
    """
    samples = [sample for sample in document.split(b"\0") if sample.strip()]
    if not samples:
        raise ValueError("powermetrics wrote nothing")
    try:
        root = plistlib.loads(samples[-1].strip())
    except Exception as error:
        raise ValueError(f"not a property list: {error}") from None
    processor = root.get("processor", {}) if isinstance(root, dict) else {}
    return {
        domain: processor[key] / 1e3
        for domain, key in KEYS.items()
        if isinstance(processor.get(key), (int, float))
    }


def _powermetrics() -> bytes:
    return subprocess.run(COMMAND, capture_output=True, timeout=TIMEOUT_S, check=True).stdout
