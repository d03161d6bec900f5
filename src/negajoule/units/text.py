"""Human units at the edge: no more digits than the interval allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from negajoule.units.quantity import Quantity

__all__ = ["LABELS", "SCALES", "interval_text", "number_text", "range_text", "value_text"]

LABELS: dict[str, str] = {
    "it_energy": "IT energy",
    "facility_energy": "energy with PUE",
    "carbon_location": "carbon, grid mix",
    "carbon_market": "carbon, contracts",
    "water_onsite": "water on site",
    "water_offsite": "water off site",
    "embodied": "embodied share",
    "abiotic_depletion": "minerals",
    "primary_energy": "primary energy",
}
"""What people read for each indicator of a footprint."""

SCALES: dict[str, tuple[tuple[float, str], ...]] = {
    "J": ((3.6e9, "MWh"), (3.6e6, "kWh"), (3.6e3, "Wh"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ")),
    "J primary": ((3.6e6, "kWh primary"), (1.0, "J primary"), (1e-3, "mJ primary")),
    "W": ((1e6, "MW"), (1e3, "kW"), (1.0, "W"), (1e-3, "mW")),
    "gCO2e": ((1e6, "tCO2e"), (1e3, "kgCO2e"), (1.0, "gCO2e"), (1e-3, "mgCO2e"), (1e-6, "µgCO2e")),
    "gSbeq": ((1.0, "gSbeq"), (1e-3, "mgSbeq"), (1e-6, "µgSbeq"), (1e-9, "ngSbeq")),
    "L": ((1e3, "m³"), (1.0, "L"), (1e-3, "mL"), (1e-6, "µL")),
    "s": ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms")),
    "gCO2e/J": ((1 / 3.6e6, "gCO2e/kWh"),),
    "L/J": ((1 / 3.6e6, "L/kWh"),),
}
"""For each unit the names that people read, largest first, and what one of them is in the unit."""


def number_text(value: float, digits: int = 2) -> str:
    """Write a number with that many significant digits and no exponent for everyday sizes."""
    if value == 0:
        return "0"
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return text
    return f"{float(text):.0f}" if 1 <= abs(value) < 1e6 else text


def value_text(quantity: Quantity, digits: int = 2) -> str:
    """The best estimate in a readable unit, e.g. ``3.4 Wh``."""
    scale, name = _scale_of(quantity, digits)
    return f"{number_text(quantity.value / scale, digits)} {name}".rstrip()


def interval_text(quantity: Quantity, digits: int = 2) -> str:
    """Value, interval and basis, e.g. ``3.4 Wh (1.9 to 6.0), modelled``."""
    return f"{range_text(quantity, digits)}, {quantity.basis}"


def range_text(quantity: Quantity, digits: int = 2) -> str:
    """Value and interval, e.g. ``3.4 Wh (1.9 to 6.0)``."""
    scale, name = _scale_of(quantity, digits)
    low, value, high = (
        number_text(number / scale, digits) for number in (quantity.low, quantity.value, quantity.high)
    )
    return f"{value} {name} ({low} to {high})".replace("  ", " ")


def _scale_of(quantity: Quantity, digits: int) -> tuple[float, str]:
    scales = SCALES.get(quantity.unit)
    if scales is None:
        return 1.0, "" if quantity.unit == "1" else quantity.unit
    size = max(abs(quantity.value), abs(quantity.high) * 1e-3)
    if size == 0:
        return next((scale for scale in scales if scale[0] == 1.0), scales[-1])
    # Rounded before it is compared, so that 999.9 mJ is written as 1 J and not as 1000 mJ.
    return next((scale for scale in scales if float(f"{size / scale[0]:.{digits}g}") >= 1), scales[-1])
