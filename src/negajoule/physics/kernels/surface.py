"""A smooth correction over the logarithms of a few positive numbers: linear between knots, flat outside."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from math import log2
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Surface"]


class Surface:
    """Values at the knots of a grid.

    Attributes:
        knots: positive numbers along each axis, rising.
        values: one for each knot of the grid, the last axis fastest.
    """

    __slots__ = ("_axes", "_corners", "_logs", "_strides", "knots", "values")

    def __init__(self, knots: Sequence[Sequence[float]], values: Sequence[float]) -> None:
        self.knots = tuple(tuple(axis) for axis in knots)
        self.values = list(values)
        self._logs = [[log2(knot) for knot in axis] for axis in self.knots]
        self._strides = [1] * len(self.knots)
        for axis in range(len(self.knots) - 1, 0, -1):
            self._strides[axis - 1] = self._strides[axis] * len(self.knots[axis])
        self._axes = [
            (logs, [after - before for before, after in pairwise(logs)], len(logs) - 1, stride, 1 << axis)
            for axis, (logs, stride) in enumerate(zip(self._logs, self._strides, strict=True))
        ]
        self._corners: dict[int, list[int]] = {}

    def at(self, point: Sequence[float]) -> float:
        """The value at one point."""
        lowest, weights, axes = 0, [1.0], 0
        for number, (logs, gaps, last, stride, bit) in zip(point, self._axes, strict=True):
            place = log2(number)
            cell = bisect_right(logs, place) - 1
            if cell < 0:
                continue
            lowest += cell * stride
            if cell < last:
                share = (place - logs[cell]) / gaps[cell]
                if share:
                    axes |= bit
                    rest = 1.0 - share
                    weights = [weight * rest for weight in weights] + [weight * share for weight in weights]
        values = self.values
        corners = self._corners.get(axes) or self._corners_of(axes)
        return sum(
            [values[lowest + corner] * weight for corner, weight in zip(corners, weights, strict=True)]
        )

    def _corners_of(self, axes: int) -> list[int]:
        """Corners of a cell along the axes whose bits are set, from its lowest, in the order of ``at``."""
        corners = [0]
        for _, _, _, stride, bit in self._axes:
            if axes & bit:
                corners += [corner + stride for corner in corners]
        self._corners[axes] = corners
        return corners

    def many(self, points: Sequence[Floats]) -> Floats:
        """The values at many points, given as one array for each axis."""
        where, weights = self.corners(points)
        found: Floats = (np.asarray(self.values, dtype=np.float64)[where] * weights).sum(axis=1)
        return found

    def corners(self, points: Sequence[Floats]) -> tuple[NDArray[np.int64], Floats]:
        """The knots around each point, and how much each counts."""
        where = np.zeros((len(points[0]), 1), dtype=np.int64)
        weights = np.ones((len(points[0]), 1))
        for numbers, axis, stride in zip(points, self._logs, self._strides, strict=True):
            logs = np.asarray(axis)
            place = np.clip(np.log2(numbers), logs[0], logs[-1])
            cell = np.clip(np.searchsorted(logs, place, side="right") - 1, 0, len(logs) - 2)
            share = ((place - logs[cell]) / (logs[cell + 1] - logs[cell]))[:, None]
            start = cell[:, None] * stride
            where = np.concatenate([where + start, where + start + stride], axis=1)
            weights = np.concatenate([weights * (1.0 - share), weights * share], axis=1)
        return where, weights
