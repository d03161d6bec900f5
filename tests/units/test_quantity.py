"""Quantities refuse nonsense, and intervals hold whatever their members can be."""

from __future__ import annotations

import math
import pickle

import msgspec
import pint
import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.errors import UnitError
from negajoule.units import (
    Carbon,
    CarbonIntensity,
    Duration,
    Energy,
    Power,
    Quantity,
    Ratio,
    Water,
    WaterIntensity,
    total,
    weakest,
)
from strategies import BASES, BOUNDARIES, KINDS, bases, numbers, points_in, quantities

NAN, INFINITY = math.nan, math.inf
PINT_NAMES = {
    Energy: "joule",
    Power: "watt",
    Duration: "second",
    Carbon: "gram",
    CarbonIntensity: "gram / joule",
    Water: "litre",
    WaterIntensity: "litre / joule",
    Ratio: "dimensionless",
}
PRODUCTS = [
    (Power, Duration, Energy),
    (Energy, CarbonIntensity, Carbon),
    (Energy, WaterIntensity, Water),
    *((kind, Ratio, kind) for kind in (Energy, Power, Duration, Carbon, Water, Ratio)),
]
registry = pint.get_application_registry()
factors = st.floats(-1e6, 1e6)
pairs = st.sampled_from(KINDS).flatmap(
    lambda kind: st.tuples(quantities(kind, boundary="node"), quantities(kind, boundary="node"))
)


class TestConstruction:
    @pytest.mark.parametrize(
        ("value", "low", "high"),
        [
            (NAN, 0.0, 1.0),
            (0.5, NAN, 1.0),
            (0.5, 0.0, NAN),
            (NAN, NAN, NAN),
            (1.0, 0.0, INFINITY),
            (1.0, -INFINITY, 2.0),
            (INFINITY, INFINITY, INFINITY),
            (-INFINITY, -INFINITY, -INFINITY),
            (0.0, 1.0, 2.0),
            (3.0, 1.0, 2.0),
            (1.5, 2.0, 1.0),
        ],
    )
    def test_refuses_what_is_no_number_in_its_own_interval(self, value, low, high):
        with pytest.raises(UnitError, match="needs finite low <= value <= high") as caught:
            Energy(value, low, high)
        assert caught.value.code == "U103"

    def test_keeps_negative_and_zero_values(self):
        assert Energy(-2.0, -3.0, 0.0).spread == 3.0
        assert Energy.exact(0.0).value == 0.0

    def test_can_not_be_changed(self):
        with pytest.raises(AttributeError):
            Energy.exact(1.0).value = 2.0

    def test_exact_has_no_spread(self):
        assert Energy.exact(5.0, "measured", "node") == Energy(5.0, 5.0, 5.0, "measured", "node")

    @pytest.mark.parametrize("value", [10.0, -10.0])
    def test_around_spreads_to_both_sides_whatever_the_sign(self, value):
        around = Energy.around(value, 0.1)
        assert (around.low, around.value, around.high) == (value - 1.0, value, value + 1.0)

    def test_around_refuses_a_negative_width(self):
        with pytest.raises(UnitError):
            Energy.around(1.0, -0.1)

    @given(quantities())
    def test_survives_its_json_form_pickle_and_msgspec(self, quantity):
        assert type(quantity).from_dict(quantity.to_dict()) == quantity
        assert pickle.loads(pickle.dumps(quantity)) == quantity
        assert msgspec.json.decode(msgspec.json.encode(quantity), type=type(quantity)) == quantity

    @pytest.mark.parametrize("missing", ["value", "low", "high", "basis", "boundary"])
    def test_json_form_without_a_field_is_refused(self, missing):
        data = Energy.exact(1.0).to_dict()
        del data[missing]
        with pytest.raises(UnitError, match=missing):
            Energy.from_dict(data)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("value", "1"),
            ("value", None),
            ("low", [0.0]),
            ("high", True),
            ("low", 2.0),
            ("basis", "guessed"),
            ("boundary", "planet"),
        ],
    )
    def test_json_form_with_a_wrong_field_is_refused(self, field, value):
        with pytest.raises(UnitError) as caught:
            Energy.from_dict({**Energy.exact(1.0).to_dict(), field: value})
        assert caught.value.code == "U103"

    def test_json_form_of_another_unit_is_refused(self):
        with pytest.raises(UnitError, match="expected unit gCO2e") as caught:
            Carbon.from_dict(Energy.exact(1.0).to_dict())
        assert caught.value.code == "U101"


class TestRefusals:
    @pytest.mark.parametrize("operation", ["__add__", "__sub__", "overlaps"])
    @given(first=quantities(), second=quantities())
    def test_only_the_same_unit_and_boundary_combine(self, operation, first, second):
        same_unit = type(first) is type(second)
        if same_unit and first.boundary == second.boundary:
            getattr(first, operation)(second)
            return
        with pytest.raises(UnitError) as caught:
            getattr(first, operation)(second)
        assert caught.value.code == ("U102" if same_unit else "U101")

    @pytest.mark.parametrize("other", [1, 1.0, None, "1 J", [1.0]])
    def test_a_bare_number_is_no_quantity(self, other):
        with pytest.raises(UnitError, match="can't add J"):
            Energy.exact(1.0) + other
        with pytest.raises(TypeError):
            other + Energy.exact(1.0)

    def test_a_refusal_names_both_units(self):
        with pytest.raises(UnitError, match=r"can't add J \(Energy\) and gCO2e \(Carbon\)"):
            Energy.exact(1.0) + Carbon.exact(1.0)

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_product_without_a_unit_is_refused(self, kind):
        with pytest.raises(UnitError, match="no unit for"):
            kind.exact(1.0) * CarbonIntensity.exact(1.0) if kind is not Energy else kind.exact(
                1.0
            ) * Energy.exact(1.0)

    def test_factors_of_two_boundaries_are_refused(self):
        with pytest.raises(UnitError) as caught:
            Energy.exact(1.0, boundary="node") * Ratio.exact(1.0, boundary="facility")
        assert caught.value.code == "U102"

    @pytest.mark.parametrize("factor", [NAN, INFINITY, -INFINITY])
    def test_scaling_beyond_the_finite_is_refused(self, factor):
        with pytest.raises(UnitError):
            Energy.exact(1.0) * factor

    def test_division_by_zero_fails_as_it_does_for_floats(self):
        with pytest.raises(ZeroDivisionError):
            Energy.exact(1.0) / 0.0

    def test_values_of_different_kinds_are_never_equal(self):
        assert Energy.exact(1.0) != Power.exact(1.0)
        assert Energy.exact(1.0, boundary="node") != Energy.exact(1.0, boundary="facility")


class TestArithmetic:
    @given(st.data(), pairs)
    def test_a_sum_holds_the_sums_of_members(self, data, pair):
        first, second = pair
        member = data.draw(points_in(first)) + data.draw(points_in(second))
        result = first + second
        assert result.low <= member <= result.high
        assert result.value == first.value + second.value

    @given(st.data(), pairs)
    def test_a_difference_holds_the_differences_of_members(self, data, pair):
        first, second = pair
        member = data.draw(points_in(first)) - data.draw(points_in(second))
        result = first - second
        assert result.low <= member <= result.high
        assert result.value == first.value - second.value

    @given(pairs)
    def test_a_difference_is_the_sum_with_the_negative(self, pair):
        first, second = pair
        assert first - second == first + -second

    @given(pairs)
    def test_addition_is_commutative(self, pair):
        first, second = pair
        assert first + second == second + first

    @given(st.lists(quantities(Energy, boundary="node"), min_size=3, max_size=3))
    def test_addition_is_associative_within_float_error(self, three):
        first, second, third = three
        left, right = (first + second) + third, first + (second + third)
        for name in ("value", "low", "high"):
            assert getattr(left, name) == pytest.approx(getattr(right, name), rel=1e-12, abs=1e-3)
        assert left.basis == right.basis

    @given(st.data(), quantities(), factors)
    def test_scaling_holds_the_scaled_members(self, data, quantity, factor):
        result = quantity * factor
        assert result.low <= data.draw(points_in(quantity)) * factor <= result.high
        assert factor * quantity == result
        assert (result.basis, result.boundary) == (quantity.basis, quantity.boundary)

    @given(st.data(), quantities(), factors.filter(lambda number: abs(number) > 1e-6))
    def test_dividing_rounds_as_division_of_floats_does(self, data, quantity, divisor):
        result = quantity / divisor
        assert result.value == quantity.value / divisor
        assert result.low <= data.draw(points_in(quantity)) / divisor <= result.high

    @given(st.data(), st.sampled_from(PRODUCTS))
    def test_a_product_holds_the_products_of_members(self, data, kinds):
        first, second, product = kinds
        left = data.draw(quantities(first, boundary="none"))
        right = data.draw(quantities(second, boundary="node"))
        member = data.draw(points_in(left)) * data.draw(points_in(right))
        result = left * right
        assert type(result) is product
        assert result.low <= member <= result.high
        assert result.boundary == "node"
        assert result.basis == weakest(left.basis, right.basis)
        swapped = right * left
        assert (swapped.low, swapped.value, swapped.high) == (result.low, result.value, result.high)

    @given(st.sampled_from(PRODUCTS), numbers(-1e9, 1e9), numbers(-1e9, 1e9))
    def test_products_agree_with_pint(self, kinds, left, right):
        first, second, product = kinds
        expected = (left * registry(PINT_NAMES[first])) * (right * registry(PINT_NAMES[second]))
        result = first.exact(left) * second.exact(right)
        assert result.value == pytest.approx(expected.to(PINT_NAMES[product]).magnitude)

    def test_a_factor_without_boundary_takes_that_of_the_other(self):
        energy = Energy.exact(10.0, boundary="facility")
        assert (energy * CarbonIntensity.exact(2.0)).boundary == "facility"
        assert (CarbonIntensity.exact(2.0) * energy).boundary == "facility"

    @given(st.lists(quantities(Energy, boundary="node"), min_size=1, max_size=10))
    def test_a_total_is_the_sum_of_all(self, some):
        whole = total(some)
        assert whole is not None
        assert whole.value == pytest.approx(math.fsum(one.value for one in some), rel=1e-12, abs=1e-2)
        assert whole.low <= whole.value <= whole.high

    def test_a_total_of_nothing_is_unknown_and_not_zero(self):
        assert total([]) is None

    def test_a_total_over_boundaries_is_refused(self):
        with pytest.raises(UnitError):
            total([Energy.exact(1.0, boundary="node"), Energy.exact(1.0, boundary="facility")])


class TestBasis:
    @given(bases, bases)
    def test_the_weaker_basis_wins_in_any_order(self, first, second):
        expected = max(first, second, key=BASES.index)
        assert weakest(first, second) == weakest(second, first) == expected

    @given(pairs)
    def test_sums_and_differences_have_the_weakest_basis(self, pair):
        first, second = pair
        assert (first + second).basis == (first - second).basis == weakest(first.basis, second.basis)

    @given(quantities(), bases, st.sampled_from(BOUNDARIES))
    def test_restating_changes_nothing_else(self, quantity: Quantity, basis, boundary):
        restated = quantity.known_as(basis).within(boundary)
        assert (restated.basis, restated.boundary) == (basis, boundary)
        assert restated.known_as(quantity.basis).within(quantity.boundary) == quantity


class TestComparison:
    @given(st.data(), pairs)
    def test_intervals_with_a_common_member_overlap(self, data, pair):
        first, second = pair
        assert (
            first.overlaps(second)
            == second.overlaps(first)
            == (max(first.low, second.low) <= min(first.high, second.high))
        )

    def test_intervals_that_touch_overlap(self):
        assert Energy(1.0, 0.0, 2.0).overlaps(Energy(3.0, 2.0, 4.0))
        assert not Energy(1.0, 0.0, 2.0).overlaps(Energy(3.5, 3.0, 4.0))
