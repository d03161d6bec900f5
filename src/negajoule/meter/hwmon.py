"""Linux hwmon: sensors of chips that we know, and the INA3221 rails of NVIDIA's Jetson boards.

A chip nobody vouches for isn't counted: an unknown ``power1_input`` may be a fan's, a disk's or the whole
board's. Energies stand in microjoules, power in microwatts, volts and amperes in thousandths (kernel
documentation, ``hwmon/sysfs-interface``).
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from negajoule.catalog import lookup
from negajoule.meter.board import Board, Sensors
from negajoule.meter.kernel_files import read_text
from negajoule.meter.probe import Capability, Component, Reading

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["HwmonProbe", "hwmon_capability"]

CLASS = "sys/class/hwmon"
INA_DRIVER = "sys/bus/i2c/drivers/ina3221x"
PERIOD_S = 1.0
TOTAL_RAILS = ("VDD_IN", "POM_5V_IN", "VDD_TOTAL", "TOTAL_MODULE")
WITHIN_OTHERS = ("VDDQ_VDD2_1V8AO", "NC", "")
"""Rails fed by another measured rail (AGX Orin), and channels with nothing on them."""


class _Sensor(NamedTuple):
    domain: str
    component: Component
    sensors: Sensors


class HwmonProbe:
    """Reads the sensors of known chips.

    Args:
        root: where the file system starts; a fake tree in tests.
        clock: monotonic clock [s].

    Raises:
        OSError: if there is none that can be read.
    """

    name = "hwmon"

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        sensors = _found(root)
        if not sensors:
            raise OSError("no known sensor can be read")
        accuracy = lookup("meter.accuracy.board").value
        ceilings = {
            "platform": lookup("meter.ceiling.platform").value,
            "gpu": lookup("meter.ceiling.gpu").value,
        }
        package_w = lookup("meter.ceiling.package").value
        self._boards = [
            Board(
                sensor.domain,
                self.name,
                sensor.sensors,
                component=sensor.component,
                ceiling_w=ceilings.get(sensor.component, package_w),
                accuracy=accuracy,
                period_s=PERIOD_S,
            )
            for sensor in sensors
        ]
        self.heartbeat_s: float | None = None if all(board.counts for board in self._boards) else PERIOD_S
        self.read()

    def read(self) -> tuple[Reading, ...]:
        """All sensors now; never raises."""
        now_s = self._clock()
        return tuple(board.read(now_s) for board in self._boards)

    def close(self) -> None:
        """Nothing to give back."""


def hwmon_capability(root: Path) -> Capability:
    """What hwmon can do here."""
    found = _found(root)
    if found:
        grade = "A" if all(sensor.sensors.counter_j for sensor in found) else "B"
        return Capability("hwmon", "ready", ", ".join(sensor.domain for sensor in found), grade=grade)
    shut = [path for path in _chips(root, "amd_energy") for path in path.glob("energy*_input")]
    if shut:
        fix = f"sudo chmod a+r /{CLASS}/hwmon*/energy*_input"
        return Capability("hwmon", "unreadable", "amd_energy counters that only root may read", fix)
    return Capability("hwmon", "absent", "no chip whose power or energy we know how to read", grade="B")


def _found(root: Path) -> list[_Sensor]:
    sensors = [*_amd_energy(root), *_acpi_meter(root), *_intel_gpus(root), *_jetson(root)]
    return [sensor for sensor in sensors if _answers(sensor.sensors)]


def _answers(sensors: Sensors) -> bool:
    return any(ask is not None and ask() is not None for ask in sensors)


def _amd_energy(root: Path) -> list[_Sensor]:
    """Sockets of AMD servers without powercap; the driver keeps 64-bit sums, so they don't wrap."""
    return [
        _Sensor(read_text(label), "cpu", Sensors(partial(_scaled, _input(label), 1e-6), None))
        for chip in _chips(root, "amd_energy")
        for label in sorted(chip.glob("energy*_label"))
        if read_text(label).startswith("Esocket")
    ]


def _acpi_meter(root: Path) -> list[_Sensor]:
    """ACPI's power meter: what the machine draws."""
    return [
        _Sensor(
            "acpi power meter", "platform", Sensors(None, partial(_scaled, chip / "power1_average", 1e-6))
        )
        for chip in _chips(root, "power_meter")
    ]


def _intel_gpus(root: Path) -> list[_Sensor]:
    """Intel's discrete GPUs: the whole card where it is told apart, else the package."""
    sensors = []
    for number, chip in enumerate([*_chips(root, "xe"), *_chips(root, "i915")]):
        labels = {read_text(label): _input(label) for label in chip.glob("energy*_label")}
        counter = labels.get("card") or labels.get("pkg") or chip / "energy1_input"
        sensors.append(_Sensor(f"intel gpu {number}", "gpu", Sensors(partial(_scaled, counter, 1e-6), None)))
    return sensors


def _jetson(root: Path) -> list[_Sensor]:
    """Rails of the INA3221 monitors: the module's total contains the others.

    Boards that measure no total get one: the sum of the rails that aren't fed by each other.
    """
    rails = _rails(root)
    if not rails:
        return []
    sensors = [
        _Sensor(name, _component(name), Sensors(None, watts))
        for name, watts in rails.items()
        if _component(name) != "check"
    ]
    if not any(sensor.component == "platform" for sensor in sensors):
        parts = [watts for name, watts in rails.items() if name not in WITHIN_OTHERS]
        sensors.append(_Sensor("all rails", "platform", Sensors(None, partial(_sum, parts))))
    return sensors


def _component(rail: str) -> Component:
    name = rail.upper()
    if name in TOTAL_RAILS:
        return "platform"
    if "CPU" in name and "GPU" not in name:
        return "cpu"
    if "GPU" in name and "CPU" not in name:
        return "gpu"
    return "check"


def _rails(root: Path) -> dict[str, Callable[[], float | None]]:
    """Rail to its power: volts times amperes under hwmon, or the older driver's milliwatts."""
    rails: dict[str, Callable[[], float | None]] = {}
    for chip in _chips(root, "ina3221"):
        for label in sorted(chip.glob("in[1-3]_label")):
            volts = _input(label)
            amperes = chip / volts.name.replace("in", "curr", 1)
            rails[read_text(label)] = partial(_product, volts, amperes)
    for label in sorted((root / INA_DRIVER).glob("*/iio:device*/rail_name_*")):
        number = label.name.rpartition("_")[2]
        rails[read_text(label)] = partial(_scaled, label.with_name(f"in_power{number}_input"), 1e-3)
    return {name: watts for name, watts in rails.items() if name not in ("", "NC")}


def _chips(root: Path, name: str) -> list[Path]:
    return [chip for chip in sorted((root / CLASS).glob("hwmon*")) if read_text(chip / "name") == name]


def _input(label: Path) -> Path:
    return label.with_name(label.name.replace("_label", "_input"))


def _product(volts: Path, amperes: Path) -> float | None:
    millivolts, milliamperes = _scaled(volts, 1.0), _scaled(amperes, 1.0)
    return None if millivolts is None or milliamperes is None else millivolts * milliamperes / 1e6


def _sum(parts: list[Callable[[], float | None]]) -> float | None:
    found = [part() for part in parts]
    known = [watts for watts in found if watts is not None]
    return sum(known) if len(known) == len(found) else None


def _scaled(path: Path, factor: float) -> float | None:
    try:
        value = float(read_text(path))
    except ValueError:
        return None
    return value * factor if math.isfinite(value) else None
