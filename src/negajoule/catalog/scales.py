"""The units a catalogue row may have, and what each is in SI.

Rows keep the unit of their source, so that people can compare the two. A row "per core" or "per GB" is the
value for one core or one gigabyte, a count: its quantity is multiplied by a plain number.
"""

from __future__ import annotations

from typing import NamedTuple

from negajoule.units import (
    AbioticDepletion,
    Carbon,
    CarbonIntensity,
    Duration,
    Energy,
    Power,
    PrimaryEnergy,
    Quantity,
    Ratio,
    Water,
    WaterIntensity,
)

__all__ = ["SCALES", "Scale"]

_J_PER_KWH = 3.6e6
_S_PER_YEAR = 365.25 * 86_400


class Scale(NamedTuple):
    """What one unit of a row is in SI.

    Attributes:
        factor: multiply the row's number by this.
        unit: the SI unit that results.
        kind: the class of quantity; ``None`` where ``negajoule.units`` has none for this unit.
    """

    factor: float
    unit: str
    kind: type[Quantity] | None


SCALES: dict[str, Scale] = {
    "1": Scale(1.0, "1", Ratio),
    "W": Scale(1.0, "W", Power),
    "W/core": Scale(1.0, "W", Power),
    "W/thread": Scale(1.0, "W", Power),
    "W/GB": Scale(1.0, "W", Power),
    "gCO2e/kWh": Scale(1 / _J_PER_KWH, "gCO2e/J", CarbonIntensity),
    "L/kWh": Scale(1 / _J_PER_KWH, "L/J", WaterIntensity),
    "kgSbeq/kWh": Scale(1e3 / _J_PER_KWH, "gSbeq/J", None),
    "MJ/kWh": Scale(1e6 / _J_PER_KWH, "J primary/J", None),
    "kgCO2e": Scale(1e3, "gCO2e", Carbon),
    "kgCO2e/core": Scale(1e3, "gCO2e", Carbon),
    "kgCO2e/GB": Scale(1e3, "gCO2e", Carbon),
    "kgSbeq": Scale(1e3, "gSbeq", AbioticDepletion),
    "MJ": Scale(1e6, "J primary", PrimaryEnergy),
    "L": Scale(1.0, "L", Water),
    "years": Scale(_S_PER_YEAR, "s", Duration),
    "s": Scale(1.0, "s", Duration),
    "kWh": Scale(3.6e6, "J", Energy),
    "ms": Scale(1e-3, "s", Duration),
    "B": Scale(1.0, "B", None),
    "GB": Scale(1e9, "B", None),
    "GB/s": Scale(1e9, "B/s", None),
    "TFLOP/s": Scale(1e12, "FLOP/s", None),
    "MHz": Scale(1e6, "Hz", None),
}
"""Every unit a row may have; a year is the Julian year of 365.25 days."""
