"""The mean over a span: exact where it can be checked, honest about gaps, estimates and scope."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.catalog import lookup
from negajoule.errors import UnitError
from negajoule.grid.mean import coverage, mean_over
from negajoule.grid.signal import J_PER_KWH, Signal, Slot
from negajoule.units import CarbonIntensity
from negajoule.units.series import Series

HOUR = 3600.0
GAP = CarbonIntensity(300 / J_PER_KWH, 100 / J_PER_KWH, 700 / J_PER_KWH)


def signal(*values, start_s=0.0, scope="life cycle", kind="average", estimated=False):
    slots = tuple(
        Slot(start_s + i * HOUR, start_s + (i + 1) * HOUR, float(v), estimated)
        for i, v in enumerate(values)
        if v is not None
    )
    return Signal("FRA", kind, scope, "test", 0.0, slots)


def grams(mean):
    return mean.intensity.value * J_PER_KWH


def test_a_moment_has_the_intensity_of_its_slot():
    assert grams(mean_over(signal(10, 20, 30), HOUR, HOUR, gap=GAP)) == pytest.approx(20)
    assert grams(mean_over(signal(10, 20, 30), HOUR - 1, HOUR - 1, gap=GAP)) == pytest.approx(10)


def test_a_span_is_weighted_with_time():
    mean = mean_over(signal(10, 20, 30), 1800, 2.5 * HOUR, gap=GAP)
    assert grams(mean) == pytest.approx((0.5 * 10 + 20 + 0.5 * 30) / 2)
    assert (mean.covered, mean.estimated) == (1.0, 0.0)


def test_energy_weights_beat_time_weights():
    counter = Series([0, HOUR, 2 * HOUR], [0, 100, 1000], "counter")
    assert grams(mean_over(signal(10, 20), 0, 2 * HOUR, gap=GAP, energy=counter)) == pytest.approx(19.0)
    power = Series([0, 2 * HOUR], [5, 5], "sampled")
    assert grams(mean_over(signal(10, 20), 0, 2 * HOUR, gap=GAP, energy=power)) == pytest.approx(15.0)


def test_an_idle_span_falls_back_to_time_and_a_short_series_is_refused():
    still = Series([0, 2 * HOUR], [7, 7], "counter")
    assert grams(mean_over(signal(10, 20), 0, 2 * HOUR, gap=GAP, energy=still)) == pytest.approx(15.0)
    short = Series([0, HOUR], [0, 1], "counter")
    with pytest.raises(UnitError):
        mean_over(signal(10, 20), 0, 2 * HOUR, gap=GAP, energy=short)


@given(
    st.lists(st.floats(1, 2000), min_size=1, max_size=30),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_the_mean_is_the_integral_over_the_width(values, a, b):
    start, end = sorted((a * len(values) * HOUR, b * len(values) * HOUR))
    mean = mean_over(signal(*values), start, end, gap=GAP)
    assert mean.intensity.low <= mean.intensity.value <= mean.intensity.high
    if end - start > 1.0:
        edges = [i * HOUR for i in range(len(values) + 1)]
        oracle = Series(edges, [*values, values[-1]], "step").integrate(start, end) / (end - start)
        assert grams(mean) == pytest.approx(oracle, rel=1e-6)
        assert coverage(signal(*values), start, end) == (1.0, 1.0)


@given(
    st.lists(st.one_of(st.none(), st.floats(1, 2000)), min_size=1, max_size=20),
    st.floats(-5, 30),
    st.floats(-5, 30),
)
def test_with_gaps_the_mean_lies_between_its_parts_and_shares_are_shares(values, a, b):
    start, end = sorted((a * HOUR, b * HOUR))
    found = signal(*values)
    mean = mean_over(found, start, end, gap=GAP)
    known = [v for v in values if v is not None]
    assert min([*known, 300]) - 1e-6 <= grams(mean) <= max([*known, 300]) + 1e-6
    share = coverage(found, start, end)
    assert 0.0 <= share.strict <= share.loose + 1e-12
    assert mean.covered == pytest.approx(share.loose)
    assert 0.0 <= mean.estimated <= mean.covered + 1e-12


def test_a_gap_takes_the_figure_for_gaps_with_its_interval():
    mean = mean_over(signal(100), 0, 6 * HOUR, gap=GAP)
    # One hour is known, two more it stands in for, three are gap.
    assert mean.covered == pytest.approx(0.5)
    assert mean.estimated == pytest.approx(2 / 6)
    assert grams(mean) == pytest.approx((3 * 100 + 3 * 300) / 6)
    assert mean.intensity.low * J_PER_KWH < (3 * 100 + 3 * 100) / 6
    assert coverage(signal(100), 0, 6 * HOUR) == (pytest.approx(1 / 6), pytest.approx(0.5))


def test_before_its_first_slot_a_signal_knows_nothing():
    assert mean_over(signal(100, start_s=10 * HOUR), 0, HOUR, gap=GAP).covered == 0.0
    assert mean_over(signal(100, start_s=10 * HOUR), 0, HOUR, gap=None) is None
    assert mean_over(signal(), 0, HOUR, gap=None) is None


def test_without_a_figure_for_gaps_they_stay_out_of_the_mean():
    assert grams(mean_over(signal(100), 0, 6 * HOUR, gap=None)) == pytest.approx(100)


def test_intervals_grow_from_published_over_expected_to_estimated():
    def spread(**kind):
        return mean_over(signal(100, **kind), 0, HOUR, gap=GAP).intensity.spread

    assert 0 < spread() < spread(kind="forecast") < spread(estimated=True)
    published = lookup("grid.signal.published")
    mean = mean_over(signal(100), 0, HOUR, gap=GAP).intensity
    assert mean.low * J_PER_KWH == pytest.approx(100 * published.low)
    assert mean.high * J_PER_KWH == pytest.approx(100 * published.high)


def test_direct_emissions_reach_up_to_the_life_cycle():
    direct = mean_over(signal(100, scope="direct"), 0, HOUR, gap=GAP).intensity
    whole = mean_over(signal(100), 0, HOUR, gap=GAP).intensity
    assert direct.value == whole.value
    assert direct.low == whole.low
    assert (direct.high - whole.high) * J_PER_KWH == pytest.approx(lookup("grid.signal.upstream").high)
