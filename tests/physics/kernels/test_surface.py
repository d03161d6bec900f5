"""A correction between knots."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.physics.kernels.surface import Surface

KNOTS = ([1.0, 4.0, 64.0], [0.5, 8.0])
SURFACE = Surface(KNOTS, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])


def test_a_knot_has_its_own_value():
    for i, first in enumerate(KNOTS[0]):
        for j, second in enumerate(KNOTS[1]):
            assert SURFACE.at((first, second)) == pytest.approx(2 * i + j)


def test_between_knots_it_is_linear_in_the_logarithm():
    assert SURFACE.at((2.0, 0.5)) == pytest.approx(1.0)
    assert SURFACE.at((1.0, 2.0)) == pytest.approx(0.5)


def test_outside_it_stays_flat():
    assert SURFACE.at((1e-3, 1e-3)) == SURFACE.at((1.0, 0.5))
    assert SURFACE.at((1e6, 1e6)) == SURFACE.at((64.0, 8.0))


@given(st.lists(st.tuples(st.floats(1e-3, 1e4), st.floats(1e-3, 1e4)), min_size=1, max_size=20))
@settings(max_examples=30)
def test_many_points_are_what_each_is_alone(points):
    many = SURFACE.many([np.array(axis) for axis in zip(*points, strict=True)])
    assert many == pytest.approx([SURFACE.at(point) for point in points])
