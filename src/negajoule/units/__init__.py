"""Quantities, intervals, series: the ground floor.

- ``quantity``: one frozen class per unit, with interval, basis and boundary
- ``footprint``: all indicators of one piece of work, their parts and factors
- ``series``: UTC time series on numpy arrays: integrate, resample, align
- ``decision``: a choice, its best alternative, its margin and reason
- ``text``: human units, for edges only
"""

from negajoule.units.decision import Decision
from negajoule.units.footprint import INDICATORS, Factor, Footprint, Part
from negajoule.units.quantity import (
    AbioticDepletion,
    Basis,
    Boundary,
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
    total,
    weakest,
)

__all__ = [
    "INDICATORS",
    "AbioticDepletion",
    "Basis",
    "Boundary",
    "Carbon",
    "CarbonIntensity",
    "Decision",
    "Duration",
    "Energy",
    "Factor",
    "Footprint",
    "Part",
    "Power",
    "PrimaryEnergy",
    "Quantity",
    "Ratio",
    "Water",
    "WaterIntensity",
    "total",
    "weakest",
]
