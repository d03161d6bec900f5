"""Units of rows against pint, and what a row turns into."""

from __future__ import annotations

import pint
import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.catalog import Fact, lookup
from negajoule.catalog.scales import SCALES
from negajoule.errors import UnitError
from negajoule.units import Carbon, CarbonIntensity, Duration, Power, Ratio, WaterIntensity

UNITS = pint.UnitRegistry()
# A substance, a core, a thread and a gigabyte of memory are no units to pint; a gigabyte per second is.
NO_UNITS = ("CO2e", "Sbeq", " primary", "/core", "/thread")


def pints(unit):
    if unit in ("W/GB", "kgCO2e/GB"):
        unit = unit.removesuffix("/GB")
    for word in NO_UNITS:
        unit = unit.replace(word, "")
    special = {"1": "", "years": "year", "TFLOP/s": "1e12/s", "FLOP/s": "1/s", "GB": "gigabyte", "B": "byte"}
    unit = special.get(unit, unit)
    return unit.replace("GB/s", "gigabyte/s").replace("B/s", "byte/s") if unit in ("GB/s", "B/s") else unit


def fact_of(value, unit, low=None, high=None):
    return Fact(
        "a.b", value, value if low is None else low, value if high is None else high, unit, 2026, "s", ""
    )


@pytest.mark.parametrize("unit", SCALES)
@given(value=st.floats(min_value=1e-9, max_value=1e9))
def test_every_unit_converts_as_pint_does(unit, value):
    expected = (value * UNITS(pints(unit) or "dimensionless")).to(pints(SCALES[unit].unit) or "dimensionless")
    assert fact_of(value, unit).si_interval()[0] == pytest.approx(expected.magnitude, rel=1e-12)


@given(kwh=st.floats(min_value=1e-6, max_value=1e6), value=st.floats(min_value=1, max_value=1e3))
def test_grams_do_not_depend_on_the_unit_of_energy(kwh, value):
    joules = (kwh * UNITS.kWh).to(UNITS.joule).magnitude
    per_joule = fact_of(value, "gCO2e/kWh").quantity().value
    assert joules * per_joule == pytest.approx(kwh * value, rel=1e-12)


@given(
    ends=st.tuples(*[st.floats(min_value=0, max_value=1e9)] * 3).map(sorted),
    unit=st.sampled_from([unit for unit, scale in SCALES.items() if scale.kind]),
)
def test_quantities_keep_the_interval_in_order(ends, unit):
    low, value, high = ends
    quantity = fact_of(value, unit, low, high).quantity()
    assert quantity.low <= quantity.value <= quantity.high
    assert quantity.unit == SCALES[unit].unit
    assert quantity.basis == "assumed"
    assert quantity.boundary == "none"


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("grid.carbon.FRA", CarbonIntensity),
        ("grid.water.world", WaterIntensity),
        ("wue.world", WaterIntensity),
        ("pue.world", Ratio),
        ("cpu.core.active_power", Power),
        ("memory.power", Power),
        ("embodied.core", Carbon),
        ("embodied.memory", Carbon),
        ("lifetime.server", Duration),
    ],
)
def test_rows_become_quantities(key, kind):
    assert type(lookup(key).quantity()) is kind


def test_a_unit_without_a_class_says_so_but_converts():
    fact = lookup("grid.adpe.FRA")
    with pytest.raises(UnitError) as caught:
        fact.quantity()
    assert "gSbeq/J" in caught.value.message
    assert fact.si_interval()[0] == pytest.approx(fact.value * 1e3 / 3.6e6)
    assert fact.si_unit == "gSbeq/J"


def test_a_dictionary_holds_all_there_is_to_know():
    fact = lookup("pue.world")
    assert Fact(**fact.to_dict()) == fact
