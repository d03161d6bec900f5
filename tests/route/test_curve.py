from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from negajoule.route.curve import Curve, frame_of, gap_recovered, hypervolume, share_needed, upper_hull

POINTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=12)


@given(POINTS)
def test_a_hull_rises_and_bends_down_above_all_points(points):
    cost, value = np.array(points, float).T
    hull = upper_hull(cost, value)
    x, y = cost[hull], value[hull]
    assert (np.diff(x) > 0).all()
    assert (np.diff(y) > 0).all()
    slopes = np.diff(y) / np.diff(x)
    assert (np.diff(slopes) < 1e-12).all()
    assert (np.interp(cost, x, y) >= value - 1e-9).all()


def test_a_curve_is_read_between_its_points():
    curve = Curve(np.array([1.0, 3.0, 2.0, np.nan]), np.array([0.2, 0.8, 0.3, 1.0]))
    assert float(curve.accuracy_at(2.0)) == pytest.approx(0.5)
    assert curve.energy_at(0.5) == pytest.approx(2.0)
    assert np.isnan(curve.energy_at(0.9))
    assert curve.area(1.0, 3.0) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="finite"):
        Curve(np.array([np.nan]), np.array([1.0]))


def test_the_frame_takes_the_cheaper_of_equals():
    frame = frame_of(np.array([[1.0, 1.0, 0.0]]), np.array([[5.0, 2.0, 1.0]]))
    assert (frame.best, frame.cheapest) == (1, 2)
    assert (frame.low_j, frame.high_j) == (1.0, 2.0)


def test_shares_of_a_gap():
    weak, strong = np.array([1.0, 0.0, 1.0, 0.0]), np.array([1.0, 1.0, 1.0, 1.0])
    perfect = strong - weak
    assert gap_recovered(perfect, weak, strong) == pytest.approx(0.75)
    assert gap_recovered(-perfect, weak, strong) == pytest.approx(0.25)
    assert share_needed(perfect, weak, strong, 0.5) == 0.25
    assert np.isnan(gap_recovered(perfect, weak, weak))
    assert np.isnan(share_needed(perfect, weak, weak, 0.5))


def test_hypervolume_of_two_steps():
    assert hypervolume(np.array([2.0, 6.0]), np.array([0.5, 0.9]), 10.0) == pytest.approx(
        0.4 * 0.5 + 0.4 * 0.9
    )
