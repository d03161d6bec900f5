from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.profile.bootstrap import interval, median_interval, resampled_rounds

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9)


@settings(max_examples=50)
@given(VALUES)
def test_an_interval_holds_the_median_and_lies_among_the_values(values):
    middle, low, high = median_interval(dict(enumerate(values)))
    assert min(values) <= low <= middle <= high <= max(values)


def test_equal_rounds_have_no_interval():
    assert median_interval({0: 2.5, 1: 2.5, 2: 2.5}) == (2.5, 2.5, 2.5)


def test_resampling_is_the_same_every_time():
    assert resampled_rounds([0, 1, 2], draws=5) == resampled_rounds([0, 1, 2], draws=5)
    assert {number for draw in resampled_rounds([4, 7], draws=50) for number in draw} == {4, 7}


def test_nine_tenths_lie_inside():
    low, high = interval([float(value) for value in range(101)])
    assert (low, high) == (pytest.approx(5.0), pytest.approx(95.0))
