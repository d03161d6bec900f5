"""Empirical Bayes: means of small groups, pulled towards what they come from as far as they're uncertain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["shrunk_table"]

LEAST_VARIANCE = 1e-4


def shrunk_table(
    value: Floats, group: NDArray[np.intp], groups: int, centre: Floats
) -> tuple[Floats, Floats]:
    """Means by group and column, each shrunk to its column's centre by its own uncertainty.

    A group's weight is B / (B + W / n): B the variance between groups, W the variance within, n its size (the
    normal-normal model of James, Stein and Efron; B and W by moments, column by column).

    Args:
        value: rows x columns; NaN is a gap.
        group: number of each row's group.
        groups: how many groups there are; empty ones get the centre.
        centre: what to shrink to, by column.

    Returns:
        Shrunk means and their standard errors, groups x columns.
    """
    known = np.isfinite(value)
    filled = np.where(known, value, 0.0)
    count, total, square = (np.zeros((groups, value.shape[1])) for _ in range(3))
    np.add.at(count, group, known)
    np.add.at(total, group, filled)
    np.add.at(square, group, filled**2)
    mean = np.divide(total, count, out=np.broadcast_to(centre, count.shape).copy(), where=count > 0)
    freedom = np.maximum((count - 1).clip(0).sum(axis=0), 1.0)
    within = np.maximum(((square - count * mean**2).clip(0)).sum(axis=0) / freedom, LEAST_VARIANCE)
    filled_groups = np.maximum((count > 0).sum(axis=0), 1)
    deviation = np.where(count > 0, (mean - centre) ** 2, 0.0).sum(axis=0) / filled_groups
    sampling = np.divide(within, count, out=np.zeros_like(count), where=count > 0).sum(axis=0) / filled_groups
    between = np.maximum(deviation - sampling, LEAST_VARIANCE)
    weight = between * count / (between * count + within)
    error = np.sqrt(between * within / (between * count + within))
    return centre + weight * (mean - centre), error
