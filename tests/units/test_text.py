"""Human units: readable sizes, never more digits than asked for, never another value."""

from __future__ import annotations

import math
from decimal import Decimal

import pint
import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.units import (
    INDICATORS,
    AbioticDepletion,
    Carbon,
    CarbonIntensity,
    Duration,
    Energy,
    Power,
    PrimaryEnergy,
    Ratio,
    Water,
    WaterIntensity,
)
from negajoule.units.text import LABELS, interval_text, number_text, value_text

BASE_UNITS = {
    Energy: "J",
    PrimaryEnergy: "J",
    Power: "W",
    Carbon: "g",
    AbioticDepletion: "g",
    Water: "L",
    Duration: "s",
    CarbonIntensity: "g / J",
    WaterIntensity: "L / J",
    Ratio: "",
}
registry = pint.get_application_registry()
sizes = st.floats(1e-15, 1e15) | st.floats(-1e15, -1e-15)


def read_back(kind: type, text: str) -> float:
    """What pint understands by our text, in the class's own unit."""
    plain = text.replace("CO2e", "").replace("Sbeq", "").replace(" primary", "")
    return registry.Quantity(plain).to(BASE_UNITS[kind]).magnitude


class TestNumbers:
    @given(sizes, st.integers(1, 6))
    def test_the_text_is_the_rounded_number_and_has_no_more_digits_than_asked(self, value, digits):
        text = number_text(value, digits)
        assert float(text) == float(f"{value:.{digits}g}")
        assert len(Decimal(text).normalize().as_tuple().digits) <= digits

    @given(st.floats(1e-4, 9e5), st.integers(1, 6))
    def test_everyday_sizes_have_no_exponent(self, value, digits):
        assert "e" not in number_text(value, digits)
        assert "e" not in number_text(-value, digits)

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0.0, "0"),
            (-0.0, "0"),
            (1234.0, "1200"),
            (-1234.0, "-1200"),
            (99.96, "100"),
            (0.000123, "0.00012"),
            (999_999.0, "1000000"),
            (1_000_000.0, "1e+06"),
            (1.5e9, "1.5e+09"),
            (1e-9, "1e-09"),
        ],
    )
    def test_edge_sizes(self, value, text):
        assert number_text(value) == text


class TestQuantities:
    @given(st.sampled_from(list(BASE_UNITS)), sizes, st.integers(1, 5))
    def test_pint_reads_the_same_value_back(self, kind, value, digits):
        assert read_back(kind, value_text(kind.exact(value), digits)) == pytest.approx(
            value, rel=5.001 * 10.0**-digits
        )

    @given(st.floats(1e-6, 3.5e9), st.integers(1, 5))
    def test_a_unit_is_neither_undercut_nor_overfilled(self, value, digits):
        number, unit = value_text(Energy.exact(value), digits).split()
        following = {"µJ": 1e3, "mJ": 1e3, "J": 3.6e3, "Wh": 1e3, "kWh": 1e3, "MWh": math.inf}
        assert 1 <= float(number) <= following[unit]

    @pytest.mark.parametrize(
        ("quantity", "text"),
        [
            (Energy.exact(0.0), "0 J"),
            (Energy.exact(-7200.0), "-2 Wh"),
            (Energy.exact(0.9999), "1 J"),
            (Energy.exact(3599.9), "1 Wh"),
            (Energy.exact(3.6e15), "1e+06 MWh"),
            (Energy.exact(1e-12), "1e-06 µJ"),
            (PrimaryEnergy.exact(7.2e6), "2 kWh primary"),
            (Duration.exact(59.99), "1 min"),
            (Carbon.exact(0.0), "0 gCO2e"),
            (Water.exact(2500.0), "2.5 m³"),
            (CarbonIntensity.exact(0.0), "0 gCO2e/kWh"),
            (CarbonIntensity.exact(56 / 3.6e6), "56 gCO2e/kWh"),
            (Ratio.exact(1.56), "1.6"),
            (Ratio.exact(0.0), "0"),
        ],
    )
    def test_edge_sizes(self, quantity, text):
        assert value_text(quantity) == text

    def test_the_interval_stands_in_the_unit_of_the_value_with_its_basis(self):
        energy = Energy(12_240.0, 6_840.0, 21_600.0, "modelled")
        assert interval_text(energy) == "3.4 Wh (1.9 to 6), modelled"

    def test_a_number_without_unit_has_no_gap_for_it(self):
        assert interval_text(Ratio(1.5, 1.2, 1.8)) == "1.5 (1.2 to 1.8), assumed"

    def test_a_vanishing_value_with_a_large_upper_end_stays_readable(self):
        assert interval_text(Energy(0.0, 0.0, 5_000.0)) == "0 J (0 to 5000), assumed"

    def test_a_negative_interval_keeps_its_signs(self):
        assert interval_text(Energy(-2.0, -3.0, -1.0)) == "-2 J (-3 to -1), assumed"


def test_every_indicator_has_a_label():
    assert list(LABELS) == list(INDICATORS)
